package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"holdline/chat"
)

// state is what a phone must not forget: its outbox, and the last event it had
// of each inbox. Every change is a record, in the log first and then in memory.
type state struct {
	// turn is held by the one who changes the state, file and memory both, so
	// that they have the same order.
	turn chan struct{}
	log  *logFile // nil when nothing is kept on disk; under turn
	// failed is why nothing can be promised any more; under turn.
	failed error

	mu      sync.Mutex
	owner   string
	next    uint64
	items   []*item // by N
	last    map[string]chat.EventID
	settled chan struct{} // closed and replaced when an item leaves
}

// openState reads the state of owner from dir, or starts an empty one; dir may be
// empty for a state in memory. A state of somebody else is an error.
func openState(dir, owner string) (s *state, cut int64, err error) {
	s = &state{
		turn: make(chan struct{}, 1), next: 1,
		last: map[string]chat.EventID{}, settled: make(chan struct{}),
	}
	if dir == "" {
		return s, 0, nil
	}
	if s.log, cut, err = openLog(dir, s.apply); err != nil {
		return nil, 0, err
	}
	switch s.owner {
	case owner:
	case "":
		s.owner = owner
		err = s.log.append(true, record{Owner: owner, Next: s.next})
	default:
		err = fmt.Errorf("%s belongs to %s, not to %s", dir, s.owner, owner)
	}
	if err != nil {
		return nil, 0, errors.Join(err, s.log.Close())
	}
	for _, i := range s.items {
		i.Again = true // a former life may have sent it
	}
	return s, cut, nil
}

// close waits for the last change and closes the file.
func (s *state) close() error {
	s.turn <- struct{}{} // never given back: nothing changes any more
	if s.log == nil {
		return nil
	}
	return s.log.Close()
}

// errClosed is the answer after Close.
var errClosed = errors.New("client is closed")

// change writes the records that build returns and applies them. build runs
// while nobody else can change the state; when it fails, nothing happens.
func (s *state) change(ctx context.Context, sync bool, build func() ([]record, error)) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.failed != nil {
		return s.failed
	}
	recs, err := build()
	if err != nil || len(recs) == 0 {
		return err
	}
	if s.log != nil {
		if err := s.log.append(sync, recs...); err != nil {
			if errors.Is(err, errSync) {
				s.failed = err
			}
			return fmt.Errorf("write %s: %w", s.log.path, err)
		}
	}
	s.mu.Lock()
	for _, r := range recs {
		_ = s.apply(r) // checks nothing: we made it
	}
	s.mu.Unlock()
	if s.log == nil || !s.log.grown() {
		return nil
	}
	if err := s.log.rewrite(s.snapshot()); errors.Is(err, errSync) {
		s.failed = err
	} // else the old file stays, only longer than it need be
	return nil
}

// apply changes the memory. The caller holds mu, or nobody else knows s.
func (s *state) apply(r record) error {
	switch {
	case r.Owner != "":
		s.owner, s.next = r.Owner, max(s.next, r.Next)
	case r.Put != nil:
		s.items, s.next = append(s.items, r.Put), max(s.next, r.Put.N+1)
	case r.Acked != 0:
		s.replace(func(i *item) bool { return i.N == r.Acked }, func(i *item) { i.Acked, i.Again = true, false })
	case r.Anew:
		s.replace(func(i *item) bool { return i.Acked }, func(i *item) { i.Acked = false })
	case r.Done != 0:
		s.items = slices.DeleteFunc(s.items, func(i *item) bool { return i.N == r.Done })
		close(s.settled)
		s.settled = make(chan struct{})
	case r.Inbox != "" && r.Event == "":
		delete(s.last, r.Inbox)
	case r.Inbox != "":
		s.last[r.Inbox] = r.Event
	}
	return nil
}

// replace puts changed copies where which is true.
func (s *state) replace(which func(*item) bool, change func(*item)) {
	for at, i := range s.items {
		if which(i) {
			c := *i
			change(&c)
			s.items[at] = &c
		}
	}
}

// snapshot is the whole state as records.
func (s *state) snapshot() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	recs := []record{{Owner: s.owner, Next: s.next}}
	for _, inbox := range slices.Sorted(maps.Keys(s.last)) {
		recs = append(recs, record{Inbox: inbox, Event: s.last[inbox]})
	}
	for _, i := range s.items {
		recs = append(recs, record{Put: i})
	}
	return recs
}

// add puts an item at the end of the outbox, durably. The same again under its
// id adds nothing while it is there; something else under the id is
// chat.ErrConflict. More than limit is ErrOutboxFull.
func (s *state) add(ctx context.Context, i item, limit int) error {
	return s.change(ctx, true, func() ([]record, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, o := range s.items {
			if o.ID == i.ID && (o.Topic != i.Topic || !bytes.Equal(o.Payload, i.Payload)) {
				return nil, fmt.Errorf("%w: id %s is in the outbox for another message; make a new id", chat.ErrConflict, i.ID)
			} else if o.ID == i.ID {
				return nil, nil
			}
		}
		if len(s.items) >= limit {
			return nil, fmt.Errorf("%w: %d messages wait for the server already; try again when some are through", ErrOutboxFull, len(s.items))
		}
		i.N = s.next
		return []record{{Put: &i}}, nil
	})
}

// queued is the first item, in order, that waits to be sent; nil for none.
func (s *state) queued(busy func(n uint64) bool) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.items {
		if !i.Acked && !busy(i.N) {
			return i
		}
	}
	return nil
}

// mark notes in memory alone whether items may have been sent in this session.
func (s *state) mark(which func(*item) bool, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(which, func(i *item) { i.Again = again })
}

// item finds an item by its number or, when n is 0, by its id; nil when it is settled.
func (s *state) item(n uint64, id chat.MessageID) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.items {
		if i.N == n || n == 0 && i.ID == id {
			return i
		}
	}
	return nil
}

// position is the last event of an inbox; empty when none is known.
func (s *state) position(inbox string) chat.EventID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[inbox]
}

// pending lists the outbox in order.
func (s *state) pending() []Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Pending, 0, len(s.items))
	for _, i := range s.items {
		out = append(out, i.pending())
	}
	return out
}

// waitEmpty blocks until the outbox is empty.
func (s *state) waitEmpty(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, settled := len(s.items), s.settled
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return fmt.Errorf("%d messages are still on their way: %w", n, ctx.Err())
		}
	}
}
