package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"holdline/chat"
	"holdline/storage"
)

// HeadColumns are the columns of a head, in the order of HeadArgs and ScanHead.
const HeadColumns = `tenant, id, customer_role, customer, customer_name, queue, state, holder, holder_name,
	epoch, accepted, episode, seq, last_at, last_text, last_from, opened, since, resolved`

// ScanHead reads a head.
func (q *Queries) ScanHead(r Row) (*chat.Conversation, error) {
	var c chat.Conversation
	var epoch, seq, lastAt, opened, since, resolved int64
	var lastText []byte
	if err := r.Scan(&c.Tenant, &c.ID, &c.Customer.Role, &c.Customer.Subject, &c.CustomerName, &c.Queue, &c.State, &c.Holder, &c.HolderName,
		&epoch, &c.Accepted, &c.Episode, &seq, &lastAt, &lastText, &c.LastFrom, &opened, &since, &resolved); err != nil {
		return nil, err
	}
	text, err := q.Codec.Open(lastText)
	if err != nil {
		return nil, fmt.Errorf("conversation %s: %w", c.ID, err)
	}
	c.Customer.Tenant, c.LastText = c.Tenant, string(text)
	c.Epoch, c.Seq = uint64(epoch), uint64(seq)
	c.LastAt, c.Opened, c.Since, c.Resolved = storage.Time(lastAt), storage.Time(opened), storage.Time(since), storage.Time(resolved)
	return &c, nil
}

const head = `SELECT ` + HeadColumns + ` FROM conversation WHERE tenant = $1 AND id = $2`

// Conversation returns a head.
func (q *Queries) Conversation(ctx context.Context, t chat.Tenant, id chat.ConversationID) (*chat.Conversation, error) {
	var c *chat.Conversation
	err := q.Read.Query(ctx, head, []any{string(t), string(id)}, func(r Row) (err error) {
		c, err = q.ScanHead(r)
		return err
	})
	if err == nil && c == nil {
		err = chat.ErrNotFound
	}
	return c, wrap(err, "conversation %s", id)
}

// What a listing can be restricted by. The states are spelled as in the partial
// indexes, so that the planner can see which may serve: conversation_waiting with a
// queue, conversation_held with a holder, else conversation_unresolved,
// conversation_customer or conversation_since.
const (
	headsOf        = `SELECT ` + HeadColumns + ` FROM conversation WHERE tenant = $1 AND (since, id) > ($2, $3)`
	headsWaiting   = ` AND state = 'waiting'` + headsOpen
	headsHeld      = ` AND state = 'held'` + headsOpen
	headsResolved  = ` AND state = 'resolved'`
	headsOpen      = ` AND state IN ('waiting', 'held')`
	headsUnheld    = ` AND state IN ('waiting', 'resolved')`
	headsUnwaiting = ` AND state IN ('held', 'resolved')`
	headsQueue     = ` AND queue = $`
	headsHolder    = ` AND holder = $`
	headsCustomer  = ` AND customer = $`
	headsLimit     = ` ORDER BY since, id LIMIT $`
)

// Conversations returns heads ordered by (Since, ID).
func (q *Queries) Conversations(ctx context.Context, by storage.ConversationQuery) ([]*chat.Conversation, error) {
	var text strings.Builder
	text.WriteString(headsOf)
	states, ok := statesOf(by.States)
	if !ok {
		return nil, fmt.Errorf("%w: conversations by states %q", chat.ErrInvalid, by.States)
	}
	text.WriteString(states)
	args := []any{string(by.Tenant), storage.Millis(by.AfterSince), string(by.AfterID)}
	and := func(clause string, value any) {
		args = append(args, value)
		text.WriteString(clause)
		text.WriteString(strconv.Itoa(len(args)))
	}
	if by.Queue != "" {
		and(headsQueue, string(by.Queue))
	}
	if by.Holder != "" {
		and(headsHolder, by.Holder)
	}
	if by.Customer != "" {
		and(headsCustomer, by.Customer)
	}
	and(headsLimit, storage.Limit(by.Limit, storage.MaxPage))
	list := []*chat.Conversation{}
	err := q.Read.Query(ctx, text.String(), args, func(r Row) error {
		c, err := q.ScanHead(r)
		list = append(list, c)
		return err
	})
	return list, wrap(err, "conversations of %s", by.Tenant)
}

