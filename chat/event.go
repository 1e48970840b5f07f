package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// EventID is the opaque position of an event in its inbox, "{incarnation}-{n}".
// n counts without gaps; the incarnation changes when storage was restored from
// a backup, and a client that sees another one than it knows must sync anew.
type EventID string

// NewEventID writes the id of event n.
func NewEventID(incarnation string, n uint64) EventID {
	return EventID(incarnation + "-" + strconv.FormatUint(n, 10))
}

// Parse returns the parts. ok is false for the empty id and for anything that is not one of ours.
func (e EventID) Parse() (incarnation string, n uint64, ok bool) {
	i := strings.LastIndexByte(string(e), '-')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(string(e[i+1:]), 10, 64)
	return string(e[:i]), n, err == nil
}

// EventType says what an event tells.
type EventType string

// The events of an inbox. topics.md shows each with a golden file.
const (
	TypeMessage      EventType = "message"      // something was said
	TypeRefused      EventType = "refused"      // something you sent was refused for good
	TypeConversation EventType = "conversation" // the head of a conversation is now so
	TypeDone         EventType = "done"         // a command of yours took effect, or something you sent again was there already
)

// Person is a party as other parties see it.
type Person struct {
	Role Role   `json:"role"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Event is the JSON of down/event, the union of all types. Event is empty in
// storage: Numbered adds it when the event is published.
type Event struct {
	Event        EventID        `json:"event,omitempty"`
	Type         EventType      `json:"type"`
	Conversation ConversationID `json:"conversation,omitempty"`

	// TypeMessage
	Seq  uint64    `json:"seq,omitempty"`
	ID   MessageID `json:"id,omitempty"` // TypeRefused, TypeDone: what the sender called it
	From *Person   `json:"from,omitempty"`
	Kind Kind      `json:"kind,omitempty"`
	Text string    `json:"text,omitempty"`
	At   string    `json:"at,omitempty"` // RFC 3339, UTC

	// TypeRefused
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`

	// TypeConversation
	Head *Head `json:"head,omitempty"`
}

// Head is a conversation as a viewer may see it: a whole picture, so the last one wins.
type Head struct {
	State   State   `json:"state"`
	Agent   *Person `json:"agent,omitempty"` // who answers; absent while waiting
	Episode int     `json:"episode"`
	LastSeq uint64  `json:"last_seq"`
	// For agents only.
	Customer *Person `json:"customer,omitempty"`
	Queue    QueueID `json:"queue,omitempty"`
	Epoch    uint64  `json:"epoch,omitempty"` // the owner epoch to speak under
	Accepted bool    `json:"accepted,omitempty"`
	Opened   string  `json:"opened,omitempty"` // when this episode began
	Since    string  `json:"since,omitempty"`  // waiting since
	LastAt   string  `json:"last_at,omitempty"`
	LastText string  `json:"last_text,omitempty"`
	LastFrom Role    `json:"last_from,omitempty"`
}

// Viewer is the class of reader an event is rendered for. What a class may
// not see is never in its bytes.
type Viewer string

// The classes of viewers.
const (
	ForCustomer Viewer = "customer"
	ForAgent    Viewer = "agent"
)

// ViewerOf is the class that reads an inbox.
func ViewerOf(i Inbox) Viewer {
	if i.Kind == string(AgentRole) || i.Kind == QueueKind {
		return ForAgent
	}
	return ForCustomer
}

// TimeFormat is how times are written on the wire: RFC 3339 in UTC with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

func wireTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(TimeFormat)
}

// MessageEvent renders a message, for every viewer alike.
func MessageEvent(m Message) Event {
	return Event{
		Type: TypeMessage, Conversation: m.Conversation, Seq: m.Seq, ID: m.ID,
		From: &Person{m.From.Role, m.From.Subject, m.Name}, Kind: m.Kind, Text: m.Text, At: wireTime(m.At),
	}
}

// HeadEvent renders the head of a conversation.
func HeadEvent(c *Conversation, v Viewer) Event {
	h := HeadOf(c, v)
	return Event{Type: TypeConversation, Conversation: c.ID, Head: &h}
}

// HeadOf is what a viewer may see of the head of a conversation.
func HeadOf(c *Conversation, v Viewer) Head {
	h := Head{State: c.State, Episode: c.Episode, LastSeq: c.Seq}
	if c.Holder != "" {
		h.Agent = &Person{AgentRole, c.Holder, c.HolderName}
	}
	if v == ForAgent {
		h.Customer = &Person{Customer, c.Customer.Subject, c.CustomerName}
		h.Queue, h.Epoch, h.Accepted = c.Queue, c.Epoch, c.Accepted
		h.Opened, h.Since, h.LastAt, h.LastText, h.LastFrom = wireTime(c.Opened), wireTime(c.Since), wireTime(c.LastAt), c.LastText, c.LastFrom
	}
	return h
}

// RefusedEvent renders a refusal; at is when the input was taken.
func RefusedEvent(r Refusal, at time.Time) Event {
	return Event{Type: TypeRefused, ID: r.ID, Reason: r.Reason, Detail: r.Detail, At: wireTime(at)}
}

// DoneEvent tells the sender that a command took effect, or, when something
// was sent again, what became of it the first time; seq is 0 for commands.
func DoneEvent(id MessageID, c ConversationID, seq uint64, at time.Time) Event {
	return Event{Type: TypeDone, ID: id, Conversation: c, Seq: seq, At: wireTime(at)}
}

// Body is the event as it is stored, without its number.
func (e Event) Body() []byte {
	e.Event = ""
	var v any = e
	if e.Type == TypeRefused {
		v = refused{e.Type, e.ID, e.Reason, e.Detail, e.At}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // an escaped '<' takes six bytes of a phone's packet
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("chat: event does not marshal: %v", err)) // strings and numbers only: cannot happen
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// refused is a TypeRefused event with all its fields: id is there even when the
// refused input had none that could be read.
type refused struct {
	Type   EventType `json:"type"`
	ID     MessageID `json:"id"`
	Reason Reason    `json:"reason"`
	Detail string    `json:"detail"`
	At     string    `json:"at"`
}

// Numbered puts the event's id in front of a stored body: what goes on the wire.
func Numbered(id EventID, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(body) + len(id) + 12)
	b.WriteString(`{"event":"`)
	b.WriteString(string(id))
	b.WriteString(`",`)
	b.Write(body[1:])
	return b.Bytes()
}

// Reply is the answer to a Request, on down/reply with QoS 0 to the asking session.
type Reply struct {
	ID     MessageID         `json:"request"`
	Error  *Refusal          `json:"error,omitempty"`
	Events []json.RawMessage `json:"events,omitempty"` // OpSync: numbered, in order
	More   bool              `json:"more,omitempty"`   // OpSync: ask again from the last event
	Last   EventID           `json:"last,omitempty"`   // OpSync: the inbox's newest event
	// Resync is true when Since is of another incarnation or ahead of the inbox:
	// forget it and take Events as the beginning.
	Resync bool `json:"resync,omitempty"`
}
