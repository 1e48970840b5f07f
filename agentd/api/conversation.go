package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdline/chat"
	"holdline/storage"
)

const maxPage = 500 // heads in one read

// Conversation is the head of a conversation as agents see it.
type Conversation struct {
	ID chat.ConversationID `json:"conversation"`
	chat.Head
}

func conversationOf(c *chat.Conversation) Conversation {
	return Conversation{c.ID, chat.HeadOf(c, chat.ForAgent)}
}

func conversationsOf(list []*chat.Conversation) []Conversation {
	out := make([]Conversation, 0, len(list))
	for _, c := range list {
		out = append(out, conversationOf(c))
	}
	return out
}

// Listing is one page of conversations.
type Listing struct {
	Conversations []Conversation `json:"conversations" nullable:"false"`
	Next          string         `json:"next" doc:"Give it as after to get the next page; empty on the last one"`
}

// Messages is one page of what was said.
type Messages struct {
	Messages []chat.Event `json:"messages" nullable:"false" doc:"Events of type message, ascending by seq, without event number"`
	More     bool         `json:"more" doc:"There are older ones: ask with before = the smallest seq"`
}

type listIn struct {
	State    []chat.State `query:"state" enum:"waiting,held,resolved" doc:"Comma-separated; any when absent"`
	Holder   string       `query:"holder" maxLength:"128" doc:"Id of the agent who holds it"`
	Customer string       `query:"customer" maxLength:"128" doc:"Id of the customer"`
	Limit    int          `query:"limit" minimum:"1" maximum:"500" default:"100"`
	After    string       `query:"after" maxLength:"64" doc:"next of the page before"`
}

// ConversationPath names one conversation. (Exported because huma fills no embedded type that is not.)
type ConversationPath struct {
	ID chat.ConversationID `path:"id" pattern:"^[0-9a-f]{26}$" example:"c0ffee00112233445566778899"`
}

func (s *server) routeConversations() {
	readers := huma.Middlewares{s.only(chat.AgentRole, chat.Service)}
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "list-conversations", Method: http.MethodGet, Path: prefix + "/conversations", Tags: []string{"conversations"},
		Summary: "Conversations, the longest waiting first", Security: withAny, Errors: readErrors, Middlewares: readers,
	}), func(ctx context.Context, in *listIn) (*struct{ Body Listing }, error) {
		l, err := s.list(ctx, callerOf(ctx).account, in)
		return &struct{ Body Listing }{l}, s.problem(ctx, err)
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "get-conversation", Method: http.MethodGet, Path: prefix + "/conversations/{id}", Tags: []string{"conversations"},
		Summary: "One conversation", Security: withAny, Errors: findErrors, Middlewares: readers,
	}), func(ctx context.Context, in *ConversationPath) (*struct{ Body Conversation }, error) {
		c, err := s.open(ctx, chat.VerbRead, in.ID)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &struct{ Body Conversation }{conversationOf(c)}, nil
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "list-messages", Method: http.MethodGet, Path: prefix + "/conversations/{id}/messages", Tags: []string{"conversations"},
		Summary: "What was said, the newest page first", Security: withAny, Errors: findErrors, Middlewares: readers,
	}), func(ctx context.Context, in *struct {
		ConversationPath
		Before uint64 `query:"before" doc:"Only messages with a smaller seq; the newest when absent"`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	}) (*struct{ Body Messages }, error) {
		m, err := s.messages(ctx, in.ID, in.Before, in.Limit)
		return &struct{ Body Messages }{m}, s.problem(ctx, err)
	})
}

// open returns a conversation that the caller may do something to.
func (s *server) open(ctx context.Context, do chat.Verb, id chat.ConversationID) (*chat.Conversation, error) {
	who := callerOf(ctx).account
	c, err := s.Store.Conversation(ctx, who.Tenant, id)
	if err != nil {
		return nil, err
	}
	return c, chat.May(who, do, c)
}

func (s *server) list(ctx context.Context, who chat.Account, in *listIn) (Listing, error) {
	q := storage.ConversationQuery{
		Tenant: who.Tenant, States: in.State, Holder: in.Holder, Customer: in.Customer, Limit: in.Limit,
	}
	if in.After != "" {
		var err error
		if q.AfterSince, q.AfterID, err = parseAfter(in.After); err != nil {
			return Listing{}, err
		}
	}
	list, err := s.Store.Conversations(ctx, q)
	if err != nil {
		return Listing{}, err
	}
	var l Listing
	if len(list) == q.Limit {
		l.Next = after(list[len(list)-1])
	}
	list = slices.DeleteFunc(list, func(c *chat.Conversation) bool { return chat.May(who, chat.VerbRead, c) != nil })
	l.Conversations = conversationsOf(list)
	return l, nil
}

func (s *server) messages(ctx context.Context, id chat.ConversationID, before uint64, limit int) (Messages, error) {
	c, err := s.open(ctx, chat.VerbRead, id)
	if err != nil {
		return Messages{}, err
	}
	list, err := s.Store.Messages(ctx, c.Tenant, id, before, limit)
	if err != nil {
		return Messages{}, err
	}
	m := Messages{Messages: make([]chat.Event, 0, len(list))}
	for _, x := range slices.Backward(list) {
		m.Messages = append(m.Messages, chat.MessageEvent(x))
	}
	m.More = len(list) > 0 && list[len(list)-1].Seq > 1 // numbers have no gaps
	return m, nil
}

// after is the place behind c in a listing, opaque to clients.
func after(c *chat.Conversation) string {
	return strconv.FormatInt(c.Since.UnixNano(), 36) + "-" + string(c.ID)
}

func parseAfter(s string) (since time.Time, id chat.ConversationID, err error) {
	at, rest, _ := strings.Cut(s, "-")
	ns, err1 := strconv.ParseInt(at, 36, 64)
	id = chat.ConversationID(rest)
	if _, err2 := id.Slot(); err1 != nil || err2 != nil {
		return time.Time{}, "", fmt.Errorf("%w: after is not the next of another page", chat.ErrInvalid)
	}
	return time.Unix(0, ns).UTC(), id, nil
}
