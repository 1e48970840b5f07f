package query

import (
	"context"
	"errors"
	"fmt"

	"holdline/chat"
	"holdline/storage"
)

// AgentColumns are the columns of table agent (as a) that make an agent, in
// the order of ScanAgent, load and reachability counted as of now.
// They are served by indexes conversation_held and the primary key of session.
const AgentColumns = `a.tenant, a.id, a.name, a.disabled, a.intent, a.capacity, a.idle_since,
	(SELECT count(*) FROM conversation c WHERE c.tenant = a.tenant AND c.holder = a.id AND c.state = 'held'),
	EXISTS (SELECT 1 FROM session s WHERE s.tenant = a.tenant AND s.role = 'agent' AND s.subject = a.id AND s.up)`

// ScanAgent reads an agent, and what follows its columns into more.
func ScanAgent(r Row, more ...any) (chat.Agent, error) {
	var a chat.Agent
	var idle int64
	err := r.Scan(append([]any{&a.Tenant, &a.ID, &a.Name, &a.Disabled, &a.Intent, &a.Capacity, &idle, &a.Load, &a.Reachable}, more...)...)
	a.IdleSince = storage.Time(idle)
	return a, err
}

const agents = `SELECT ` + AgentColumns + ` FROM agent a WHERE a.tenant = $1 ORDER BY a.id`

// Agents returns every agent of a tenant, ordered by id.
func (q *Queries) Agents(ctx context.Context, t chat.Tenant) ([]chat.Agent, error) {
	list := []chat.Agent{}
	err := q.Read.Query(ctx, agents, []any{string(t)}, func(r Row) error {
		a, err := ScanAgent(r)
		list = append(list, a)
		return err
	})
	return list, wrap(err, "agents of %s", t)
}

const credential = `SELECT ` + AgentColumns + `, a.password_hash FROM agent a WHERE a.tenant = $1 AND a.id = $2`

// Credential returns how an agent signs in.
func (q *Queries) Credential(ctx context.Context, k storage.AgentKey) (storage.Credential, error) {
	var c storage.Credential
	found := false
	err := q.Read.Query(ctx, credential, []any{string(k.Tenant), k.ID}, func(r Row) (err error) {
		found = true
		c.Agent, err = ScanAgent(r, &c.PasswordHash)
		return err
	})
	if err == nil && !found {
		err = chat.ErrNotFound
	}
	return c, wrap(err, "agent %s", k.ID)
}

const (
	createAgent = `
	INSERT INTO agent (tenant, id, name, disabled, intent, capacity, password_hash)
	VALUES ($1, $2, $3, $4, $5, $6, $7)`
	changeAgent = `
	UPDATE agent
	SET name = $3, disabled = $4, intent = $5, capacity = $6,
		password_hash = CASE WHEN $7 = '' THEN password_hash ELSE $7 END
	WHERE tenant = $1 AND id = $2`
)

// PutAgent creates or changes an agent.
func (q *Queries) PutAgent(ctx context.Context, c storage.Credential, create bool, by storage.Audit) error {
	if err := c.Storable(by); err != nil {
		return err
	}
	a := c.Agent
	err := q.Write.Tx(ctx, func(tx DB) error {
		text := changeAgent
		if create {
			text = createAgent
		}
		n, err := tx.Exec(ctx, text, string(a.Tenant), a.ID, a.Name, a.Disabled, string(a.Intent), a.Capacity, c.PasswordHash)
		switch {
		case errors.Is(err, chat.ErrConflict):
			return fmt.Errorf("%w: it exists", chat.ErrConflict)
		case err != nil:
			return err
		case n == 0:
			return chat.ErrNotFound
		}
		return audit(ctx, tx, by)
	})
	return wrap(err, "agent %s", a.ID)
}
