package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdline/storage"
)

const (
	// dueJobs is served by index job_due (kind, at, id).
	dueJobs  = `SELECT id, kind, at, attempt, payload FROM job WHERE kind = $1 AND at <= $2 ORDER BY at, id LIMIT $3`
	claimJob = `UPDATE job SET at = $2, attempt = attempt + 1, claim = $3 WHERE id = $1`
)

// DueJobs claims jobs that are due.
func (s *Store) DueJobs(ctx context.Context, kinds []string, now time.Time, lease time.Duration, limit int) ([]storage.Job, error) {
	list := []storage.Job{}
	// Looking costs no commit, and mostly nothing is due.
	if next, ok, err := s.NextJob(ctx, kinds); err != nil || !ok || storage.Millis(next) > storage.Millis(now) {
		return list, err
	}
	limit = storage.Limit(limit, storage.MaxPage)
	claim := rand.Uint64()
	err := s.writer.transact(ctx, func(t *tx) error {
		for _, kind := range kinds {
			if err := t.Query(ctx, dueJobs, []any{kind, storage.Millis(now), limit}, func(r queryRow) error {
				j := storage.Job{Claim: claim}
				var at int64
				var payload []byte
				if err := r.Scan(&j.ID, &j.Kind, &at, &j.Attempt, &payload); err != nil {
					return err
				}
				payload, err := s.Codec.Open(payload)
				if len(payload) > 0 {
					j.Payload = payload
				}
				j.At = storage.Time(at)
				j.Attempt++
				list = append(list, j)
				return err
			}); err != nil {
				return err
			}
		}
		slices.SortFunc(list, func(a, b storage.Job) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
		list = list[:min(len(list), limit)]
		w := &rows{ctx: ctx, t: t}
		for _, j := range list {
			w.exec(claimJob, j.ID, storage.Millis(now.Add(lease)), int64(claim))
		}
		return w.err
	})
	if err != nil {
		return nil, wrap("due jobs", err)
	}
	return list, nil
}

// forget is served by index event_at; $2 bounds how long one of them keeps the writer.
const forget = `
	DELETE FROM event
	WHERE (tenant, kind, name, n) IN (
		SELECT e.tenant, e.kind, e.name, e.n
		FROM event e INDEXED BY event_at
		WHERE e.at < $1 AND NOT EXISTS (
			SELECT 1 FROM outbox o
			WHERE o.partition = e.partition AND o.tenant = e.tenant AND o.kind = e.kind AND o.name = e.name AND o.n = e.n)
		LIMIT $2)`

const forgetAtOnce = 500

// Maintain forgets events that were published before `before`. Room needs no making ahead in a file.
func (s *Store) Maintain(ctx context.Context, _, before time.Time) error {
	for {
		n, err := s.writer.Exec(ctx, forget, storage.Millis(before), forgetAtOnce)
		if err != nil || n < forgetAtOnce {
			return wrap("maintain", err)
		}
	}
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}
