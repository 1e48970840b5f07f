package test

import (
	"fmt"
	"testing"
	"time"

	"holdline/chat"
)

// TestTenThousandMessagesToAnOfflinePhone arrive in order, each once by its
// number, after a restart in between; and being away costs no memory: fifty
// devices that are away cost no more than one that is there.
func TestTenThousandMessagesToAnOfflinePhone(t *testing.T) {
	t.Parallel()
	messages := Scale(t, "HOLDLINE_OFFLINE", 1000, 10_000, 50_000)
	const away = 50

	// owed runs a server whose customer has devices, some there and some
	// not, says everything to them, and returns the memory at the end.
	owed := func(devices int, there bool) (s *Server, desk *Desk, phones []*Phone, conversation chat.ConversationID, memory int) {
		s = NewServer(t, Setup{})
		desk = s.HireDesk("bob", 5, Silent, nil)
		s.Start()
		awaitDesks(t, s, desk)
		for i := range devices {
			p := s.Phone("ada", fmt.Sprintf("phone-%d", i), nil)
			p.On()
			phones = append(phones, p)
		}
		for _, p := range phones {
			p.AwaitOnline()
		}
		first := phones[0].Say("Hello")
		Eventually(t, Patience, func() string {
			if e, ok := phones[0].Find(chat.TypeMessage, first.ID); ok {
				conversation = e.Conversation
			}
			if _, mine := desk.Holds(conversation); !mine {
				return "the conversation was not assigned"
			}
			for _, p := range phones { // all have all, so that only what follows is owed
				if len(p.Events()) < len(phones[0].Events()) || len(p.Messages()) == 0 {
					return fmt.Sprintf("%s has %d events", p, len(p.Events()))
				}
			}
			return ""
		})
		if !there {
			for _, p := range phones {
				p.Off()
			}
		}
		sayAll(t, desk, conversation, messages)
		return s, desk, phones, conversation, s.MemoryBytes()
	}

	s, desk, phones, conversation, memory := owed(away, false)
	_, _, _, _, usual := owed(1, true)
	t.Logf("resident memory after %d messages: %d MB with %d devices away, %d MB with one that is there", messages, memory>>20, away, usual>>20)
	// A queue of its own for each device would be this many entries; fifty bytes each would show.
	if grown := memory - usual; grown > away*messages*50 && messages >= 10_000 {
		t.Errorf("%d devices away cost %d MB of memory", away, grown>>20)
	}

	// The restart in between, and some more.
	s.Kill()
	s.Start()
	desk.AwaitOnline()
	sayAll(t, desk, conversation, 100)
	began := time.Now()
	for _, p := range phones[:3] {
		p.On()
	}
	l := Ledger{Server: s, Phones: phones[:3], Desks: []*Desk{desk}, Within: 3 * Patience}
	l.Close(t)
	t.Logf("three phones caught up with %d messages in %s", messages+100, time.Since(began).Round(time.Millisecond))
	for _, p := range phones[:3] {
		if got := len(p.Messages()); got != messages+101 {
			t.Errorf("%s has %d messages, want %d", p, got, messages+101)
		}
		for i, m := range p.Messages() {
			if m.Seq != uint64(i+1) {
				t.Fatalf("%s: message %d has seq %d", p, i+1, m.Seq)
			}
		}
	}
}

// sayAll says n things to a conversation that the desk holds and waits until all are stored.
func sayAll(t *testing.T, desk *Desk, conversation chat.ConversationID, n int) {
	t.Helper()
	var last *Said
	epoch, _ := desk.Holds(conversation)
	for i := range n {
		for desk.Unacked() > 500 {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
		last = desk.Say(conversation, epoch, fmt.Sprintf("answer %d", i))
	}
	Eventually(t, 3*Patience, func() string {
		if desk.Told(last.ID) != chat.TypeMessage {
			return fmt.Sprintf("of %d messages, %d have no PUBACK; the last one is %q", n, desk.Unacked(), desk.Told(last.ID))
		}
		return ""
	})
}
