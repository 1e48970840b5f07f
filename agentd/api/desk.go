package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"holdline/chat"
	"holdline/storage"
)

// maxDesk bounds the open conversations of one snapshot, beside the agent's own.
const maxDesk = 5000

// Agent is an agent as colleagues see them.
type Agent struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Intent    chat.Intent `json:"intent" enum:"available,busy,away"`
	Capacity  int         `json:"capacity" doc:"How many conversations routing gives at most"`
	Load      int         `json:"load" doc:"How many are held now"`
	Reachable bool        `json:"reachable" doc:"Whether a desk is connected"`
}

func agentOf(a chat.Agent) Agent {
	return Agent{ID: a.ID, Name: a.Name, Intent: a.Intent, Capacity: a.Capacity, Load: a.Load, Reachable: a.Reachable}
}

// Queue is a queue that the agent serves.
type Queue struct {
	ID chat.QueueID `json:"id"`
}

// Desk is everything a desk shows when it opens.
type Desk struct {
	Me            Agent          `json:"me"`
	Agents        []Agent        `json:"agents" nullable:"false"`
	Queues        []Queue        `json:"queues" nullable:"false"`
	Conversations []Conversation `json:"conversations" nullable:"false" doc:"All open ones: the agent's own, then the waiting, then those of others; the longest waiting first"`
	Events        Events         `json:"events"`
	More          bool           `json:"more" doc:"There are more open conversations than fit; list them with GET /api/v1/conversations"`
}

// Events says up to which event of each inbox a snapshot is complete. Later ones may be in it
// already; they are whole pictures or numbered messages, so taking them again changes nothing.
type Events struct {
	Own    chat.EventID                  `json:"own"`
	Queues map[chat.QueueID]chat.EventID `json:"queues"`
}

type agentOut struct{ Body Agent }

func (s *server) routeDesk() {
	agents := huma.Middlewares{s.only(chat.AgentRole)}
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: prefix + "/me", Tags: []string{"desk"},
		Summary: "The agent who asks", Security: withAny, Errors: readErrors, Middlewares: agents,
	}), func(ctx context.Context, _ *struct{}) (*agentOut, error) {
		a, err := s.agent(ctx, callerOf(ctx).account)
		return &agentOut{a}, s.problem(ctx, err)
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "set-intent", Method: http.MethodPut, Path: prefix + "/me/intent", Tags: []string{"desk"},
		Summary: "Say whether you want conversations", Security: withAny, Errors: readErrors, Middlewares: agents,
		Description: "Stored until changed again; losing the connection does not change it.",
	}), func(ctx context.Context, in *struct {
		Body struct {
			Intent chat.Intent `json:"intent" enum:"available,busy,away"`
		}
	}) (*agentOut, error) {
		c := callerOf(ctx)
		a, err := s.staff(c.account).SetIntent(ctx, c.account.Subject, in.Body.Intent)
		return &agentOut{agentOf(a)}, s.problem(ctx, err)
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "desk", Method: http.MethodGet, Path: prefix + "/desk", Tags: []string{"desk"},
		Summary: "Everything open, and from which events on to follow it", Security: withAny, Errors: readErrors, Middlewares: agents,
	}), func(ctx context.Context, _ *struct{}) (*struct{ Body Desk }, error) {
		d, err := s.desk(ctx, callerOf(ctx).account)
		return &struct{ Body Desk }{d}, s.problem(ctx, err)
	})
}

// desk reads the event numbers before the rows: what happens in between is
// both in the rows and among the later events, and never in neither.
func (s *server) desk(ctx context.Context, me chat.Account) (d Desk, err error) {
	d.Queues = []Queue{{chat.DefaultQueue}}
	if d.Events, err = s.events(ctx, me, d.Queues); err != nil {
		return Desk{}, err
	}
	agents, err := s.Store.Agents(ctx, me.Tenant)
	if err != nil {
		return Desk{}, err
	}
	d.Agents = []Agent{}
	for _, a := range agents {
		if a.ID == me.Subject {
			d.Me = agentOf(a)
		}
		if !a.Disabled {
			d.Agents = append(d.Agents, agentOf(a))
		}
	}
	own, _, err := s.all(ctx, storage.ConversationQuery{Tenant: me.Tenant, States: []chat.State{chat.Held}, Holder: me.Subject})
	if err != nil {
		return Desk{}, err
	}
	rest, more, err := s.all(ctx, storage.ConversationQuery{Tenant: me.Tenant, States: []chat.State{chat.Waiting, chat.Held}})
	if err != nil {
		return Desk{}, err
	}
	seen := map[chat.ConversationID]bool{}
	var list []*chat.Conversation
	for _, c := range append(own, rest...) { // one that moved between the reads keeps its first picture; its event follows
		if !seen[c.ID] && chat.May(me, chat.VerbRead, c) == nil {
			seen[c.ID] = true
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b *chat.Conversation) int {
		return cmp.Or(rank(a, me)-rank(b, me), chat.CompareWaiting(a, b))
	})
	d.Conversations = conversationsOf(list)
	d.More = more
	return d, nil
}

// rank orders the desk's list: own, waiting, others'.
func rank(c *chat.Conversation, me chat.Account) int {
	switch {
	case c.State == chat.Held && c.Holder == me.Subject:
		return 0
	case c.State == chat.Waiting:
		return 1
	}
	return 2
}

func (s *server) events(ctx context.Context, me chat.Account, queues []Queue) (Events, error) {
	incarnation, err := s.Store.Incarnation(ctx)
	if err != nil {
		return Events{}, err
	}
	n, err := s.Store.LastEvent(ctx, me.Inbox())
	if err != nil {
		return Events{}, err
	}
	e := Events{Own: chat.NewEventID(incarnation, n), Queues: map[chat.QueueID]chat.EventID{}}
	for _, q := range queues {
		if n, err = s.Store.LastEvent(ctx, q.ID.Inbox(me.Tenant)); err != nil {
			return Events{}, err
		}
		e.Queues[q.ID] = chat.NewEventID(incarnation, n)
	}
	return e, nil
}

// all reads a listing page by page, up to maxDesk; more says that there was more.
func (s *server) all(ctx context.Context, q storage.ConversationQuery) (list []*chat.Conversation, more bool, err error) {
	q.Limit = maxPage
	for len(list) < maxDesk {
		page, err := s.Store.Conversations(ctx, q)
		if err != nil {
			return nil, false, err
		}
		list = append(list, page...)
		if len(page) < q.Limit {
			return list, false, nil
		}
		last := page[len(page)-1]
		q.AfterSince, q.AfterID = last.Since, last.ID
	}
	return list, true, nil
}
