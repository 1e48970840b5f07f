package test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/chaos"
)

// held waits until a desk was told that it owns a conversation.
func awaitHeld(t *testing.T, d *Desk, id chat.ConversationID) (epoch uint64) {
	t.Helper()
	Eventually(t, Patience, func() string {
		var ok bool
		if epoch, ok = d.Holds(id); !ok {
			h, _ := d.Head(id)
			return fmt.Sprintf("conversation %s is not %s's: %+v", id, d.Agent(), h)
		}
		return ""
	})
	return epoch
}

// begin has a customer say a first word, and returns the conversation it opened.
func begin(t *testing.T, p *Phone) (id chat.ConversationID) {
	t.Helper()
	p.On()
	p.AwaitOnline()
	first := p.Say("Hello, I have a question")
	Eventually(t, Patience, func() string {
		e, ok := p.Find(chat.TypeMessage, first.ID)
		if id = e.Conversation; !ok {
			return fmt.Sprintf("%s: the first word is not stored", p)
		}
		return ""
	})
	return id
}

// await waits until a device was told the outcome of something it said.
func await(t *testing.T, d *Device, s *Said, want chat.EventType) {
	t.Helper()
	Eventually(t, Patience, func() string {
		if got := d.Told(s.ID); got != want {
			return fmt.Sprintf("%s: outcome of %s is %q, want %q", d, s.ID, got, want)
		}
		return ""
	})
}

// TestAnAgentsDay: signing in, being given a conversation, answering, giving
// it back, taking it, resolving, and what follows.
func TestAnAgentsDay(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := NewServer(t, setup)
		s.Command("agent", "add", "bob", "--display", "Bob", "--password", passwordOf("bob"))
		s.Start()

		// The way the desk signs in.
		var signed struct {
			Agent         struct{ ID, Name string }
			Token, Device string
		}
		for _, wrong := range []map[string]string{{"id": "bob", "password": "wrong password"}, {"id": "nobody", "password": passwordOf("bob")}} {
			if p, ok := s.Call(t.Context(), "", http.MethodPost, "/session", wrong, nil).(*Problem); !ok || p.Status != http.StatusUnauthorized {
				t.Errorf("signing in as %v: %v, want 401", wrong, p)
			}
		}
		if err := s.Call(t.Context(), "", http.MethodPost, "/session", map[string]string{"id": "bob", "password": passwordOf("bob")}, &signed); err != nil {
			t.Fatal(err)
		}
		if signed.Agent.ID != "bob" || signed.Agent.Name != "Bob" {
			t.Errorf("signed in as %+v", signed.Agent)
		}
		bob := s.Desk("bob", signed.Device, Silent, nil)
		bob.hello.Password = signed.Token

		ada := s.Phone("ada", "phone", nil)
		id := begin(t, ada)
		if h, err := s.Conversation(t.Context(), id); err != nil || h.State != chat.Waiting {
			t.Errorf("without any agent: %+v, %v", h, err)
		}
		awaitDesks(t, s, bob)
		epoch := awaitHeld(t, bob, id)
		answer := bob.Say(id, epoch, "Here I am")
		await(t, bob.Device, answer, chat.TypeMessage)
		Eventually(t, Patience, func() string {
			e, ok := ada.Find(chat.TypeMessage, answer.ID)
			if !ok {
				return "the answer has not reached the phone"
			}
			if want := (chat.Person{Role: chat.AgentRole, ID: "bob", Name: "Bob"}); *e.From != want || e.Seq != 2 {
				t.Errorf("the answer is %+v from %+v", e, e.From)
			}
			return ""
		})

		// Given back, it waits, and is not forced on the agent who is away; taken, it is his again.
		if err := s.Call(t.Context(), bob.token, http.MethodPut, "/me/intent", map[string]string{"intent": "away"}, nil); err != nil {
			t.Fatal(err)
		}
		await(t, bob.Device, bob.Do(chat.ActRelease, id, epoch), chat.TypeDone)
		Eventually(t, Patience, func() string {
			if h, _ := bob.Head(id); h.State != chat.Waiting {
				return fmt.Sprintf("after the release: %+v", h)
			}
			return ""
		})
		await(t, bob.Device, bob.Do(chat.ActAccept, id, 0), chat.TypeDone)
		newer := awaitHeld(t, bob, id)
		if newer <= epoch {
			t.Errorf("owner epoch %d after %d", newer, epoch)
		}
		stale := bob.Say(id, epoch, "under the old epoch")
		await(t, bob.Device, stale, chat.TypeRefused)
		if e, _ := find(bob.Own(), chat.TypeRefused, stale.ID); e.Reason != chat.ReasonNotOwner {
			t.Errorf("refused as %+v, want not_owner", e)
		}

		await(t, bob.Device, bob.Do(chat.ActResolve, id, newer), chat.TypeDone)
		late := bob.Say(id, newer, "one more thing")
		await(t, bob.Device, late, chat.TypeRefused)
		if e, _ := find(bob.Own(), chat.TypeRefused, late.ID); e.Reason != chat.ReasonClosed {
			t.Errorf("refused as %+v, want closed", e)
		}

		// Naming the conversation opens it again; without, a new one is opened once it is resolved.
		again := ada.SayAs("again", "It is still broken", id)
		await(t, ada.Device, again, chat.TypeMessage)
		if e, _ := ada.Find(chat.TypeMessage, "again"); e.Conversation != id || e.Seq != 3 {
			t.Errorf("the next word is %+v, want seq 3 of %s", e, id)
		}
		await(t, bob.Device, bob.Do(chat.ActAccept, id, 0), chat.TypeDone)
		last := awaitHeld(t, bob, id)
		await(t, bob.Device, bob.Do(chat.ActResolve, id, last), chat.TypeDone)
		fresh := ada.Say("Something else")
		await(t, ada.Device, fresh, chat.TypeMessage)
		if e, _ := ada.Find(chat.TypeMessage, fresh.ID); e.Conversation == id || e.Seq != 1 {
			t.Errorf("the next word is %+v, want a new conversation", e)
		}
		var states []chat.State
		for _, e := range only(ada.Events(), chat.TypeConversation) {
			states = append(states, e.Head.State)
			if e.Head.Customer != nil || e.Head.Epoch != 0 || e.Head.LastText != "" {
				t.Errorf("a customer is shown what is for agents: %+v", e.Head)
			}
		}
		if len(states) == 0 {
			t.Error("the customer was told no state at all")
		}
		l := Ledger{Server: s, Phones: []*Phone{ada}, Desks: []*Desk{bob}}
		l.Close(t)
	})
}

