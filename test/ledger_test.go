package test

import (
	"slices"
	"strings"
	"testing"

	"holdline/chat"
)

// TestTheLedgerFindsWhatIsWrong: a check that cannot fail proves nothing, so
// here the records of a healthy run are falsified, one by one.
func TestTheLedgerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Setup{})
	desk := s.HireDesk("bob", 5, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	ada := s.Phone("ada", "phone", nil)
	id := begin(t, ada)
	for range 3 {
		await(t, ada.Device, ada.Say("and"), chat.TypeMessage)
	}
	l := &Ledger{Server: s, Phones: []*Phone{ada}, Desks: []*Desk{desk}, Answered: true}
	l.Close(t)
	ada.Off()
	desk.Rest()
	desk.Off()

	inbox, own := ada.Inbox("down/event"), desk.Inbox("down/event")
	message := func(n int) *chat.Event { // the n-th message on ada's screen
		for i := range inbox.events {
			if inbox.events[i].Type == chat.TypeMessage {
				if n--; n == 0 {
					return &inbox.events[i]
				}
			}
		}
		t.Fatal("too few messages")
		return nil
	}
	epoch, _ := desk.Holds(id)
	for _, tt := range []struct {
		name    string
		falsify func()
		want    string
	}{
		{"an acknowledged word is lost", func() {
			ada.said = append(ada.said, &Said{ID: "lost", topic: "up/message", acked: true})
		}, "acknowledged and is lost"},
		{"another text is stored", func() {
			ada.said = slices.Clone(ada.said)
			ada.said[1] = &Said{ID: ada.said[1].ID, Text: "or", topic: "up/message", acked: true}
		}, "was sent as"},
		{"something was never sent", func() { ada.said = slices.Delete(slices.Clone(ada.said), 0, 1) }, "is stored as"},
		{"words change their turn", func() {
			ada.said = slices.Clone(ada.said)
			ada.said[0], ada.said[1] = ada.said[1], ada.said[0]
		}, "after a later one"},
		{"a message is shown twice", func() { inbox.events = append(inbox.events, *message(1)) }, "shown twice"},
		{"a message is not shown", func() { *message(3) = chat.Event{} }, "follows"},
		{"the sender is not told", func() { *message(1) = chat.Event{} }, "its sender was not told"},
		{"two see another order", func() { message(2).Seq, message(3).Seq = message(3).Seq, message(2).Seq }, "at the server"},
		{"two see another text", func() { message(2).Text = "or" }, "at the server"},
		{"two see another sender", func() { message(2).From = &chat.Person{Role: chat.AgentRole, ID: "eve"} }, "at the server"},
		{"an event number is missing", func() {
			inbox.take(chat.Numbered(chat.NewEventID(inbox.life, inbox.last+2), []byte(`{"type":"done"}`)))
		}, "1 are missing"},
		{"an event comes again as another", func() { inbox.take(chat.Numbered(chat.NewEventID(inbox.life, 1), []byte(`{"type":"done"}`))) }, "different content"},
		{"the numbers begin anew", func() { inbox.take(chat.Numbered("other-9", []byte(`{"type":"done"}`))) }, "another incarnation"},
		{"what is stored was refused", func() {
			inbox.events = append(inbox.events, chat.Event{Type: chat.TypeRefused, ID: message(1).ID, Reason: chat.ReasonInternal})
		}, "was refused as internal"},
		{"two owners at once", func() {
			own.events = append(own.events, chat.Event{Type: chat.TypeConversation, Conversation: id,
				Head: &chat.Head{State: chat.Held, Epoch: epoch, Agent: &chat.Person{Role: chat.AgentRole, ID: "eve"}}})
		}, "two owners"},
		{"an epoch falls", func() {
			own.events = append(own.events, chat.Event{Type: chat.TypeConversation, Conversation: id, Head: &chat.Head{State: chat.Waiting}})
		}, "falls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said, events, bodies, owned, last := ada.said, slices.Clone(inbox.events), inbox.bodies, slices.Clone(own.events), inbox.last
			defer func() {
				ada.said, inbox.events, inbox.bodies, own.events, inbox.last = said, events, bodies, owned, last
				inbox.faults = nil
			}()
			tt.falsify()
			faults, err := l.Faults(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("found %q, want one with %q", faults, tt.want)
			}
		})
	}
	if faults, err := l.Faults(t.Context()); err != nil || len(faults) > 0 {
		t.Errorf("with the true records: %q, %v", faults, err)
	}
}
