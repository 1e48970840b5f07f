// Package journal is the contract of the append-only record of everything
// that was published with QoS 1: the place where an acknowledgement comes
// from, and the one queue that every session and every bridge reads.
//
// A journal keeps these promises, and journaltest holds every engine and the
// in-memory fake to them:
//
//   - What Append reported as done is on disk (or on a quorum) and is read
//     again after any crash. What was not synced is never seen by a reader.
//   - There is one order, the sequence number, for everybody. Readers see
//     entries in it, without holes, up to the synced tail.
//   - An inbox takes each event number once and in order.
//   - A record changes only from the version the writer knew.
//
// It does not know sessions, conversations or MQTT packets. Engines are
// journal/pebble (embedded), journal/jetstream (a cluster that several processes
// share) and journal/memory (tests). Nothing here assumes that an append of this
// process comes before one of another.
package journal

import (
	"context"
	"errors"
	"time"
)

// The errors of a journal.
var (
	// ErrConflict: a Put found another version than expected. Nothing of its submission was written.
	ErrConflict = errors.New("journal: record was changed by someone else")
	// ErrGap: an inbox entry skipped a number. Nothing of its submission was written.
	ErrGap = errors.New("journal: event number out of order")
	// ErrFull: less than the free-space floor would remain. Try again later.
	ErrFull = errors.New("journal: no space left")
	// ErrFailed: a write or sync failed. The journal acknowledges nothing any more and must be reopened.
	// What it was told last may or may not be found then.
	ErrFailed = errors.New("journal: storage failed")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrTruncated: a read begins before the oldest entry that is kept.
	ErrTruncated = errors.New("journal: entries were removed by retention")
)

// Cursor is a place in a journal: all entries ≤ Seq of this Epoch. A journal
// that was lost and rebuilt, or rolled back, has a new epoch, so that a cursor of
// an older life is recognised instead of pointing at other entries.
type Cursor struct {
	Epoch uint64
	Seq   uint64
}

// NoPartition marks an entry that is not input for the bridge.
const NoPartition = -1

// Entry is one publish. Entries handed out by a journal are shared and must not be changed.
type Entry struct {
	Seq     uint64    // assigned by Append, from 1; numbers may be skipped, never reused
	At      time.Time // assigned by Append: UTC, never falling with Seq
	Topic   string    // the full name
	Payload []byte
	// Properties are the MQTT 5 PUBLISH properties to forward, in the broker's own encoding; nil for none.
	Properties []byte
	// Expires is when the message is no longer of use, to the microsecond; zero for never.
	Expires time.Time

	// Partition is the input stream the entry belongs to, or NoPartition.
	Partition int
	// Client is the session it came from; empty for what no client published.
	Client string
	// Refused is why the broker would not take it, as JSON of chat.Refusal; nil
	// for ordinary entries. Payload is then empty.
	Refused []byte

	// Inbox and Event number an inbox entry. Inbox is empty for all others;
	// it includes the incarnation of storage.
	Inbox string
	Event uint64
}

// Put writes one record, or deletes it when Value is nil.
type Put struct {
	Key   string
	Value []byte
	// If is the version the record must have: 0 when it must not exist, AnyVersion
	// when it does not matter.
	If uint64
}

// AnyVersion lets a Put through whatever is there.
const AnyVersion = ^uint64(0)

// Record is a small named value beside the entries: a session, a position.
type Record struct {
	Key     string
	Value   []byte
	Version uint64 // grows with every write; never 0
}

// Submission is written as a whole or not at all. It belongs to the journal
// until Done; then it may be used again: the journal keeps copies.
type Submission struct {
	Entries []Entry
	Puts    []Put
	// Lazy lets the write wait for the next sync that somebody else needs,
	// one second at the longest. Done comes after that sync. Its place in the
	// order is that of its Append all the same.
	Lazy bool
	// Done is called exactly once when the submission is durable, or will never
	// be. It is called from the journal's own goroutine, in the order of the
	// submissions, and must neither block nor call the journal (Tail is allowed). It may be nil.
	//
	// When Err is nil, every entry has Seq and At filled in, in Entries itself.
	// An inbox entry whose number was already there gets Seq 0: nothing was
	// written for it. Version is that of the Puts.
	//
	// By the time of Done, Tail and every read include the submission.
	Done func(Result)
}

// Result says what became of a submission.
type Result struct {
	Err     error
	Version uint64
}

// Filter chooses entries by topic, with MQTT's wildcards.
type Filter = string

// Page is what Read found.
type Page struct {
	Entries []*Entry
	// Through is how far the journal was looked through: the reader's next
	// cursor, whether or not the last entries matched.
	Through uint64
}