// TestAVanishedAgentsConversationsMoveOn, after the grace and not before, with
// the time they have waited; and the word of the former owner, who knows
// nothing of it, is refused.
func TestAVanishedAgentsConversationsMoveOn(t *testing.T) {
	const grace = 4 * time.Second
	for _, tt := range []struct {
		name   string
		vanish func(*chaos.Link)
		missed time.Duration // until the broker misses the desk
	}{
		{"cut without a word", (*chaos.Link).Reset, 0},
		{"frozen with the socket left open", func(l *chaos.Link) { l.Freeze(chaos.Both) }, keepAlive * 3 / 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onEngines(t, func(t *testing.T, setup Setup) {
				setup.Grace = grace
				s := NewServer(t, setup)
				proxy, err := chaos.Listen("127.0.0.1:1") // nobody is there yet
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { proxy.Close() })
				first, second := s.HireDesk("first", 5, Silent, proxy.Addr), s.HireDesk("second", 5, Silent, nil)
				s.Start()
				proxy.Retarget(s.MQTT())
				awaitDesks(t, s, first)
				ada := s.Phone("ada", "phone", nil)
				id := begin(t, ada)
				epoch := awaitHeld(t, first, id)
				await(t, first.Device, first.Say(id, epoch, "One moment"), chat.TypeMessage)
				awaitDesks(t, s, second)
				before, err := s.Conversation(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}

				// Away and back within the grace: nothing moves.
				firstLink(t, proxy, first).Reset()
				first.AwaitOnline()
				still := first.Say(id, epoch, "I am still here")
				await(t, first.Device, still, chat.TypeMessage)

				// Away for good, as far as anybody can see. The desk itself gives
				// a silent link up and would connect again: there is no way.
				link := firstLink(t, proxy, first)
				proxy.Retarget("127.0.0.1:1")
				tt.vanish(link)
				gone := time.Now()
				newer := awaitHeld(t, second, id)
				waited := time.Since(gone)
				if waited < grace-time.Second || waited > tt.missed+grace+20*time.Second {
					t.Errorf("moved on after %s, want the grace of %s, after %s in which nobody could know", waited, grace, tt.missed)
				}
				after, err := s.Conversation(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if after.Since != before.Since || newer <= epoch || after.Agent == nil || after.Agent.ID != "second" {
					t.Errorf("after the hand-over: %+v; want waiting since %s, owner second, an epoch over %d", after, before.Since, epoch)
				}
				answer := second.Say(id, newer, "I go on with this")
				await(t, second.Device, answer, chat.TypeMessage)

				// The former owner comes back and does not know: what it had
				// written is refused by the storing transaction, and nothing comes back to it.
				stale := first.Say(id, epoch, "As I said")
				link.Reset()
				proxy.Retarget(s.MQTT())
				await(t, first.Device, stale, chat.TypeRefused)
				if e, _ := find(first.Own(), chat.TypeRefused, stale.ID); e.Reason != chat.ReasonNotOwner {
					t.Errorf("refused as %+v, want not_owner", e)
				}
				stop := first.Do(chat.ActResolve, id, epoch)
				await(t, first.Device, stop, chat.TypeRefused)
				await(t, ada.Device, ada.Say("Thanks to you both"), chat.TypeMessage)
				if h, err := s.Conversation(t.Context(), id); err != nil || h.Agent == nil || h.Agent.ID != "second" || h.Epoch != newer {
					t.Errorf("at the end: %+v, %v", h, err)
				}
				l := Ledger{Server: s, Phones: []*Phone{ada}, Desks: []*Desk{first, second}}
				l.Close(t)
			})
		})
	}
}

