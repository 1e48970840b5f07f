package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"holdline/storage"
	"holdline/storage/query"
)

// monthsAhead is how many months after the present one are ready for messages.
const monthsAhead = 3

const (
	// oneAtATime keeps several that make months from meeting. The number is ours, and no other's.
	oneAtATime = `SELECT pg_advisory_xact_lock(480110511101)`
	// patient gives way when a reader holds the default partition for long: next time, then.
	patient = `SET LOCAL lock_timeout = '2s'`
	// monthExists reads the catalogue's rows: to_regclass would tell what this connection has seen before.
	monthExists = `SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = $1 AND relnamespace = current_schema()::regnamespace)`
	closeRest   = `LOCK TABLE message_default IN ACCESS EXCLUSIVE MODE`
)

// A statement that defines takes no parameters: the name and the bounds are
// numbers of ours, written in. What the default partition holds of the month moves along.
const (
	createMonth = `CREATE TABLE {month} (LIKE message INCLUDING ALL)`
	moveMonth   = `
	WITH moved AS (
		DELETE FROM message_default WHERE at >= {from} AND at < {to}
		RETURNING ` + query.MessageColumns + `
	)
	INSERT INTO {month} (` + query.MessageColumns + `) SELECT ` + query.MessageColumns + ` FROM moved`
	attachMonth = `ALTER TABLE message ATTACH PARTITION {month} FOR VALUES FROM ({from}) TO ({to})`
)

// makeMonths sees to it that messages of now and of the months to come have a partition.
func makeMonths(ctx context.Context, pool *pgxpool.Pool, now time.Time) error {
	now = now.UTC()
	for i := range monthsAhead + 1 {
		from := time.Date(now.Year(), now.Month()+time.Month(i), 1, 0, 0, 0, 0, time.UTC)
		if err := makeMonth(ctx, pool, from); err != nil {
			return fmt.Errorf("postgres: partition of %s: %w", from.Format("2006-01"), mapped(ctx, err))
		}
	}
	return nil
}

func makeMonth(ctx context.Context, pool *pgxpool.Pool, from time.Time) error {
	name := "message_" + from.Format("2006_01")
	var exists bool
	if err := pool.QueryRow(ctx, monthExists, name).Scan(&exists); err != nil || exists {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, oneAtATime); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, monthExists, name).Scan(&exists); err != nil || exists {
			return err
		}
		for _, text := range []string{patient, closeRest} {
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
		bounds := strings.NewReplacer("{month}", name,
			"{from}", strconv.FormatInt(storage.Millis(from), 10), "{to}", strconv.FormatInt(storage.Millis(from.AddDate(0, 1, 0)), 10))
		for _, text := range []string{createMonth, moveMonth, attachMonth} {
			if _, err := tx.Exec(ctx, bounds.Replace(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget is served by index event_at; $2 bounds one of many.
const forget = `
	DELETE FROM event
	WHERE ctid = ANY (ARRAY (
		SELECT e.ctid FROM event e
		WHERE e.at < $1 AND NOT EXISTS (
			SELECT 1 FROM outbox o
			WHERE o.partition = e.partition AND o.tenant = e.tenant AND o.kind = e.kind AND o.name = e.name AND o.n = e.n)
		ORDER BY e.at
		LIMIT $2
		FOR UPDATE OF e SKIP LOCKED))`

const forgetAtOnce = 5000

// Maintain makes the months ahead and forgets events that were published before `before`.
func (s *Store) Maintain(ctx context.Context, now, before time.Time) error {
	if err := makeMonths(ctx, s.pool, now); err != nil {
		return err
	}
	for {
		n, err := s.Write.Exec(ctx, forget, storage.Millis(before), forgetAtOnce)
		if err != nil {
			return fmt.Errorf("maintain: %w", err)
		}
		if n < forgetAtOnce {
			return nil
		}
	}
}