// statesOf is the clause for a set of states; ok is false for what is no state.
func statesOf(list []chat.State) (clause string, ok bool) {
	var waiting, held, resolved bool
	for _, s := range list {
		switch s {
		case chat.Waiting:
			waiting = true
		case chat.Held:
			held = true
		case chat.Resolved:
			resolved = true
		default:
			return "", false
		}
	}
	switch [3]bool{waiting, held, resolved} {
	case [3]bool{true, false, false}:
		return headsWaiting, true
	case [3]bool{false, true, false}:
		return headsHeld, true
	case [3]bool{false, false, true}:
		return headsResolved, true
	case [3]bool{true, true, false}:
		return headsOpen, true
	case [3]bool{true, false, true}:
		return headsUnheld, true
	case [3]bool{false, true, true}:
		return headsUnwaiting, true
	}
	return "", true
}

// MessageColumns are the columns of a message, in the order of MessageArgs.
const MessageColumns = `tenant, conversation, seq, at, id, role, subject, name, kind, body`

// messages is served by the primary key; $3 is the seq to stay below.
const messages = `
	SELECT ` + MessageColumns + `
	FROM message
	WHERE tenant = $1 AND conversation = $2 AND seq < $3
	ORDER BY seq DESC
	LIMIT $4`

// Messages returns messages before a seq, newest first.
func (q *Queries) Messages(ctx context.Context, t chat.Tenant, id chat.ConversationID, before uint64, limit int) ([]chat.Message, error) {
	if before == 0 || before > maxSeq {
		before = maxSeq
	}
	list := []chat.Message{}
	err := q.Read.Query(ctx, messages, []any{string(t), string(id), int64(before), storage.Limit(limit, storage.MaxMessages)}, func(r Row) error {
		var m chat.Message
		var seq, at int64
		var body []byte
		if err := r.Scan(&m.Tenant, &m.Conversation, &seq, &at, &m.ID, &m.From.Role, &m.From.Subject, &m.Name, &m.Kind, &body); err != nil {
			return err
		}
		text, err := q.Codec.Open(body)
		m.From.Tenant, m.Seq, m.At, m.Text = m.Tenant, uint64(seq), storage.Time(at), string(text)
		list = append(list, m)
		return err
	})
	return list, wrap(err, "messages of %s", id)
}

const maxSeq = 1<<63 - 1

// SessionColumns are the columns of a session, in the order of ScanSession.
const SessionColumns = `tenant, role, subject, client, node, epoch, up, changed`

// ScanSession reads a session.
func ScanSession(r Row) (storage.Session, error) {
	var s storage.Session
	var epoch, changed int64
	err := r.Scan(&s.Account.Tenant, &s.Account.Role, &s.Account.Subject, &s.Client, &s.Node, &epoch, &s.Up, &changed)
	s.Epoch, s.Changed = uint64(epoch), storage.Time(changed)
	return s, err
}

const sessions = `
	SELECT ` + SessionColumns + `
	FROM session
	WHERE tenant = $1 AND role = $2 AND subject = $3
	ORDER BY client`

// Sessions lists an account's sessions, ordered by client.
func (q *Queries) Sessions(ctx context.Context, a chat.Account) ([]storage.Session, error) {
	list := []storage.Session{}
	err := q.Read.Query(ctx, sessions, []any{string(a.Tenant), string(a.Role), a.Subject}, func(r Row) error {
		s, err := ScanSession(r)
		list = append(list, s)
		return err
	})
	return list, wrap(err, "sessions of %s", a)
}
