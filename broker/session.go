package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// Link is a connection as its session sees it. None of its methods blocks.
type Link interface {
	// Wake says that there is something to Take.
	Wake()
	// Acked brings decisions about publishes, in the order of the publishes. What
	// came is written after the next Wake.
	Acked([]Ack)
	// Stop ends what the reader waits for: the session is about to be another's.
	Stop()
	// Close ends the connection, telling the client why.
	Close(Reason)
}

// Identity is who a client has proved to be.
type Identity struct {
	Mount   topics.Mount
	Name    string    // how the account is called
	Expires time.Time // of the token; zero for never
}

// Hello is what a client asks for when it connects.
type Hello struct {
	Identity
	// Clean asks for a new session.
	Clean bool
	// Expiry is how long the session is kept after the connection; 0 ends it there.
	Expiry time.Duration
	// Window is how many unacknowledged deliveries the client takes; 0 for any number.
	Window int
	// Strict says that the client was told our Receive Maximum (MQTT 5): more
	// publishes than that are an error, not a reason to wait.
	Strict bool
	// Will is published when the connection ends without a goodbye; nil for none.
	Will *Will
	Link Link
}

// Session is one session while it is connected.
//
// What the client sends goes through Publish, Subscribe, Unsubscribe and
// Acknowledge, all called by one reader between Enter and Leave; what it gets
// is taken with Take by one writer. A session that was taken over refuses Enter.
type Session struct {
	b      *Broker
	key    string
	origin string // how entries name the session, for No Local
	mount  topics.Mount
	name   string
	limits Limits
	strict bool
	link   Link
	epoch  uint64
	life   uint64        // the journal's epoch
	began  uint64        // the tail when it connected
	gone   chan struct{} // closed when the session is
	will   *will         // of this connection
	in     inbound

	// gate is held by the reader while it works on what the client sent. Whoever
	// takes the session over sets fenced and passes through the gate: then nothing of
	// the old connection is under way and nothing more will be. The reader may wait for
	// the journal inside, but only until Link.Stop.
	gate   sync.Mutex
	fenced atomic.Bool

	// rec holds the right to write the record: one write at a time, each knowing
	// the version the one before it made.
	rec     chan struct{}
	version uint64       // guarded by rec; 0 while there is no record
	written atomic.Int64 // when, in Unix nanoseconds

	mu       sync.Mutex // guards what follows
	replaced *Session   // whose connection is closed in Begin
	begun    bool
	closed   bool
	durable  bool          // has a record
	lost     bool          // its place in the journal is gone: it ends with the connection
	expiry   time.Duration // as granted
	subs     []*subscription
	filters  []journal.Filter // of all subs, for Read
	overlap  bool             // a topic may match more than one of the subs
	revision int              // grows when subs change
	deliver  delivery
	received map[uint16]received // by packet id
	dirty    bool                // waits for a checkpoint
	unsaved  int                 // acknowledgements since the last one
}

// Epoch is the session's connection count.
func (s *Session) Epoch() uint64 { return s.epoch }

// Limits are those of the client's role.
func (s *Session) Limits() Limits { return s.limits }

// Expiry is how long the session will be kept, as granted.
func (s *Session) Expiry() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry
}

// Enter begins work on what the client sent; false means that the session is
// no longer this connection's and the connection should end.
func (s *Session) Enter() bool {
	s.gate.Lock()
	if s.fenced.Load() {
		s.gate.Unlock()
		return false
	}
	return true
}

// Leave ends what Enter began: what was published goes to the journal, and
// what was acknowledged makes room for more.
func (s *Session) Leave(ctx context.Context) error {
	defer s.refill()
	defer s.gate.Unlock() // in a panic, too: the next connection has to get through
	return s.Flush(ctx)
}

// fence ends the session for its connection. When it returns, nothing the
// connection sent is under way. It does not wait for the socket.
func (s *Session) fence() {
	s.fenced.Store(true)
	s.link.Stop()
	s.gate.Lock() // nothing to do inside: to have got in means that the reader is out
	s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

// close takes the session out of delivery; s.mu is held.
func (s *Session) close() {
	if s.closed {
		return
	}
	s.closed = true
	close(s.gone)
	if !s.begun {
		return
	}
	for _, sub := range s.subs {
		s.unindex(sub)
	}
	s.deliver.end(s.b)
}

// index lets the follower find a subscription; one that was given up has no
// more to come.
func (s *Session) index(sub *subscription) {
	if sub.until != 0 {
		return
	}
	for _, f := range sub.full {
		s.b.index.add(f, member{s, sub})
	}
}

func (s *Session) unindex(sub *subscription) {
	for _, f := range sub.full {
		s.b.index.remove(f, member{s, sub})
	}
}

// picture is the session's record as it stands; s.mu is held.
func (s *Session) picture() record {
	return record{
		epoch: s.epoch, cursor: journal.Cursor{Epoch: s.life, Seq: s.cursor()}, sent: s.deliver.sent,
		ahead: s.ahead(), expiry: s.expiry, node: s.b.Node, subs: s.subs, owed: s.deliver.owed.picture(),
		will: s.will, received: s.receivedIDs(), releasing: slices.Clone(s.deliver.window.releasing),
	}
}

// lockRecord waits for the right to write the record.
func (s *Session) lockRecord(ctx context.Context) error {
	select {
	case s.rec <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Session) unlockRecord() { <-s.rec }

// account is whose session it is; ok is false for a client without one.
func (s *Session) account() (a chat.Account, ok bool) {
	return s.mount.Account, s.mount.Account != chat.Account{}
}
