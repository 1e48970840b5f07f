package postgres

import (
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

// What a scope names comes in as arrays, sorted. LATERAL makes each key one
// look into an index, in the order of the keys, and FOR UPDATE inside it locks in that
// order; OFFSET 0 keeps the planner from making another join of it.
const (
	onNode = `
	SELECT DISTINCT s.tenant, s.role, s.subject
	FROM session s
	WHERE s.node = $1 AND s.partition = $2 AND s.up`
	// makeAccounts waits for another transaction that makes the same account, and sees it then.
	makeAccounts = `
	INSERT INTO account (tenant, role, subject)
	SELECT tenant, role, subject FROM unnest($1::text[], $2::text[], $3::text[]) k (tenant, role, subject)
	ON CONFLICT DO NOTHING`
	lockAccounts = `
	SELECT a.tenant, a.role, a.subject, a.name, a.seen
	FROM unnest($1::text[], $2::text[], $3::text[]) k (tenant, role, subject)
	CROSS JOIN LATERAL (
		SELECT tenant, role, subject, name, seen FROM account
		WHERE tenant = k.tenant AND role = k.role AND subject = k.subject
		FOR UPDATE) a`
	loadSessions = `
	SELECT ` + query.SessionColumns + `
	FROM unnest($1::text[], $2::text[], $3::text[]) k (t, r, s)
	CROSS JOIN LATERAL (
		SELECT ` + query.SessionColumns + ` FROM session
		WHERE tenant = k.t AND role = k.r AND subject = k.s
		ORDER BY client OFFSET 0) s`
	loadSaid = `
	SELECT s.tenant, s.role, s.subject, s.id, s.hash, s.conversation, s.seq, s.at
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) k (tenant, role, subject, id)
	CROSS JOIN LATERAL (
		SELECT tenant, role, subject, id, hash, conversation, seq, at FROM said
		WHERE tenant = k.tenant AND role = k.role AND subject = k.subject AND id = k.id
		OFFSET 0) s`
	// lockHeads locks those named ($1, $2) and the open ones of accounts ($3, $4,
	// $5; index conversation_open), all in one order. The accounts are locked, so no other can open meanwhile.
	lockHeads = `
	SELECT ` + query.HeadColumns + `
	FROM (
		SELECT tenant COLLATE "C" AS t, id COLLATE "C" AS i FROM (
			SELECT $1 AS tenant, unnest($2::text[]) AS id
			UNION
			SELECT o.tenant, o.id
			FROM unnest($3::text[], $4::text[], $5::text[]) a (tenant, role, subject)
			CROSS JOIN LATERAL (
				SELECT tenant, id FROM conversation
				WHERE tenant = a.tenant AND customer_role = a.role AND customer = a.subject AND state IN ('waiting', 'held')
				OFFSET 0) o
		) u
		ORDER BY 1, 2
	) k
	CROSS JOIN LATERAL (
		SELECT ` + query.HeadColumns + ` FROM conversation
		WHERE tenant = k.t AND id = k.i
		FOR UPDATE) c`
	lockAgents = `
	SELECT a.id
	FROM unnest($1::text[], $2::text[]) k (tenant, id)
	CROSS JOIN LATERAL (SELECT id FROM agent WHERE tenant = k.tenant AND id = k.id FOR UPDATE) a`
	// loadAgents counts after the lock, as a statement of its own: it sees what the last holder of the lock gave them.
	loadAgents = `
	SELECT ` + query.AgentColumns + `
	FROM unnest($1::text[], $2::text[]) k (tenant, id)
	JOIN agent a ON a.tenant = k.tenant AND a.id = k.id`
)

// loading reads what a scope names.
type loading struct {
	*Store
	scope storage.Scope
	l     storage.Loaded
}

// queueNodes adds the accounts of the scope's nodes to its accounts.
func (l *loading) queueNodes(b *pgx.Batch) {
	for _, k := range l.scope.Nodes {
		b.Queue(onNode, k.Node, k.Partition).Query(func(rows pgx.Rows) error {
			return eachRow(rows, func() error {
				var a chat.Account
				err := rows.Scan(&a.Tenant, &a.Role, &a.Subject)
				l.scope.Accounts = append(l.scope.Accounts, a)
				return err
			})
		})
	}
}

func (l *loading) queue(b *pgx.Batch) {
	l.l = storage.Loaded{
		Accounts: map[chat.Account]*storage.Account{}, Said: map[storage.SaidKey]storage.Said{},
		Conversations: map[chat.ConversationID]*chat.Conversation{}, Agents: map[storage.AgentKey]*chat.Agent{},
		Sessions: map[chat.Account][]storage.Session{}, Nodes: map[storage.NodeKey][]chat.Account{},
		Missing: map[chat.ConversationID]bool{},
	}
	accounts := l.scope.Accounts
	if len(l.scope.Nodes) > 0 {
		slices.SortFunc(accounts, storage.CompareAccounts)
		accounts = slices.Compact(accounts)
	}
	tenants, roles, subjects := accountArrays(accounts, func(a chat.Account) chat.Account { return a })
	if len(accounts) > 0 {
		b.Queue(makeAccounts, tenants, roles, subjects)
		b.Queue(lockAccounts, tenants, roles, subjects).Query(l.accounts)
		b.Queue(loadSessions, tenants, roles, subjects).Query(l.sessions)
	}
	if said := l.scope.Said; len(said) > 0 {
		t, r, s := accountArrays(said, func(k storage.SaidKey) chat.Account { return k.Account })
		b.Queue(loadSaid, t, r, s, column(said, func(k storage.SaidKey) string { return string(k.ID) })).Query(l.said)
	}
	ids := column(l.scope.Conversations, func(id chat.ConversationID) string { return string(id) })
	if len(ids)+len(accounts) > 0 {
		b.Queue(lockHeads, string(l.scope.ConversationsOf), ids, tenants, roles, subjects).Query(l.heads)
	}
	if agents := l.scope.Agents; len(agents) > 0 {
		t := column(agents, func(k storage.AgentKey) string { return string(k.Tenant) })
		id := column(agents, func(k storage.AgentKey) string { return k.ID })
		b.Queue(lockAgents, t, id)
		b.Queue(loadAgents, t, id).Query(l.agents)
	}
}

func (l *loading) accounts(rows pgx.Rows) error {
	return eachRow(rows, func() error {
		var a storage.Account
		var seen int64
		err := rows.Scan(&a.Account.Tenant, &a.Account.Role, &a.Account.Subject, &a.Name, &seen)
		a.Seen = storage.Time(seen)
		l.l.Accounts[a.Account] = &a
		return err
	})
}

func (l *loading) sessions(rows pgx.Rows) error {
	return eachRow(rows, func() error {
		s, err := query.ScanSession(rows)
		l.l.Sessions[s.Account] = append(l.l.Sessions[s.Account], s)
		return err
	})
}

func (l *loading) said(rows pgx.Rows) error {
	return eachRow(rows, func() error {
		var k storage.SaidKey
		var was storage.Said
		var hash []byte
		var seq, at int64
		if err := rows.Scan(&k.Account.Tenant, &k.Account.Role, &k.Account.Subject, &k.ID, &hash, &was.Conversation, &seq, &at); err != nil {
			return err
		}
		if copy(was.Hash[:], hash) != len(was.Hash) {
			return fmt.Errorf("postgres: the hash of what %s said has %d bytes", k.Account, len(hash))
		}
		was.Seq, was.At = uint64(seq), storage.Time(at)
		l.l.Said[k] = was
		return nil
	})
}

func (l *loading) heads(rows pgx.Rows) error {
	return eachRow(rows, func() error {
		c, err := l.ScanHead(rows)
		if err == nil {
			l.l.Conversations[c.ID] = c
		}
		return err
	})
}

func (l *loading) agents(rows pgx.Rows) error {
	return eachRow(rows, func() error {
		a, err := query.ScanAgent(rows)
		l.l.Agents[storage.AgentKey{Tenant: a.Tenant, ID: a.ID}] = &a
		return err
	})
}

// loaded is what was read, once every answer is in.
func (l *loading) loaded() storage.Loaded {
	for _, id := range l.scope.Conversations {
		if l.l.Conversations[id] == nil {
			l.l.Missing[id] = true
		}
	}
	// Who is on a node is told by the sessions, which the lock on the account covers.
	for _, k := range l.scope.Nodes {
		for a, sessions := range l.l.Sessions {
			if a.Slot().Partition() == k.Partition &&
				slices.ContainsFunc(sessions, func(s storage.Session) bool { return s.Up && s.Node == k.Node }) {
				l.l.Nodes[k] = append(l.l.Nodes[k], a)
			}
		}
		slices.SortFunc(l.l.Nodes[k], storage.CompareAccounts)
	}
	return l.l
}

func eachRow(rows pgx.Rows, row func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column is one field of every element, as an array for the server.
func column[T, V any](list []T, field func(T) V) []V {
	values := make([]V, len(list))
	for i, v := range list {
		values[i] = field(v)
	}
	return values
}

func accountArrays[T any](list []T, account func(T) chat.Account) (tenants, roles, subjects []string) {
	tenants = column(list, func(v T) string { return string(account(v).Tenant) })
	roles = column(list, func(v T) string { return string(account(v).Role) })
	subjects = column(list, func(v T) string { return account(v).Subject })
	return tenants, roles, subjects
}
