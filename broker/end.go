package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdline/broker/journal"
)

// errOutcome: a write was submitted and it is not known what became of it.
var errOutcome = errors.New("no answer from the journal")

// append submits and waits until it is durable.
func (b *Broker) append(ctx context.Context, sub *journal.Submission) (journal.Result, error) {
	done := make(chan journal.Result, 1)
	sub.Done = func(r journal.Result) { done <- r }
	if err := b.j.Append(ctx, sub); err != nil {
		return journal.Result{}, fault(err)
	}
	select {
	case r := <-done:
		b.failed(r.Err)
		return r, fault(r.Err)
	case <-ctx.Done():
		return journal.Result{}, fmt.Errorf("%w: %w", ErrUnavailable, errOutcome)
	}
}

// writeRecord makes r the session's record and returns when that is durable.
// The caller holds the right to write, and writeRecord gives it back; only when
// nobody knows what became of the write does the right stay taken, because the
// version is then unknown too.
func (s *Session) writeRecord(ctx context.Context, r *record) error {
	// Once submitted it must be waited for: giving up would lose the version.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	result, err := s.b.append(ctx, &journal.Submission{Puts: []journal.Put{{Key: s.key, Value: r.encode(), If: s.version}}})
	if errors.Is(err, errOutcome) {
		return err
	}
	if err == nil {
		s.version = result.Version
		s.written.Store(time.Now().UnixNano())
	}
	s.unlockRecord()
	return err
}

// End is called by the connection when it is over, however it ended: clean
// tells that the client said goodbye, expiry what it then asked for, nil for no
// change. The client's will is published then, unless it said goodbye. It returns when
// that is durable, and does nothing when the session is another's. When the journal does
// not take it now, the engine tries again by itself.
func (s *Session) End(ctx context.Context, clean bool, expiry *time.Duration) error {
	s.fence()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // the connection is over, its session is not
	defer cancel()
	unlock, err := s.b.lockSession(ctx, s.key)
	if err != nil {
		return err
	}
	defer unlock()
	if s.b.online.get(s.key) != s {
		return nil
	}
	defer s.b.online.remove(s)
	if err := s.lockRecord(ctx); err != nil { // for good: nothing writes it after this
		return err
	}
	s.mu.Lock()
	if expiry != nil {
		s.expiry = min(*expiry, s.b.Retention).Truncate(time.Second)
	}
	s.mu.Unlock()
	return s.b.say(ctx, s.farewell(clean))
}
