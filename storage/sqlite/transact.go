package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

// attempts bounds how often a transaction is tried that another process keeps
// out; each waits busyTimeout already.
const attempts = 3

// Transact runs one transaction: see storage.Scope.
func (s *Store) Transact(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) error {
	scope, err := scope.Ordered()
	if err != nil {
		return fmt.Errorf("transact: %w", err)
	}
	for attempt := 1; ; attempt++ {
		var decided error // goes back as it is
		err := s.writer.transact(ctx, func(t *tx) error {
			decided = nil
			if err := fence(ctx, t, scope); err != nil {
				return err
			}
			loaded, err := s.load(ctx, t, scope)
			if err != nil {
				return err
			}
			u := storage.NewUnit(loaded)
			if decided = decide(u); decided != nil {
				return decided
			}
			changes := u.Changes()
			if err := changes.Storable(); err != nil {
				return err
			}
			return s.write(ctx, t, changes)
		})
		switch {
		case err == nil:
			return nil
		case decided != nil:
			return decided
		case busy(err) && attempt < attempts:
			s.log.WarnContext(ctx, "storage is busy, trying again", "attempt", attempt, "err", err)
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		case errors.Is(err, chat.ErrConflict) && !errors.Is(err, storage.ErrPermanent):
			// One writer at a time: nobody else can have been faster, so it will be so the next time.
			return fmt.Errorf("transact: %w: %w", storage.ErrPermanent, err)
		default:
			return fmt.Errorf("transact: %w", err)
		}
	}
}

// pause waits a little longer, and a little different, each time.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(attempt) * (10*time.Millisecond + rand.N(20*time.Millisecond))):
		return nil
	}
}

func fence(ctx context.Context, t *tx, scope storage.Scope) error {
	for _, a := range scope.Advance {
		n, err := t.Exec(ctx, query.Advance, query.AdvanceArgs(a)...)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("partition %d: %w", a.Partition, storage.ErrFenced)
		}
	}
	for _, l := range scope.Leases {
		if err := held(ctx, t, l); err != nil {
			return err
		}
	}
	return nil
}

// held is ErrFenced unless the lease is the caller's.
func held(ctx context.Context, t *tx, l storage.Lease) error {
	found := false
	err := t.Query(ctx, query.Holds, query.HoldsArgs(l), func(queryRow) error { found = true; return nil })
	if err == nil && !found {
		err = fmt.Errorf("lease %s: %w", l.Name, storage.ErrFenced)
	}
	return err
}
