package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

// attempts bounds how often a transaction is tried that lost a race or its
// connection before anything was decided.
const attempts = 5

// Transact runs one transaction: see storage.Scope.
func (s *Store) Transact(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) error {
	scope, err := scope.Ordered()
	if err != nil {
		return fmt.Errorf("transact: %w", err)
	}
	for attempt := 1; ; attempt++ {
		var decided error // goes back as it is
		again, err := s.attempt(ctx, scope, func(u *storage.Unit) error {
			decided = decide(u)
			return decided
		})
		switch {
		case err == nil:
			return nil
		case decided != nil:
			return decided
		case again && attempt < attempts && ctx.Err() == nil:
			s.log.DebugContext(ctx, "transaction tried again", "attempt", attempt, "err", err)
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		case errors.Is(err, chat.ErrConflict) && !errors.Is(err, storage.ErrPermanent):
			return fmt.Errorf("transact: %w: %w", storage.ErrPermanent, err)
		default:
			return fmt.Errorf("transact: %w", err)
		}
	}
}

// pause waits longer each time, and never as long as others do.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(attempt*attempt) * (5*time.Millisecond + rand.N(10*time.Millisecond))):
		return nil
	}
}

const holdsShared = query.Holds + ` FOR SHARE`

// attempt is one try. again says that nothing was committed and the next try may succeed.
func (s *Store) attempt(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) (again bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, mapped(ctx, err)
	}
	defer s.release(conn)

	begin := &pgx.Batch{}
	begin.Queue("BEGIN")
	for _, a := range scope.Advance {
		begin.Queue(query.Advance, query.AdvanceArgs(a)...).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != 1 {
				return fmt.Errorf("partition %d: %w", a.Partition, storage.ErrFenced)
			}
			return nil
		})
	}
	for _, l := range scope.Leases {
		begin.Queue(holdsShared, query.HoldsArgs(l)...).Query(func(rows pgx.Rows) error {
			found := rows.Next()
			rows.Close()
			if err := rows.Err(); err != nil || found {
				return err
			}
			return fmt.Errorf("lease %s: %w", l.Name, storage.ErrFenced)
		})
	}
	l := &loading{Store: s, scope: scope}
	if len(scope.Nodes) > 0 { // who is to be locked is to be read first
		l.queueNodes(begin)
		if err := send(ctx, conn, begin); err != nil {
			return retriable(conn, err), mapped(ctx, err)
		}
		begin = &pgx.Batch{}
	}
	l.queue(begin)
	if err := send(ctx, conn, begin); err != nil {
		return retriable(conn, err), mapped(ctx, err)
	}

	u := storage.NewUnit(l.loaded())
	if err := decide(u); err != nil {
		return false, err
	}
	changes := u.Changes()
	if err := changes.Storable(); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}

	// The commit goes with the writes. When one of them fails the server skips
	// the rest, the commit too; when the connection fails nobody knows.
	end := &pgx.Batch{}
	s.queueChanges(end, changes)
	end.Queue("COMMIT")
	err = mapped(ctx, send(ctx, conn, end))
	return lostRace(err), err
}

// send runs a batch in one round trip. An error of a statement, or of reading its answer, is returned.
func send(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch) error {
	return conn.SendBatch(ctx, b).Close()
}

// retriable reports whether a transaction that has not been decided may be tried again.
func retriable(conn *pgxpool.Conn, err error) bool {
	return lostRace(err) || conn.Conn().IsClosed() || pgconn.SafeToRetry(err)
}

// release gives a connection back outside of any transaction, or closes it.
func (s *Store) release(conn *pgxpool.Conn) {
	if c := conn.Conn(); !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout) // the caller's may be over
		defer cancel()
		if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
			_ = c.Close(ctx) // the server rolls back what it no longer hears of
		}
	}
	conn.Release()
}