// firstLink is the open link of a desk that is alone on its proxy.
func firstLink(t *testing.T, proxy *chaos.Proxy, d *Desk) *chaos.Link {
	t.Helper()
	d.AwaitOnline()
	links := proxy.Links()
	if len(links) == 0 {
		t.Fatalf("%s has no link", d)
	}
	return links[len(links)-1]
}

// TestARestartWithinTheGraceMovesNothing: after a restart everybody counts as
// gone since the start, and the grace runs from there.
func TestARestartWithinTheGraceMovesNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		setup.Grace = 6 * time.Second
		s := NewServer(t, setup)
		first, second := s.HireDesk("first", 5, Silent, nil), s.HireDesk("second", 5, Silent, nil)
		s.Start()
		awaitDesks(t, s, first)
		ada := s.Phone("ada", "phone", nil)
		id := begin(t, ada)
		epoch := awaitHeld(t, first, id)
		awaitDesks(t, s, second)
		s.Restart()
		first.AwaitOnline()
		await(t, first.Device, first.Say(id, epoch, "still mine"), chat.TypeMessage)
		// Now a restart from which only the other one comes back.
		first.Off()
		s.Restart()
		newer := awaitHeld(t, second, id)
		if newer <= epoch {
			t.Errorf("epoch %d after %d", newer, epoch)
		}
		await(t, second.Device, second.Say(id, newer, "now mine"), chat.TypeMessage)
		first.On()
		l := Ledger{Server: s, Phones: []*Phone{ada}, Desks: []*Desk{first, second}}
		l.Close(t)
	})
}

// TestRoutingIsFair: available agents get what waits, the least loaded first,
// none more than its capacity, those who wait longest first.
func TestRoutingIsFair(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Setup{})
	a, b := s.HireDesk("a", 3, Silent, nil), s.HireDesk("b", 3, Silent, nil)
	s.Start()
	var phones []*Phone
	var ids []chat.ConversationID
	for i := range 8 { // one after the other: the order of waiting is known
		p := s.Phone(fmt.Sprint("customer-", i), "phone", nil)
		phones = append(phones, p)
		ids = append(ids, begin(t, p))
	}
	awaitDesks(t, s, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	holders := map[string]int{}
	Eventually(t, Patience, func() string {
		heads, err := s.Conversations(ctx, nil)
		if err != nil {
			return err.Error()
		}
		clear(holders)
		for _, h := range heads {
			if h.Agent != nil {
				holders[h.Agent.ID]++
			}
		}
		if holders["a"]+holders["b"] < 6 {
			return fmt.Sprintf("of 8 conversations, given are %v", holders)
		}
		return ""
	})
	if holders["a"] != 3 || holders["b"] != 3 {
		t.Errorf("capacity 3 each, given are %v", holders)
	}
	for _, waiting := range ids[6:] { // the two who came last
		if h, err := s.Conversation(ctx, waiting); err != nil || h.State != chat.Waiting {
			t.Errorf("%s is %+v, %v; want waiting", waiting, h, err)
		}
	}
	l := Ledger{Server: s, Phones: phones, Desks: []*Desk{a, b}}
	l.Close(t)
}
