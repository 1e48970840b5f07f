package pebble

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

// batch is what is written and synced at once, on its way from the appender
// to the releaser.
type batch struct {
	items   []item
	weight  int64            // of items
	entries []*journal.Entry // written, in order
	bytes   uint64           // of their payloads
	tail    tail             // after it
	view    *view            // records and inboxes after it; nil when they did not change
	written *pebble.Batch
	syncing bool // written was applied; an empty one needs no sync
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch() *batch { return batches.Get().(*batch) }

// recycle keeps the memory for another batch, unless it is unusually much.
func (b *batch) recycle() {
	clear(b.items)
	clear(b.entries)
	*b = batch{items: b.items[:0], entries: b.entries[:0]}
	if cap(b.items) <= batchItems && cap(b.entries) <= 2*batchItems {
		batches.Put(b)
	}
}

// slabEntries is how many entries share a piece of memory. It is few, because
// a reader that holds one of them holds them all.
const (
	slabEntries = 8
	slabBytes   = 4 << 10
)

// slab makes the journal's own copies of entries, a few per allocation.
type slab struct {
	entries []journal.Entry
	bytes   []byte
}

// keep copies an entry. Strings are shared, for nobody can change them; nothing
// and empty become the same.
func (s *slab) keep(e *journal.Entry) *journal.Entry {
	if len(s.entries) == 0 {
		s.entries = make([]journal.Entry, slabEntries)
	}
	c := &s.entries[0]
	s.entries = s.entries[1:]
	*c = *e
	if !c.Expires.IsZero() {
		c.Expires = c.Expires.UTC().Truncate(time.Microsecond)
	}
	c.Payload, c.Properties, c.Refused = s.copy(e.Payload), s.copy(e.Properties), s.copy(e.Refused)
	return c
}

func (s *slab) copy(b []byte) []byte {
	n := len(b)
	switch {
	case n == 0:
		return nil
	case n > slabBytes/4:
		return append([]byte(nil), b...)
	case n > len(s.bytes):
		s.bytes = make([]byte, slabBytes)
	}
	c := s.bytes[:n:n]
	s.bytes = s.bytes[n:]
	copy(c, b)
	return c
}
