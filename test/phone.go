package test

import (
	"fmt"
	"sync/atomic"

	"holdline/chat"
	"holdline/test/wire"
)

// Phone is a customer's device.
type Phone struct {
	*Device
	count atomic.Int64
}

// Phone makes a customer's device; it is not connected yet. Every other one
// speaks MQTT 3.1.1. address is where it connects: the server's when nil.
func (s *Server) Phone(customer, device string, address func() string) *Phone {
	s.tb.Helper()
	if address == nil {
		address = s.MQTT
	}
	a := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: customer}
	version := wire.V5
	if a.Slot()%2 == 0 {
		version = wire.V311
	}
	return &Phone{Device: newDevice(s.tb, a, device, version, s.Token(chat.Customer, customer, device), address, "down/#")}
}

// Say says something under a new id.
func (p *Phone) Say(text string) *Said {
	id := chat.MessageID(fmt.Sprintf("%s-%s-%d", p.Account.Subject, p.Name, p.count.Add(1)))
	return p.SayAs(id, text, "")
}

// SayAs says something under an id, in a conversation if one is named.
func (p *Phone) SayAs(id chat.MessageID, text string, in chat.ConversationID) *Said {
	return p.Publish("up/message", id, text, chat.Say{ID: id, Conversation: in, Text: text})
}

// Events are the phone's inbox.
func (p *Phone) Events() []chat.Event { return p.Inbox("down/event").Events() }

// Messages are those of its events that are messages.
func (p *Phone) Messages() []chat.Event { return only(p.Events(), chat.TypeMessage) }

// Find returns the first event of a type about an id, from any sender.
func (p *Phone) Find(t chat.EventType, id chat.MessageID) (chat.Event, bool) {
	return find(p.Events(), t, id)
}

func only(events []chat.Event, t chat.EventType) (some []chat.Event) {
	for _, e := range events {
		if e.Type == t {
			some = append(some, e)
		}
	}
	return some
}

func find(events []chat.Event, t chat.EventType, id chat.MessageID) (chat.Event, bool) {
	for _, e := range events {
		if e.Type == t && e.ID == id {
			return e, true
		}
	}
	return chat.Event{}, false
}
