package sqlite

import (
	"context"
	"encoding/json"
	"slices"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

const (
	nameAccount = `UPDATE account SET name = $4, seen = $5 WHERE tenant = $1 AND role = $2 AND subject = $3`
	// putHead fails on the null when the id is another customer's: a conversation never changes hands.
	putHead = `
	INSERT INTO conversation (` + query.HeadColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
	ON CONFLICT (tenant, id) DO UPDATE SET
		customer = CASE WHEN customer = excluded.customer AND customer_role = excluded.customer_role THEN customer END,
		customer_name = excluded.customer_name,
		queue = excluded.queue, state = excluded.state, holder = excluded.holder, holder_name = excluded.holder_name,
		epoch = excluded.epoch, accepted = excluded.accepted, episode = excluded.episode, seq = excluded.seq,
		last_at = excluded.last_at, last_text = excluded.last_text, last_from = excluded.last_from,
		opened = excluded.opened, since = excluded.since, resolved = excluded.resolved`
	addMessage = `
	INSERT INTO message (` + query.MessageColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	remember = `
	INSERT INTO said (tenant, role, subject, id, hash, conversation, seq, at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	updateAgent = `UPDATE agent SET intent = $3, idle_since = $4 WHERE tenant = $1 AND id = $2`
	putSession  = `
	INSERT INTO session (tenant, role, subject, client, partition, node, epoch, up, changed)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
	ON CONFLICT (tenant, role, subject, client) DO UPDATE SET
		node = excluded.node, epoch = excluded.epoch, up = excluded.up, changed = excluded.changed`
	cancelJobs = `DELETE FROM job WHERE id IN (SELECT value FROM json_each($1))`
	putJob     = `
	INSERT INTO job (id, kind, at, attempt, claim, payload)
	VALUES ($1, $2, $3, 0, 0, $4)
	ON CONFLICT (id) DO UPDATE SET
		kind = excluded.kind, at = excluded.at, attempt = 0, claim = 0, payload = excluded.payload`
	addAudit   = `INSERT INTO audit (` + query.AuditColumns + `) VALUES ($1, $2, $3, $4, $5, $6)`
	takeNumber = `
	INSERT INTO inbox (tenant, kind, name, last)
	VALUES ($1, $2, $3, $4)
	ON CONFLICT (tenant, kind, name) DO UPDATE SET last = inbox.last + excluded.last
	RETURNING last`
	addEvent = `
	INSERT INTO event (tenant, kind, name, n, partition, at, body)
	VALUES ($1, $2, $3, $4, $5, $6, $7)`
	addOutbox = `INSERT INTO outbox (partition, tenant, kind, name, n) VALUES ($1, $2, $3, $4, $5)`
)

// write writes what was decided.
func (s *Store) write(ctx context.Context, t *tx, c storage.Changes) error {
	w := &rows{ctx: ctx, t: t}
	for _, a := range c.Accounts {
		w.exec(nameAccount, string(a.Account.Tenant), string(a.Account.Role), a.Account.Subject, a.Name, storage.Millis(a.Seen))
	}
	for _, h := range c.Conversations {
		w.exec(putHead, string(h.Tenant), string(h.ID), string(h.Customer.Role), h.Customer.Subject, h.CustomerName,
			string(h.Queue), string(h.State), h.Holder, h.HolderName, int64(h.Epoch), h.Accepted, h.Episode, int64(h.Seq),
			storage.Millis(h.LastAt), s.Codec.Seal([]byte(h.LastText)), string(h.LastFrom),
			storage.Millis(h.Opened), storage.Millis(h.Since), storage.Millis(h.Resolved))
	}
	for _, m := range c.Messages {
		w.exec(addMessage, string(m.Tenant), string(m.Conversation), int64(m.Seq), storage.Millis(m.At), string(m.ID),
			string(m.From.Role), m.From.Subject, m.Name, string(m.Kind), s.Codec.Seal([]byte(m.Text)))
	}
	for _, n := range c.Said {
		w.exec(remember, string(n.Key.Account.Tenant), string(n.Key.Account.Role), n.Key.Account.Subject, string(n.Key.ID),
			n.Said.Hash[:], string(n.Said.Conversation), int64(n.Said.Seq), storage.Millis(n.At))
	}
	for _, a := range c.Agents {
		w.exec(updateAgent, string(a.Tenant), a.ID, string(a.Intent), storage.Millis(a.IdleSince))
	}
	for _, x := range c.Sessions {
		w.exec(putSession, string(x.Account.Tenant), string(x.Account.Role), x.Account.Subject, x.Client,
			x.Account.Slot().Partition(), x.Node, int64(x.Epoch), x.Up, storage.Millis(x.Changed))
	}
	if len(c.Cancelled) > 0 {
		ids, err := json.Marshal(c.Cancelled)
		if err != nil {
			return err
		}
		w.exec(cancelJobs, string(ids))
	}
	for _, j := range c.Jobs {
		w.exec(putJob, j.ID, j.Kind, storage.Millis(j.At), s.Codec.Seal(j.Payload))
	}
	for _, a := range c.Audit {
		w.exec(addAudit, query.AuditArgs(a)...)
	}
	if w.err != nil {
		return w.err
	}
	return s.tell(ctx, t, c.Events)
}

// tell numbers the events of each inbox and stores them.
func (s *Store) tell(ctx context.Context, t *tx, events []storage.Event) error {
	told := map[chat.Inbox]int64{}
	for _, e := range events {
		told[e.Inbox]++
	}
	next := map[chat.Inbox]int64{}
	for in, n := range told {
		if err := t.Query(ctx, takeNumber, []any{string(in.Tenant), in.Kind, in.Name, n}, func(r queryRow) error {
			var last int64
			err := r.Scan(&last)
			next[in] = last - n + 1
			return err
		}); err != nil {
			return err
		}
	}
	w := &rows{ctx: ctx, t: t}
	for _, e := range events {
		partition := e.Inbox.Slot().Partition()
		w.exec(addEvent, string(e.Inbox.Tenant), e.Inbox.Kind, e.Inbox.Name, next[e.Inbox], partition, storage.Millis(e.At), s.Codec.Seal(e.Body))
		w.exec(addOutbox, partition, string(e.Inbox.Tenant), e.Inbox.Kind, e.Inbox.Name, next[e.Inbox])
		next[e.Inbox]++
	}
	return w.err
}

// rows runs statements until one fails.
type rows struct {
	ctx context.Context // of this one transaction
	t   *tx
	err error
}

func (w *rows) exec(text string, args ...any) {
	if w.err == nil {
		_, w.err = w.t.Exec(w.ctx, text, args...)
	}
}

// published takes the run of numbers $5 to $6 out of the outbox.
const published = `DELETE FROM outbox WHERE partition = $1 AND tenant = $2 AND kind = $3 AND name = $4 AND n BETWEEN $5 AND $6`

// Published marks events under the publisher's lease.
func (s *Store) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b storage.Event) int {
		if c := storage.CompareInboxes(a.Inbox, b.Inbox); c != 0 {
			return c
		}
		return int(int64(a.N) - int64(b.N))
	})
	return wrap("published", s.writer.transact(ctx, func(t *tx) error {
		if err := held(ctx, t, l); err != nil {
			return err
		}
		w := &rows{ctx: ctx, t: t}
		for i := 0; i < len(events); {
			last := i
			for last+1 < len(events) && events[last+1].Inbox == events[i].Inbox && events[last+1].N <= events[last].N+1 {
				last++
			}
			in := events[i].Inbox
			w.exec(published, in.Slot().Partition(), string(in.Tenant), in.Kind, in.Name, int64(events[i].N), int64(events[last].N))
			i = last + 1
		}
		return w.err
	}))
}
