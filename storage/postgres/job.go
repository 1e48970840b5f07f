package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

// dueJobs is served by index job_due (kind, at, id). What another worker is claiming is passed over.
const dueJobs = `
	WITH due AS MATERIALIZED (
		SELECT j.id, j.at
		FROM unnest($1::text[]) k (kind)
		CROSS JOIN LATERAL (
			SELECT id, at FROM job
			WHERE kind = k.kind AND at <= $2
			ORDER BY at, id
			LIMIT $3
			FOR UPDATE SKIP LOCKED) j
		ORDER BY j.at, j.id
		LIMIT $3
	)
	UPDATE job SET at = $4, attempt = job.attempt + 1, claim = $5
	FROM due
	WHERE job.id = due.id
	RETURNING job.id, job.kind, due.at, job.attempt, job.payload`

// DueJobs claims jobs that are due.
func (s *Store) DueJobs(ctx context.Context, kinds []string, now time.Time, lease time.Duration, limit int) ([]storage.Job, error) {
	claim := rand.Uint64()
	list := []storage.Job{}
	args := []any{kinds, storage.Millis(now), storage.Limit(limit, storage.MaxPage), storage.Millis(now.Add(lease)), int64(claim)}
	err := s.Write.Query(ctx, dueJobs, args, func(r query.Row) error {
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
		list = append(list, j)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("due jobs: %w", err)
	}
	slices.SortFunc(list, func(a, b storage.Job) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// published takes runs of numbers out of the outbox, if the lease is still held,
// which it stays until the end of the statement. Only the holder of the lease takes rows out, so a row stays where it is.
const published = `
	WITH held AS MATERIALIZED (` + holdsShared + `
	), gone AS (
		DELETE FROM outbox
		WHERE EXISTS (SELECT 1 FROM held) AND ctid = ANY (ARRAY (
			SELECT o.ctid
			FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[]) k (partition, tenant, kind, name, first, last)
			CROSS JOIN LATERAL (
				SELECT ctid FROM outbox
				WHERE partition = k.partition AND tenant = k.tenant AND kind = k.kind AND name = k.name AND n BETWEEN k.first AND k.last
				OFFSET 0) o))
	)
	SELECT 1 FROM held`

// Published marks events under the publisher's lease.
func (s *Store) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	events = slices.SortedFunc(slices.Values(events), func(a, b storage.Event) int {
		return cmp.Or(storage.CompareInboxes(a.Inbox, b.Inbox), cmp.Compare(a.N, b.N))
	})
	type run struct {
		in          chat.Inbox
		first, last int64
	}
	var runs []run
	for _, e := range events {
		n := int64(e.N)
		if i := len(runs) - 1; i >= 0 && runs[i].in == e.Inbox && n <= runs[i].last+1 {
			runs[i].last = n
		} else {
			runs = append(runs, run{e.Inbox, n, n})
		}
	}
	held := false
	args := append(query.HoldsArgs(l),
		column(runs, func(r run) int64 { return int64(r.in.Slot().Partition()) }),
		column(runs, func(r run) string { return string(r.in.Tenant) }),
		column(runs, func(r run) string { return r.in.Kind }),
		column(runs, func(r run) string { return r.in.Name }),
		column(runs, func(r run) int64 { return r.first }),
		column(runs, func(r run) int64 { return r.last }))
	err := s.Write.Query(ctx, published, args, func(query.Row) error { held = true; return nil })
	if err == nil && !held {
		err = fmt.Errorf("lease %s: %w", l.Name, storage.ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("published: %w", err)
	}
	return nil
}
