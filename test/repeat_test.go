package test

import (
	"fmt"
	"sync"
	"testing"

	"holdline/chat"
	"holdline/test/wire"
)

// TestTwentyFirstMessagesOpenOneConversation, said at the same moment by as many devices.
func TestTwentyFirstMessagesOpenOneConversation(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := Start(t, setup)
		for _, devices := range []int{2, 20} {
			customer := fmt.Sprintf("ada-%d", devices)
			var phones []*Phone
			for i := range devices {
				p := s.Phone(customer, fmt.Sprintf("phone-%d", i), nil)
				p.On()
				phones = append(phones, p)
			}
			for _, p := range phones {
				p.AwaitOnline()
			}
			var together sync.WaitGroup
			start := make(chan struct{})
			for _, p := range phones {
				together.Go(func() {
					<-start
					p.Say("first")
				})
			}
			close(start)
			together.Wait()
			l := Ledger{Server: s, Phones: phones}
			l.Close(t)
			in := map[chat.ConversationID]int{}
			for _, m := range phones[0].Messages() {
				in[m.Conversation]++
			}
			if len(in) != 1 || len(phones[0].Messages()) != devices {
				t.Errorf("%d first messages are in %d conversations: %v", devices, len(in), in)
			}
		}
	})
}

// TestSayingTwiceIsHarmless, also after a restart; the same id for something else is refused.
func TestSayingTwiceIsHarmless(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := Start(t, setup)
		ada, other, bob := s.Phone("ada", "phone-1", nil), s.Phone("ada", "phone-2", nil), s.Phone("bob", "phone-1", nil)
		for _, p := range []*Phone{ada, other, bob} {
			p.On()
			p.AwaitOnline()
		}
		said := func(p *Phone, id chat.MessageID) chat.Event {
			t.Helper()
			var e chat.Event
			Eventually(t, Patience, func() string {
				var ok bool
				if e, ok = p.Find(chat.TypeMessage, id); !ok {
					return fmt.Sprintf("%s has no message %s", p, id)
				}
				return ""
			})
			return e
		}
		ada.SayAs("m-1", "hello", "")
		first := said(ada, "m-1")
		ada.SayAs("m-2", "are you there", "")
		second := said(ada, "m-2")

		ada.SayAs("m-1", "hello", "")                     // again
		other.SayAs("m-1", "hello", "")                   // from another device
		ada.SayAs("m-1", "hello", first.Conversation)     // knowing the conversation by now
		s.Restart()                                       // it is remembered for ever
		ada.SayAs("m-2", "are you there", "")             // again
		ada.SayAs("m-2", "something else", "")            // another content
		other.SayAs("m-1", "hello!", first.Conversation)  // another content
		bob.SayAs("m-1", "my own first message", "")      // another customer's id is another id
		ada.SayAs("m-3", "last", "")                      // and on
		if e := said(ada, "m-3"); e.Seq != second.Seq+1 { // no new row for any of them
			t.Errorf("after all the repeats the next message has seq %d, want %d", e.Seq, second.Seq+1)
		}
		said(bob, "m-1")
		for _, id := range []chat.MessageID{"m-1", "m-2"} {
			Eventually(t, Patience, func() string {
				e, ok := ada.Find(chat.TypeRefused, id)
				if !ok {
					return "no refusal of " + string(id) + " with other content"
				}
				if e.Reason != chat.ReasonConflict || e.Detail == "" {
					t.Errorf("refused as %+v, want conflict and a detail", e)
				}
				return ""
			})
		}
		l := Ledger{Server: s, Phones: []*Phone{ada, other, bob}}
		l.Close(t)
		if n := len(ada.Messages()); n != 3 {
			t.Errorf("ada was shown %d messages, want 3", n)
		}
	})
}

// TestARepeatInOneBreath is the same message many times in one write, on many connections.
func TestARepeatInOneBreath(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	ada := s.Phone("ada", "reader", nil)
	ada.On()
	ada.AwaitOnline()
	var all sync.WaitGroup
	for device := range 5 {
		h := wire.Hello{Client: fmt.Sprint("phone-", device), Clean: true, User: "ada", Password: s.Token(chat.Customer, "ada", "")}
		c := wire.Open(t, s.MQTT(), h)
		var burst []wire.Packet
		for i := range 10 {
			burst = append(burst, wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message", Payload: []byte(`{"id":"once","text":"only once"}`)})
		}
		all.Go(func() {
			if err := c.Send(burst...); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ada.SayAs("after", "after", "")
	Eventually(t, Patience, func() string {
		if _, ok := ada.Find(chat.TypeMessage, "after"); !ok || len(ada.Messages()) < 2 {
			return fmt.Sprintf("ada has %d messages", len(ada.Messages()))
		}
		return ""
	})
	head, err := s.Conversation(t.Context(), ada.Messages()[0].Conversation)
	if err != nil {
		t.Fatal(err)
	}
	// The fifty may not all be taken in yet; give the last word to one that is.
	last := ada.Say("last")
	Eventually(t, Patience, func() string {
		if ada.Told(last.ID) == "" {
			return "the last word is not stored"
		}
		return ""
	})
	n := 0
	for _, m := range ada.Messages() {
		if m.ID == "once" {
			n++
		}
	}
	if n != 1 || head.LastSeq > 3 {
		t.Errorf("fifty times the same was stored %d times; last_seq %d", n, head.LastSeq)
	}
}
