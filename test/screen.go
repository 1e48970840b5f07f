package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"holdline/broker/client"
	"holdline/chat"
)

// screen is what the user of a reference phone sees: the events that the
// client library handed over, in its order.
type screen struct {
	address func() string
	device  string
	dir     string
	server  *Server

	mayResync bool // the server is restored from a backup in this scenario

	mu      sync.Mutex
	events  []chat.Event
	resyncs int
	sent    []chat.MessageID
	client  *client.Client
	stop    func() error
}

// open starts the app, which finds what an earlier start left in its directory.
func (s *screen) open(t *testing.T) {
	t.Helper()
	c, err := client.New(client.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", s.address())
		},
		Token:   func(context.Context) (string, error) { return s.server.Token(chat.Customer, "ada", s.device), nil },
		Subject: "ada", Device: s.device, Dir: s.dir, BackoffCap: 300 * time.Millisecond,
		OnEvent: func(e chat.Event) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
			return nil
		},
		OnResync: func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.mayResync {
				return errors.New("the server forgot where we are")
			}
			s.events = nil // the inbox comes from its beginning
			s.resyncs++
			return nil
		},
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

// check requires a screen as it should be: every event in turn, every message
// once and in its place.
func (s *screen) check(t *testing.T) {
	t.Helper()
	count := map[chat.MessageID]int{}
	var last uint64
	for _, e := range s.shown() {
		_, n, ok := e.Event.Parse()
		if !ok || n != last+1 {
			t.Errorf("%s: event %s after number %d", s.device, e.Event, last)
		}
		last = n
		if e.Type == chat.TypeRefused {
			t.Errorf("%s: refused: %+v", s.device, e)
		}
	}
	for i, m := range only(s.shown(), chat.TypeMessage) {
		if count[m.ID]++; count[m.ID] > 1 {
			t.Errorf("%s shows %s twice", s.device, m.ID)
		}
		if m.Seq != uint64(i+1) {
			t.Errorf("%s: message %d has seq %d", s.device, i+1, m.Seq)
		}
	}
}

// sameScreens requires that all show the same messages in the same order.
func sameScreens(t *testing.T, screens []*screen) {
	t.Helper()
	for _, s := range screens {
		s.check(t)
		if a, b := only(screens[0].shown(), chat.TypeMessage), only(s.shown(), chat.TypeMessage); !slices.EqualFunc(a, b,
			func(a, b chat.Event) bool { return a.ID == b.ID && a.Text == b.Text && a.Seq == b.Seq }) {
			t.Errorf("%s shows another order than %s", s.device, screens[0].device)
		}
	}
}

// await waits until every screen shows all of the ids.
func awaitShown(t *testing.T, screens []*screen, want []chat.MessageID) {
	t.Helper()
	for _, s := range screens {
		Eventually(t, 2*Patience, func() string {
			seen := map[chat.MessageID]bool{}
			for _, e := range only(s.shown(), chat.TypeMessage) {
				seen[e.ID] = true
			}
			for _, id := range want {
				if !seen[id] {
					return fmt.Sprintf("%s does not show %s; %d are in its outbox", s.device, id, len(s.client.Pending()))
				}
			}
			return ""
		})
	}
}
