package query

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdline/storage"
)

// claim changes the lease when it is free, run out or the holder's own, and its
// epoch unless it is a renewal. The row is locked until the commit, so
// whoever is moving the partition's position has finished, or will be fenced.
const claim = `
	INSERT INTO lease (name, holder, epoch, until)
	VALUES ($1, $2, 1, $3)
	ON CONFLICT (name) DO UPDATE SET
		holder = excluded.holder,
		until = excluded.until,
		epoch = CASE WHEN lease.holder = $2 AND lease.until > $4 AND lease.epoch = $5 THEN lease.epoch ELSE lease.epoch + 1 END
	WHERE lease.holder = '' OR lease.until <= $4 OR (lease.holder = $2 AND ($5 = 0 OR lease.epoch = $5))
	RETURNING epoch`

// Claim takes or renews a lease.
func (q *Queries) Claim(ctx context.Context, name, holder string, known uint64, now time.Time, ttl time.Duration) (storage.Lease, error) {
	l := storage.Lease{Name: name, Holder: holder, Until: storage.Time(storage.Millis(now.Add(ttl)))}
	var epoch int64
	err := one(ctx, q.Write, claim, []any{name, holder, storage.Millis(l.Until), storage.Millis(now), int64(known)}, &epoch)
	if errors.Is(err, errNoRow) {
		return storage.Lease{}, fmt.Errorf("claim %s: %w", name, storage.ErrFenced)
	}
	if err != nil {
		return storage.Lease{}, wrap(err, "claim %s", name)
	}
	l.Epoch = uint64(epoch)
	return l, nil
}

const (
	// Advance is the fence of storage.Advance and the position in one: it changes one row, or the lease has moved on.
	Advance = `
	UPDATE lease
	SET journal = $1, seq = $2
	WHERE name = $3 AND holder = $4 AND epoch = $5 AND journal = $6 AND seq = $7 AND holder <> ''`
	// Holds finds a lease that is still the caller's.
	Holds = `SELECT 1 FROM lease WHERE name = $1 AND holder = $2 AND epoch = $3 AND holder <> ''`
)

// AdvanceArgs are the parameters of Advance.
func AdvanceArgs(a storage.Advance) []any {
	return []any{int64(a.To.Journal), int64(a.To.Seq), a.Lease.Name, a.Lease.Holder, int64(a.Lease.Epoch), int64(a.From.Journal), int64(a.From.Seq)}
}

// HoldsArgs are the parameters of Holds.
func HoldsArgs(l storage.Lease) []any { return []any{l.Name, l.Holder, int64(l.Epoch)} }

// yield keeps the row: the epoch must grow for ever, and the position stays.
const yield = `UPDATE lease SET holder = '', until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3`

// Yield gives a lease back early.
func (q *Queries) Yield(ctx context.Context, l storage.Lease) error {
	_, err := q.Write.Exec(ctx, yield, l.Name, l.Holder, int64(l.Epoch))
	return wrap(err, "yield %s", l.Name)
}

const leases = `
	SELECT name, holder, epoch, until
	FROM lease
	WHERE substr(name, 1, length($1)) = $1 AND holder <> ''
	ORDER BY name`

// Leases lists those whose name begins with prefix.
func (q *Queries) Leases(ctx context.Context, prefix string) ([]storage.Lease, error) {
	list := []storage.Lease{}
	err := q.Read.Query(ctx, leases, []any{prefix}, func(r Row) error {
		var l storage.Lease
		var epoch, until int64
		if err := r.Scan(&l.Name, &l.Holder, &epoch, &until); err != nil {
			return err
		}
		l.Epoch, l.Until = uint64(epoch), storage.Time(until)
		list = append(list, l)
		return nil
	})
	return list, wrap(err, "leases of %s", prefix)
}

const position = `SELECT journal, seq FROM lease WHERE name = $1`

// Position reads how far a partition is stored.
func (q *Queries) Position(ctx context.Context, partition int) (storage.Position, error) {
	var journal, seq int64
	err := one(ctx, q.Read, position, []any{storage.InputLease(partition)}, &journal, &seq)
	if errors.Is(err, errNoRow) {
		return storage.Position{}, nil
	}
	return storage.Position{Journal: uint64(journal), Seq: uint64(seq)}, wrap(err, "position of partition %d", partition)
}

func newIncarnation() string { return strings.ToLower(rand.Text()[:10]) }
