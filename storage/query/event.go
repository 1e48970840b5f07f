package query

import (
	"context"
	"errors"

	"holdline/chat"
	"holdline/storage"
)

// EventColumns are the columns of table event (as e), in the order of scanEvent.
const EventColumns = `e.tenant, e.kind, e.name, e.n, e.at, e.body`

func (q *Queries) scanEvents(into *[]storage.Event) func(Row) error {
	return func(r Row) error {
		var e storage.Event
		var n, at int64
		var body []byte
		if err := r.Scan(&e.Inbox.Tenant, &e.Inbox.Kind, &e.Inbox.Name, &n, &at, &body); err != nil {
			return err
		}
		body, err := q.Codec.Open(body)
		e.N, e.At, e.Body = uint64(n), storage.Time(at), body
		*into = append(*into, e)
		return err
	}
}

// unpublished is served by the primary key of outbox.
const unpublished = `
	SELECT ` + EventColumns + `
	FROM outbox o
	JOIN event e ON e.tenant = o.tenant AND e.kind = o.kind AND e.name = o.name AND e.n = o.n
	WHERE o.partition = $1
	ORDER BY o.tenant, o.kind, o.name, o.n
	LIMIT $2`

// Unpublished returns events not yet marked, by inbox and number.
func (q *Queries) Unpublished(ctx context.Context, partition, limit int) ([]storage.Event, error) {
	list := []storage.Event{}
	err := q.Read.Query(ctx, unpublished, []any{partition, storage.Limit(limit, storage.MaxEvents)}, q.scanEvents(&list))
	return list, wrap(err, "unpublished of partition %d", partition)
}

// events is served by the primary key of event.
const events = `
	SELECT ` + EventColumns + `
	FROM event e
	WHERE e.tenant = $1 AND e.kind = $2 AND e.name = $3 AND e.n > $4
	ORDER BY e.n
	LIMIT $5`

// Events returns what an inbox was told after number n.
func (q *Queries) Events(ctx context.Context, in chat.Inbox, n uint64, limit int) ([]storage.Event, error) {
	list := []storage.Event{}
	if n > maxSeq {
		return list, nil
	}
	args := []any{string(in.Tenant), in.Kind, in.Name, int64(n), storage.Limit(limit, storage.MaxEvents)}
	err := q.Read.Query(ctx, events, args, q.scanEvents(&list))
	return list, wrap(err, "events of %s", in)
}

const lastEvent = `SELECT last FROM inbox WHERE tenant = $1 AND kind = $2 AND name = $3`

// LastEvent is the newest number of an inbox.
func (q *Queries) LastEvent(ctx context.Context, in chat.Inbox) (uint64, error) {
	var last int64
	err := one(ctx, q.Read, lastEvent, []any{string(in.Tenant), in.Kind, in.Name}, &last)
	if errors.Is(err, errNoRow) {
		return 0, nil
	}
	return uint64(last), wrap(err, "last event of %s", in)
}
