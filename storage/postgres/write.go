package postgres

import (
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

// One statement per kind of row; the rows come in as one array per column. The
// star stands for those arrays, in the order of the columns named before it.
const (
	nameAccounts = `
	UPDATE account a SET name = k.name, seen = k.seen
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) k (tenant, role, subject, name, seen)
	WHERE a.tenant = k.tenant AND a.role = k.role AND a.subject = k.subject`
	// putHeads keeps the order of its arrays: the closed ones go first. It fails on
	// the null when the id is another customer's: a conversation never changes hands.
	putHeads = `
	INSERT INTO conversation (` + query.HeadColumns + `)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
		$10::bigint[], $11::boolean[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bytea[], $16::text[], $17::bigint[], $18::bigint[], $19::bigint[])
	ON CONFLICT (tenant, id) DO UPDATE SET
		customer = CASE WHEN conversation.customer = excluded.customer AND conversation.customer_role = excluded.customer_role THEN excluded.customer END,
		customer_name = excluded.customer_name,
		queue = excluded.queue, state = excluded.state, holder = excluded.holder, holder_name = excluded.holder_name,
		epoch = excluded.epoch, accepted = excluded.accepted, episode = excluded.episode, seq = excluded.seq,
		last_at = excluded.last_at, last_text = excluded.last_text, last_from = excluded.last_from,
		opened = excluded.opened, since = excluded.since, resolved = excluded.resolved`
	addMessages = `
	INSERT INTO message (` + query.MessageColumns + `)
	SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[])`
	remember = `
	INSERT INTO said (tenant, role, subject, id, hash, conversation, seq, at)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::bigint[], $8::bigint[])`
	updateAgents = `
	UPDATE agent a SET intent = k.intent, idle_since = k.idle_since
	FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) k (tenant, id, intent, idle_since)
	WHERE a.tenant = k.tenant AND a.id = k.id`
	putSessions = `
	INSERT INTO session (tenant, role, subject, client, partition, node, epoch, up, changed)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::boolean[], $9::bigint[])
	ON CONFLICT (tenant, role, subject, client) DO UPDATE SET
		node = excluded.node, epoch = excluded.epoch, up = excluded.up, changed = excluded.changed`
	cancelJobs = `DELETE FROM job WHERE id = ANY ($1::text[])`
	putJobs    = `
	INSERT INTO job (id, kind, at, attempt, claim, payload)
	SELECT id, kind, at, 0, 0, payload FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) k (id, kind, at, payload)
	ON CONFLICT (id) DO UPDATE SET
		kind = excluded.kind, at = excluded.at, attempt = 0, claim = 0, payload = excluded.payload`
	addAudit = `
	INSERT INTO audit (` + query.AuditColumns + `)
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])`
	// tell takes the numbers of every inbox ($1 to $4: how many each, sorted) and
	// stores the events ($5 to $9: the inbox by its place in the arrays before,
	// how many follow in the same inbox). It comes last: an inbox is locked from here to the commit.
	tell = `
	WITH taken AS (
		INSERT INTO inbox (tenant, kind, name, last)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
		ON CONFLICT (tenant, kind, name) DO UPDATE SET last = inbox.last + excluded.last
		RETURNING tenant, kind, name, last
	), numbered AS MATERIALIZED (
		SELECT e.partition, t.tenant, t.kind, t.name, t.last - e.follow AS n, e.at, e.body
		FROM unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[]) e (inbox, follow, partition, at, body)
		JOIN taken t ON t.tenant = ($1::text[])[e.inbox] AND t.kind = ($2::text[])[e.inbox] AND t.name = ($3::text[])[e.inbox]
	), queued AS (
		INSERT INTO outbox (partition, tenant, kind, name, n)
		SELECT partition, tenant, kind, name, n FROM numbered
	)
	INSERT INTO event (tenant, kind, name, n, partition, at, body)
	SELECT tenant, kind, name, n, partition, at, body FROM numbered`
)

// queueChanges adds the statements that write what was decided.
func (s *Store) queueChanges(b *pgx.Batch, c storage.Changes) {
	if list := c.Accounts; len(list) > 0 {
		t, r, id := accountArrays(list, func(a *storage.Account) chat.Account { return a.Account })
		b.Queue(nameAccounts, t, r, id,
			column(list, func(a *storage.Account) string { return a.Name }),
			column(list, func(a *storage.Account) int64 { return storage.Millis(a.Seen) }))
	}
	if list := c.Conversations; len(list) > 0 {
		s.queueHeads(b, list)
	}
	if list := c.Messages; len(list) > 0 {
		_, r, id := accountArrays(list, func(m chat.Message) chat.Account { return m.From })
		b.Queue(addMessages,
			column(list, func(m chat.Message) string { return string(m.Tenant) }),
			column(list, func(m chat.Message) string { return string(m.Conversation) }),
			column(list, func(m chat.Message) int64 { return int64(m.Seq) }),
			column(list, func(m chat.Message) int64 { return storage.Millis(m.At) }),
			column(list, func(m chat.Message) string { return string(m.ID) }),
			r, id,
			column(list, func(m chat.Message) string { return m.Name }),
			column(list, func(m chat.Message) string { return string(m.Kind) }),
			column(list, func(m chat.Message) []byte { return s.Codec.Seal([]byte(m.Text)) }))
	}
	if list := c.Said; len(list) > 0 {
		t, r, id := accountArrays(list, func(n storage.NewSaid) chat.Account { return n.Key.Account })
		b.Queue(remember, t, r, id,
			column(list, func(n storage.NewSaid) string { return string(n.Key.ID) }),
			column(list, func(n storage.NewSaid) []byte { return n.Said.Hash[:] }),
			column(list, func(n storage.NewSaid) string { return string(n.Said.Conversation) }),
			column(list, func(n storage.NewSaid) int64 { return int64(n.Said.Seq) }),
			column(list, func(n storage.NewSaid) int64 { return storage.Millis(n.At) }))
	}
	if list := c.Agents; len(list) > 0 {
		b.Queue(updateAgents,
			column(list, func(a *chat.Agent) string { return string(a.Tenant) }),
			column(list, func(a *chat.Agent) string { return a.ID }),
			column(list, func(a *chat.Agent) string { return string(a.Intent) }),
			column(list, func(a *chat.Agent) int64 { return storage.Millis(a.IdleSince) }))
	}
	if list := c.Sessions; len(list) > 0 {
		t, r, id := accountArrays(list, func(x storage.Session) chat.Account { return x.Account })
		b.Queue(putSessions, t, r, id,
			column(list, func(x storage.Session) string { return x.Client }),
			column(list, func(x storage.Session) int64 { return int64(x.Account.Slot().Partition()) }),
			column(list, func(x storage.Session) string { return x.Node }),
			column(list, func(x storage.Session) int64 { return int64(x.Epoch) }),
			column(list, func(x storage.Session) bool { return x.Up }),
			column(list, func(x storage.Session) int64 { return storage.Millis(x.Changed) }))
	}
	if len(c.Cancelled) > 0 {
		b.Queue(cancelJobs, c.Cancelled)
	}
	if list := c.Jobs; len(list) > 0 {
		list = slices.SortedFunc(slices.Values(list), func(a, b storage.Job) int { return cmp.Compare(a.ID, b.ID) }) // locked in one order
		b.Queue(putJobs,
			column(list, func(j storage.Job) string { return j.ID }),
			column(list, func(j storage.Job) string { return j.Kind }),
			column(list, func(j storage.Job) int64 { return storage.Millis(j.At) }),
			column(list, func(j storage.Job) []byte { return s.Codec.Seal(j.Payload) }))
	}
	if list := c.Audit; len(list) > 0 {
		b.Queue(addAudit,
			column(list, func(a storage.Audit) string { return string(a.Tenant) }),
			column(list, func(a storage.Audit) int64 { return storage.Millis(a.At) }),
			column(list, func(a storage.Audit) string { return a.Actor }),
			column(list, func(a storage.Audit) string { return a.Action }),
			column(list, func(a storage.Audit) string { return a.Object }),
			column(list, func(a storage.Audit) string { return a.Detail }))
	}
	if len(c.Events) > 0 {
		s.queueEvents(b, c.Events)
	}
}

func (s *Store) queueHeads(b *pgx.Batch, list []*chat.Conversation) {
	type head = *chat.Conversation
	b.Queue(putHeads,
		column(list, func(c head) string { return string(c.Tenant) }),
		column(list, func(c head) string { return string(c.ID) }),
		column(list, func(c head) string { return string(c.Customer.Role) }),
		column(list, func(c head) string { return c.Customer.Subject }),
		column(list, func(c head) string { return c.CustomerName }),
		column(list, func(c head) string { return string(c.Queue) }),
		column(list, func(c head) string { return string(c.State) }),
		column(list, func(c head) string { return c.Holder }),
		column(list, func(c head) string { return c.HolderName }),
		column(list, func(c head) int64 { return int64(c.Epoch) }),
		column(list, func(c head) bool { return c.Accepted }),
		column(list, func(c head) int64 { return int64(c.Episode) }),
		column(list, func(c head) int64 { return int64(c.Seq) }),
		column(list, func(c head) int64 { return storage.Millis(c.LastAt) }),
		column(list, func(c head) []byte { return s.Codec.Seal([]byte(c.LastText)) }),
		column(list, func(c head) string { return string(c.LastFrom) }),
		column(list, func(c head) int64 { return storage.Millis(c.Opened) }),
		column(list, func(c head) int64 { return storage.Millis(c.Since) }),
		column(list, func(c head) int64 { return storage.Millis(c.Resolved) }))
}

func (s *Store) queueEvents(b *pgx.Batch, list []storage.Event) {
	count := map[chat.Inbox]int64{}
	for _, e := range list {
		count[e.Inbox]++
	}
	inboxes := make([]chat.Inbox, 0, len(count))
	for in := range count {
		inboxes = append(inboxes, in)
	}
	slices.SortFunc(inboxes, storage.CompareInboxes)
	place := make(map[chat.Inbox]int64, len(inboxes))
	for i, in := range inboxes {
		place[in] = int64(i + 1) // arrays count from 1
	}
	counts := column(inboxes, func(in chat.Inbox) int64 { return count[in] })
	follow := column(list, func(e storage.Event) int64 {
		count[e.Inbox]--
		return count[e.Inbox]
	})
	b.Queue(tell,
		column(inboxes, func(in chat.Inbox) string { return string(in.Tenant) }),
		column(inboxes, func(in chat.Inbox) string { return in.Kind }),
		column(inboxes, func(in chat.Inbox) string { return in.Name }),
		counts,
		column(list, func(e storage.Event) int64 { return place[e.Inbox] }),
		follow,
		column(list, func(e storage.Event) int64 { return int64(e.Inbox.Slot().Partition()) }),
		column(list, func(e storage.Event) int64 { return storage.Millis(e.At) }),
		column(list, func(e storage.Event) []byte { return s.Codec.Seal(e.Body) }))
}
