package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"holdline/broker/client"
	"holdline/chat"
	"holdline/test/chaos"
)

// screen is what the user of a reference phone sees: the events that the
// client library handed over, in its order.
type screen struct {
	device string
	dir    string
	server *Server
	proxy  *chaos.Proxy

	mu     sync.Mutex
	events []chat.Event
	sent   []chat.MessageID
	client *client.Client
	stop   func() error
}

// open starts the app, which finds what an earlier start left in its directory.
func (s *screen) open(t *testing.T) {
	t.Helper()
	c, err := client.New(client.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", s.proxy.Addr())
		},
		Token:   func(context.Context) (string, error) { return s.server.Token(chat.Customer, "ada", s.device), nil },
		Subject: "ada", Device: s.device, Dir: s.dir, BackoffCap: 300 * time.Millisecond,
		OnEvent: func(e chat.Event) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
			return nil
		},
		OnResync: func() error { return errors.New("the server forgot where we are") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // close ends it
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
	s.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, c.Close())
	})
	t.Cleanup(func() { s.close(t) })
}

func (s *screen) close(t *testing.T) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Errorf("%s: %v", s.device, err)
	}
}

func (s *screen) say(t *testing.T, text string) {
	t.Helper()
	id, err := s.client.Send(t.Context(), text)
	if err != nil {
		t.Fatalf("%s: %v", s.device, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, id)
}

func (s *screen) shown() []chat.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

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
		sc := &screen{device: fmt.Sprintf("phone-%d", i), dir: t.TempDir(), server: s, proxy: proxy}
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
	want := map[chat.MessageID]bool{}
	for _, sc := range screens {
		for _, id := range sc.sent {
			want[id] = true
		}
	}
	for _, sc := range screens {
		Eventually(t, 2*Patience, func() string {
			seen := map[chat.MessageID]bool{}
			for _, e := range only(sc.shown(), chat.TypeMessage) {
				seen[e.ID] = true
			}
			for id := range want {
				if answer := answerTo(id, desk.Name); !seen[id] || !seen[answer] {
					return fmt.Sprintf("%s does not show %s (%t) or its answer (%t); outbox %d", sc.device, id, seen[id], seen[answer], len(sc.client.Pending()))
				}
			}
			return ""
		})
	}
	l := Ledger{Server: s, Desks: []*Desk{desk}}
	l.Close(t)
	var order []chat.Event
	for _, sc := range screens {
		count := map[chat.MessageID]int{}
		var last uint64
		for _, e := range sc.shown() {
			_, n, ok := e.Event.Parse()
			if !ok || n != last+1 {
				t.Errorf("%s: event %s after number %d", sc.device, e.Event, last)
			}
			last = n
			if e.Type == chat.TypeRefused {
				t.Errorf("%s: refused: %+v", sc.device, e)
			}
		}
		messages := only(sc.shown(), chat.TypeMessage)
		for i, m := range messages {
			if count[m.ID]++; count[m.ID] > 1 {
				t.Errorf("%s shows %s twice", sc.device, m.ID)
			}
			if m.Seq != uint64(i+1) {
				t.Errorf("%s: message %d has seq %d", sc.device, i+1, m.Seq)
			}
		}
		if order == nil {
			order = messages
		}
		if !slices.EqualFunc(order, messages, func(a, b chat.Event) bool { return a.ID == b.ID && a.Text == b.Text }) {
			t.Errorf("%s shows another order than %s", sc.device, screens[0].device)
		}
	}
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
