package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/chaos"
)

// TestReferencePhones are three devices of one customer, written on our own
// client library, through everything at once: the server killed, links cut,
// the app closed and opened. Every screen shows everything once, in one order.
func TestReferencePhones(t *testing.T) {
	t.Parallel()
	rounds := Scale(t, "HOLDLINE_ROUNDS", 3, 10, 50)
	s := NewServer(t, Setup{})
	desk := s.HireDesk("bob", 5, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	proxy, err := chaos.Listen(s.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	var screens []*screen
	for i := range 3 {
		sc := &screen{device: fmt.Sprintf("phone-%d", i), dir: t.TempDir(), server: s, address: proxy.Addr}
		sc.open(t)
		screens = append(screens, sc)
	}
	ctx, calm := context.WithCancel(t.Context())
	storm := make(chan chaos.Tally, 1)
	go func() {
		storm <- proxy.Storm(ctx, chaos.Storm{Seed: 3, Every: 200 * time.Millisecond, Silence: 2 * time.Second})
	}()
	for round := range rounds {
		for _, sc := range screens {
			for i := range 5 {
				sc.say(t, fmt.Sprintf("round %d, word %d of %s", round, i, sc.device))
			}
		}
		select {
		case <-time.After(100*time.Millisecond + rand.N(400*time.Millisecond)): // any moment will do
		case <-t.Context().Done():
		}
		switch round % 3 {
		case 0:
			s.Restart()
			proxy.Retarget(s.MQTT())
		case 1:
			sc := screens[rand.IntN(len(screens))]
			sc.close(t)
			sc.open(t)
		}
	}
	calm()
	t.Logf("faults of the links: %+v", <-storm)
	var want []chat.MessageID
	for _, sc := range screens {
		for _, id := range sc.sent {
			want = append(want, id, answerTo(id, desk.Name))
		}
	}
	awaitShown(t, screens, want)
	l := Ledger{Server: s, Desks: []*Desk{desk}}
	l.Close(t)
	sameScreens(t, screens)
}

// TestANewDeviceCatchesUpBySync: it has no session to wait for it, and asks for
// what there is, page by page.
func TestANewDeviceCatchesUpBySync(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := Start(t, setup)
		old := s.Phone("ada", "old", nil)
		begin(t, old)
		for i := range 500 {
			old.Say(fmt.Sprint("word ", i))
		}
		l := Ledger{Server: s, Phones: []*Phone{old}}
		l.Close(t)
		fresh := s.Phone("ada", "new", nil)
		fresh.On()
		fresh.AwaitOnline()
		inbox := &Inbox{name: "synced"}
		for since, pages, more := chat.EventID(""), 0, true; more; pages++ {
			if pages > 10 {
				t.Fatal("sync does not end")
			}
			request := chat.Request{ID: chat.MessageID(fmt.Sprint("sync-", pages)), Op: chat.OpSync, Since: since}
			fresh.Publish("up/request", request.ID, "", request)
			var reply chat.Reply
			Eventually(t, Patience, func() string {
				var ok bool
				if reply, ok = fresh.Reply(request.ID); !ok {
					return fmt.Sprintf("no reply to page %d", pages)
				}
				return ""
			})
			if reply.Error != nil || reply.Resync || len(reply.Events) == 0 || len(reply.Events) > chat.MaxSyncEvents {
				t.Fatalf("page %d: %d events, resync %t, error %+v", pages, len(reply.Events), reply.Resync, reply.Error)
			}
			for _, e := range reply.Events {
				inbox.take(e)
			}
			since, more = inbox.Events()[len(inbox.Events())-1].Event, reply.More
			if !more && since != reply.Last {
				t.Errorf("the last page ends with %s, the newest event is %s", since, reply.Last)
			}
		}
		want, got := old.Events(), inbox.Events()
		if len(inbox.Faults()) > 0 || len(got) != len(want) {
			t.Fatalf("synced %d events of %d: %q", len(got), len(want), inbox.Faults())
		}
		for i := range want {
			if want[i].Event != got[i].Event || want[i].ID != got[i].ID || want[i].Text != got[i].Text {
				t.Fatalf("event %d: synced %+v, delivered %+v", i, got[i], want[i])
			}
		}
	})
}