// Announcement is ephemeral: it reaches the listeners that are there now, on
// every node, at most once, and is not written down.
type Announcement struct {
	Topic      string
	Payload    []byte
	Properties []byte
}

// Stats are figures for operators. Counters grow from the start of the process.
type Stats struct {
	Entries, Bytes uint64 // appended
	Syncs          uint64
	Waiting        int // submissions not yet durable
	Tail           Cursor
	Oldest         uint64 // the oldest entry kept
	FreeBytes      uint64
	RingBytes      int64
	EngineReads    uint64 // reads that the ring could not serve
	Unheard        uint64 // announcements that were lost because listeners were slow
}

// Journal is the contract. All methods may be called from any goroutine.
type Journal interface {
	// Append submits. Submissions become entries in the order in which the calls
	// returned. It returns at once; when too many wait already it blocks until
	// there is room or ctx ends. An error means that Done will not be called: ctx
	// ended, ErrClosed, ErrFailed, or a submission that can never be written (an
	// entry without a topic or with a NUL in it, a partition out of range, an inbox
	// entry without number, a Put without key). Whatever else goes wrong is told by Done.
	Append(ctx context.Context, s *Submission) error

	// Tail is the newest durable place that this process knows. Another process
	// that shares the journal may be further; Record and Kept say how to catch up.
	Tail() Cursor

	// Follow calls fn with every entry after the place `after`, in order, each
	// exactly once, as soon as it is durable; fn must not block, nor call the
	// journal (Tail is allowed), nor keep the slice. The calls come from the goroutine
	// that calls Done, the first one too.
	// stop returns when fn will not be called again; it must not be called from fn
	// or a Done. Every Done of a batch is called before fn sees the batch.
	// An `after` behind what the journal holds in memory is ErrTruncated: Read up
	// to the tail first.
	Follow(after uint64, fn func([]*Entry)) (stop func(), err error)

	// Read returns entries with seq > after that match one of the filters, in
	// order, at most limit, none past the tail. ErrTruncated when entries after
	// `after` are already removed.
	//
	// How far one call looks is bounded: a page with fewer entries than limit, or
	// none, is not the end. The end is where Through has reached the tail; until
	// then Through grows with every call.
	Read(ctx context.Context, filters []Filter, after uint64, limit int) (Page, error)

	// ReadPartition returns the input entries of one partition with seq > after,
	// in order, at most limit, none past the tail; none means there are no more.
	// ErrTruncated when input after `after` may be removed, which takes a Keep past it.
	ReadPartition(ctx context.Context, partition int, after uint64, limit int) ([]*Entry, error)

	// Inbox returns the last event number of an inbox, 0 when it has none.
	Inbox(ctx context.Context, inbox string) (uint64, error)

	// Record returns one record; ok is false when it does not exist. When it
	// returns, Tail is no older than its writer's was: a place that a record names is
	// never past the tail.
	Record(ctx context.Context, key string) (r Record, ok bool, err error)

	// Records calls fn for every record whose key begins with prefix, in key
	// order, until fn returns an error, which it then returns.
	Records(ctx context.Context, prefix string, fn func(Record) error) error

	// Keep tells how far a partition has been stored. Retention removes no input
	// entry past its partition's place, nor anything after the oldest such entry. It
	// is durable lazily and never goes back; a place past the tail is an error. Kept
	// reads it; when it returns, Tail has reached every entry that was durable when it
	// was called, whoever wrote it.
	Keep(ctx context.Context, partition int, seq uint64) error
	Kept(ctx context.Context, partition int) (seq uint64, err error)

	// Renew starts a new epoch, because someone knows a place past the tail or
	// has seen another life of this journal. Entries stay.
	Renew(ctx context.Context) (Cursor, error)

	// Erase removes every entry on the topics that match, and every record whose
	// key begins with one of the prefixes. It is durable when it returns.
	Erase(ctx context.Context, filters []Filter, recordPrefixes []string) error

	// Retain removes entries older than before, except what Keep still protects.
	// Reads that begin before what is left answer ErrTruncated. It is durable when it returns.
	Retain(ctx context.Context, before time.Time) error

	// Announce sends to every Listen of every node; it does not wait for them.
	// Listen calls fn, which must not block, for each; stop returns when fn will not
	// be called again, and must not be called from fn.
	Announce(ctx context.Context, a Announcement) error
	Listen(fn func(Announcement)) (stop func())

	Stats() Stats

	// Close waits for what was submitted, lazy or not, then closes. Calls after it
	// answer ErrClosed. It is called once.
	Close() error
}
