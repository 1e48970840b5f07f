package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

type queryRow = query.Row

// What a scope names comes in as one JSON array per kind, so that two hundred
// entries cost a handful of statements. CROSS JOIN keeps the order: the
// array outside, the primary key (or the index named) inside.
const (
	onNode = `
	SELECT DISTINCT tenant, role, subject
	FROM session INDEXED BY session_node
	WHERE node = $1 AND partition = $2 AND up`
	makeAccounts = `
	INSERT INTO account (tenant, role, subject)
	SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)
	WHERE true
	ON CONFLICT DO NOTHING`
	loadAccounts = `
	SELECT a.tenant, a.role, a.subject, a.name, a.seen
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN account a ON a.tenant = k.value ->> 0 AND a.role = k.value ->> 1 AND a.subject = k.value ->> 2`
	loadSessions = `
	SELECT s.tenant, s.role, s.subject, s.client, s.node, s.epoch, s.up, s.changed
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN session s ON s.tenant = k.value ->> 0 AND s.role = k.value ->> 1 AND s.subject = k.value ->> 2
	ORDER BY s.tenant, s.role, s.subject, s.client`
	loadSaid = `
	SELECT s.tenant, s.role, s.subject, s.id, s.hash, s.conversation, s.seq, s.at
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN said s ON s.tenant = k.value ->> 0 AND s.role = k.value ->> 1 AND s.subject = k.value ->> 2 AND s.id = k.value ->> 3`
	loadNamed = `
	SELECT ` + query.HeadColumns + `
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN conversation c ON c.tenant = $2 AND c.id = k.value`
	loadOpen = `
	SELECT ` + query.HeadColumns + `
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN conversation c INDEXED BY conversation_open
		ON c.tenant = k.value ->> 0 AND c.customer_role = k.value ->> 1 AND c.customer = k.value ->> 2 AND c.state IN ('waiting', 'held')`
	loadAgents = `
	SELECT ` + query.AgentColumns + `
	FROM (SELECT value FROM json_each($1)) k
	CROSS JOIN agent a ON a.tenant = k.value ->> 0 AND a.id = k.value ->> 1`
)

// load reads what the scope names. The writer's turn is the lock on all of it.
func (s *Store) load(ctx context.Context, t *tx, scope storage.Scope) (storage.Loaded, error) {
	l := storage.Loaded{
		Accounts: map[chat.Account]*storage.Account{}, Said: map[storage.SaidKey]storage.Said{},
		Conversations: map[chat.ConversationID]*chat.Conversation{}, Agents: map[storage.AgentKey]*chat.Agent{},
		Sessions: map[chat.Account][]storage.Session{}, Nodes: map[storage.NodeKey][]chat.Account{},
		Missing: map[chat.ConversationID]bool{},
	}
	accounts := scope.Accounts
	for _, k := range scope.Nodes {
		if err := t.Query(ctx, onNode, []any{k.Node, k.Partition}, func(r queryRow) error {
			var a chat.Account
			err := r.Scan(&a.Tenant, &a.Role, &a.Subject)
			l.Nodes[k] = append(l.Nodes[k], a)
			return err
		}); err != nil {
			return l, err
		}
		accounts = append(slices.Clip(accounts), l.Nodes[k]...)
	}
	if err := s.loadAccounts(ctx, t, accounts, &l); err != nil {
		return l, err
	}
	said := make([][4]string, 0, len(scope.Said))
	for _, k := range scope.Said {
		said = append(said, [4]string{string(k.Account.Tenant), string(k.Account.Role), k.Account.Subject, string(k.ID)})
	}
	if err := each(ctx, t, loadSaid, said, func(r queryRow) error {
		var k storage.SaidKey
		var was storage.Said
		var hash []byte
		var seq, at int64
		if err := r.Scan(&k.Account.Tenant, &k.Account.Role, &k.Account.Subject, &k.ID, &hash, &was.Conversation, &seq, &at); err != nil {
			return err
		}
		if copy(was.Hash[:], hash) != len(was.Hash) {
			return fmt.Errorf("sqlite: the hash of what %s said has %d bytes", k.Account, len(hash))
		}
		was.Seq, was.At = uint64(seq), storage.Time(at)
		l.Said[k] = was
		return nil
	}); err != nil {
		return l, err
	}
	for _, id := range scope.Conversations {
		l.Missing[id] = true
	}
	if err := each(ctx, t, loadNamed, scope.Conversations, func(r queryRow) error {
		c, err := s.ScanHead(r)
		if err == nil {
			l.Conversations[c.ID] = c
			delete(l.Missing, c.ID)
		}
		return err
	}, string(scope.ConversationsOf)); err != nil {
		return l, err
	}
	agents := make([][2]string, 0, len(scope.Agents))
	for _, k := range scope.Agents {
		agents = append(agents, [2]string{string(k.Tenant), k.ID})
	}
	return l, each(ctx, t, loadAgents, agents, func(r queryRow) error {
		a, err := query.ScanAgent(r)
		l.Agents[storage.AgentKey{Tenant: a.Tenant, ID: a.ID}] = &a
		return err
	})
}

// loadAccounts makes what is missing and loads the accounts with their sessions and open conversations.
func (s *Store) loadAccounts(ctx context.Context, t *tx, accounts []chat.Account, l *storage.Loaded) error {
	if len(accounts) == 0 {
		return nil
	}
	keys, err := keysOf(accounts)
	if err != nil {
		return err
	}
	if _, err := t.Exec(ctx, makeAccounts, keys); err != nil {
		return err
	}
	if err := t.Query(ctx, loadAccounts, []any{keys}, func(r queryRow) error {
		var a storage.Account
		var seen int64
		err := r.Scan(&a.Account.Tenant, &a.Account.Role, &a.Account.Subject, &a.Name, &seen)
		a.Seen = storage.Time(seen)
		l.Accounts[a.Account] = &a
		return err
	}); err != nil {
		return err
	}
	if err := t.Query(ctx, loadSessions, []any{keys}, func(r queryRow) error {
		x, err := query.ScanSession(r)
		l.Sessions[x.Account] = append(l.Sessions[x.Account], x)
		return err
	}); err != nil {
		return err
	}
	return t.Query(ctx, loadOpen, []any{keys}, func(r queryRow) error {
		c, err := s.ScanHead(r)
		if err == nil {
			l.Conversations[c.ID] = c
		}
		return err
	})
}

func keysOf(accounts []chat.Account) (string, error) {
	keys := make([][3]string, 0, len(accounts))
	for _, a := range accounts {
		keys = append(keys, [3]string{string(a.Tenant), string(a.Role), a.Subject})
	}
	b, err := json.Marshal(keys)
	return string(b), err
}

// each runs a statement on a JSON array of keys, $1, unless there are none.
func each[K any](ctx context.Context, t *tx, text string, keys []K, row func(queryRow) error, more ...any) error {
	if len(keys) == 0 {
		return nil
	}
	b, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	return t.Query(ctx, text, append([]any{string(b)}, more...), row)
}
