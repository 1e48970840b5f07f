package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/bridge"
	"holdline/broker"
	"holdline/broker/client"
	"holdline/broker/journal"
	journalmemory "holdline/broker/journal/memory"
	"holdline/broker/mqtt"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/storage"
	storagememory "holdline/storage/memory"
	"holdline/test/chaos"
)

// patience is for what must happen.
const patience = 60 * time.Second

var (
	ada = chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"}
	bob = chat.Account{Tenant: chat.DefaultTenant, Role: chat.AgentRole, Subject: "bob"}
)

// house is a real server, but for the disk: broker, bridge, journal and storage,
// behind a proxy that can spoil the network.
type house struct {
	*testing.T
	journal journal.Journal
	store   storage.Store
	keys    *token.Keys
	proxy   *chaos.Proxy
	limits  mqtt.Admission
	close   func() // of the front door
}

func newHouse(t *testing.T) *house {
	t.Helper()
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, journal: journalmemory.New(), store: storagememory.New(), keys: keys}
	if h.proxy, err = chaos.Listen("127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.proxy.Close(), h.journal.Close(), h.store.Close()); err != nil {
			t.Error(err)
		}
	})
	h.run("bridge", bridge.New(bridge.Config{Node: "test", Journal: h.journal, Store: h.store, Log: slog.New(slog.DiscardHandler)}).Run)
	h.open()
	err = h.store.PutAgent(t.Context(), storage.Credential{
		Agent:        chat.Agent{Tenant: bob.Tenant, ID: bob.Subject, Name: "Bob", Intent: chat.Available, Capacity: 3},
		PasswordHash: "-",
	}, true, storage.Audit{Tenant: bob.Tenant, Actor: "test", Action: "add", Object: bob.Subject})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run starts a part and waits until it is ready; stop waits until it has ended.
func (h *house) run(name string, run func(context.Context, func()) error) (stop func()) {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				h.Errorf("%s: %v", name, err)
			}
		case <-time.After(patience):
			h.Errorf("%s does not stop", name)
		}
	})
	h.Cleanup(stop)
	select {
	case <-ready:
	case <-time.After(patience):
		h.Fatalf("%s is not ready", name)
	}
	return stop
}

// open opens the front door: a broker on the same journal, on another port than before.
func (h *house) open() {
	h.Helper()
	b, err := broker.New(broker.Config{Node: "test", Journal: h.journal, Keys: h.keys})
	if err != nil {
		h.Fatal(err)
	}
	s := mqtt.NewServer(mqtt.Config{Broker: b, Addr: "127.0.0.1:0", Admission: h.limits})
	if err := s.Listen(h.Context()); err != nil {
		h.Fatal(err)
	}
	stopBroker := h.run("broker", b.Run)
	stopServer := h.run("server", s.Run)
	h.proxy.Retarget(s.Addr().String())
	h.close = func() { stopServer(); stopBroker() }
}

// phone is a client and what it was told.
type phone struct {
	h   *house
	cfg client.Config

	*client.Client
	up   chan struct{} // closed with the first connection of this process
	stop func()

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every event and receipt
	events   []chat.Event
	queue    []chat.Event
	accepted map[chat.MessageID]int
}

// config is a client with a token for who and device.
func (h *house) config(who chat.Account, device string) client.Config {
	return client.Config{
		Broker: h.proxy.Addr(), Role: who.Role, Subject: who.Subject, Device: device, BackoffCap: time.Second,
		Token: func(context.Context) (string, error) {
			now := time.Now()
			return h.keys.Issue(token.Claims{Account: who, Device: device, Issued: now, Expires: now.Add(time.Hour)})
		},
	}
}

func (h *house) phone(who chat.Account, device, dir string) *phone {
	h.Helper()
	p := &phone{h: h, changed: make(chan struct{}), accepted: map[chat.MessageID]int{}}
	p.cfg = h.config(who, device)
	p.cfg.Dir = dir
	p.cfg.OnEvent = func(e chat.Event) error { p.note(func() { p.events = append(p.events, e) }); return nil }
	p.cfg.OnReceipt = func(r client.Receipt) {
		p.note(func() {
			if r.Status == client.Accepted {
				p.accepted[r.ID]++
			} else if r.Status == client.Refused {
				h.Errorf("%s was refused: %s", r.ID, r.Detail)
			}
		})
	}
	if who.Role == chat.AgentRole {
		p.cfg.OnQueueEvent = func(_ chat.QueueID, e chat.Event) error {
			p.note(func() { p.queue = append(p.queue, e) })
			return nil
		}
	}
	p.start()
	return p
}

func (p *phone) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// start is the beginning of a process, its stop the end.
func (p *phone) start() {
	p.h.Helper()
	c, err := client.New(p.cfg)
	if err != nil {
		p.h.Fatal(err)
	}
	p.Client = c
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan struct{}), make(chan error, 1)
	p.up = up
	go func() { ended <- c.Run(ctx, func() { close(up) }) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, c.Close()); err != nil {
			p.h.Errorf("%s: %v", p.cfg.Device, err)
		}
	})
	p.h.Cleanup(func() { p.stop() })
}

func (p *phone) send(text string, options ...client.Option) chat.MessageID {
	p.h.Helper()
	id, err := p.Send(p.h.Context(), text, options...)
	if err != nil {
		p.h.Fatal(err)
	}
	return id
}

// await waits until ok holds for what the phone was told.
func (p *phone) await(what string, ok func() bool) {
	p.h.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		done, changed := ok(), p.changed
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.h.Fatalf("%s: no %s in %s; %d events", p.cfg.Device, what, patience, len(p.events))
		}
	}
}

// settle waits until all that was sent is accepted.
func (p *phone) settle() {
	p.h.Helper()
	ctx, cancel := context.WithTimeout(p.h.Context(), patience)
	defer cancel()
	if err := p.Settle(ctx); err != nil {
		p.h.Fatal(err)
	}
}

// said are the messages a phone knows, after checking that its events have the
// numbers 1, 2, 3 … and every conversation's messages too.
func (p *phone) said() (texts []string) {
	p.h.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	seqs := map[chat.ConversationID]uint64{}
	for i, e := range p.events {
		if _, n, _ := e.Event.Parse(); n != uint64(i+1) {
			p.h.Errorf("%s: event %d is %s", p.cfg.Device, i+1, e.Event)
		}
		if e.Type == chat.TypeMessage {
			if seqs[e.Conversation]++; e.Seq != seqs[e.Conversation] {
				p.h.Errorf("%s: seq %d where %d belongs", p.cfg.Device, e.Seq, seqs[e.Conversation])
			}
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// TestRandomCutsLoseAndDoubleNothing cuts, freezes and deafens the links of two
// phones of one customer while both speak, and one of them is killed and started again.
func TestRandomCutsLoseAndDoubleNothing(t *testing.T) {
	h := newHouse(t)
	one, two := h.phone(ada, "phone-1", t.TempDir()), h.phone(ada, "phone-2", "")
	weather, calm := context.WithTimeout(t.Context(), 4*time.Second)
	defer calm()
	stormed := make(chan chaos.Tally, 1)
	go func() {
		stormed <- h.proxy.Storm(weather, chaos.Storm{Seed: 1, Every: 60 * time.Millisecond, Silence: 200 * time.Millisecond})
	}()
	var want []string
	each := 0
	for ; weather.Err() == nil; each++ {
		n := each
		one.send(fmt.Sprint("one ", n))
		two.send(fmt.Sprint("two ", n))
		want = append(want, fmt.Sprint("one ", n), fmt.Sprint("two ", n))
		// Both are nearly through before the next: the storm has its time, and no outbox fills.
		two.await("messages of both", func() bool { return len(two.events) > 2*n-40 })
		if n%15 == 7 {
			one.stop()
			one.start()
		}
	}
	tally := <-stormed
	if t.Logf("%d messages, %+v", 2*each, tally); tally.Total() < 10 || each < 10 {
		t.Error("that was no storm")
	}
	one.settle()
	two.settle()
	heads := func(p *phone) (n int) {
		for _, e := range p.events {
			if e.Type != chat.TypeMessage {
				n++
			}
		}
		return n
	}
	for _, p := range []*phone{one, two} {
		p.await("every message", func() bool { return len(p.events)-heads(p) >= 2*each })
	}
	for _, p := range []*phone{one, two} {
		texts := p.said()
		for _, by := range []string{"one ", "two "} {
			mine := slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return !strings.HasPrefix(s, by) })
			for n, text := range mine {
				if text != fmt.Sprint(by, n) {
					t.Errorf("%s: %q where %q %d belongs", p.cfg.Device, text, by, n)
				}
			}
		}
		if slices.Sort(texts); !slices.Equal(texts, sorted(want)) {
			t.Errorf("%s has %d messages, want each of %d once", p.cfg.Device, len(texts), len(want))
		}
	}
	for _, p := range []*phone{one, two} {
		for id, n := range p.accepted {
			if n != 1 {
				t.Errorf("%s was accepted %d times", id, n)
			}
		}
		if len(p.accepted) != each {
			t.Errorf("%s: %d accepted, want %d", p.cfg.Device, len(p.accepted), each)
		}
	}
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func TestAwayPhoneGetsEverythingInOrder(t *testing.T) {
	h := newHouse(t)
	one, two := h.phone(ada, "phone-1", t.TempDir()), h.phone(ada, "phone-2", "")
	one.send("first")
	one.await("message", func() bool { return len(one.events) > 0 })
	one.stop()
	const many = 900 // less than an outbox holds
	for n := range many {
		two.send(fmt.Sprint(n))
	}
	two.settle()
	h.close() // and the server starts anew meanwhile
	h.open()
	one.start()
	one.await("all messages", func() bool { return len(one.events) >= len(two.events) && len(two.events) > many })
	for n, text := range one.said()[1:] {
		if text != fmt.Sprint(n) {
			t.Fatalf("%q where %d belongs", text, n)
		}
	}
}

func TestServerRestartIsNotNoticed(t *testing.T) {
	h := newHouse(t)
	one := h.phone(ada, "phone-1", "")
	for n := range 3 {
		one.send(fmt.Sprint("before ", n))
		h.close()
		one.send(fmt.Sprint("meanwhile ", n))
		h.open()
		one.settle()
	}
	want := []string{"before 0", "meanwhile 0", "before 1", "meanwhile 1", "before 2", "meanwhile 2"}
	if got := one.said(); !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}

func TestConversationWithAnAgent(t *testing.T) {
	h := newHouse(t)
	customer, agent := h.phone(ada, "phone-1", ""), h.phone(bob, "desk-1", "")
	select {
	case <-agent.up: // a queue tells only what happens from now on
	case <-time.After(patience):
		t.Fatal("the agent is not connected")
	}
	customer.send("Hi")
	var waiting chat.Event
	agent.await("waiting conversation", func() bool {
		for _, e := range agent.queue {
			if e.Type == chat.TypeConversation && e.Head.State == chat.Waiting {
				waiting = e
			}
		}
		return waiting.Conversation != ""
	})
	if _, err := agent.Command(t.Context(), chat.Command{Do: chat.ActAccept, Conversation: waiting.Conversation}); err != nil {
		t.Fatal(err)
	}
	var mine chat.Event
	agent.await("own conversation", func() bool {
		for _, e := range agent.events {
			if e.Type == chat.TypeConversation && e.Head.State == chat.Held {
				mine = e
			}
		}
		return mine.Head != nil
	})
	agent.send("Good morning", client.In(mine.Conversation), client.Under(mine.Head.Epoch))
	agent.settle()
	customer.await("answer", func() bool {
		return slices.ContainsFunc(customer.events, func(e chat.Event) bool { return e.Text == "Good morning" && e.From.Role == chat.AgentRole })
	})
	if _, err := agent.Command(t.Context(), chat.Command{Do: chat.ActResolve, Conversation: mine.Conversation, Epoch: mine.Head.Epoch}); err != nil {
		t.Fatal(err)
	}
	agent.settle()
	customer.await("resolution", func() bool {
		return slices.ContainsFunc(customer.events, func(e chat.Event) bool { return e.Head != nil && e.Head.State == chat.Resolved })
	})
}

func TestTakenOverClientDoesNotFightBack(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	runs := make(chan error, 2)
	for n := range 2 {
		c, err := client.New(h.config(ada, "phone-1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(ctx, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		go func() { runs <- errors.Join(c.Run(ctx, nil), c.Close()) }()
		if err := c.Settle(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-runs; !errors.Is(err, client.ErrTakenOver) {
		t.Errorf("the first Run = %v, want ErrTakenOver", err)
	}
	cancel()
	if err := <-runs; err != nil {
		t.Errorf("the second Run = %v", err)
	}
}

func TestWrongTokenIsFetchedAnewAndTheSessionGoesOn(t *testing.T) {
	h := newHouse(t)
	p := h.phone(ada, "phone-1", "")
	p.send("Hi")
	p.settle()
	p.stop()
	right, calls := p.cfg.Token, 0
	p.cfg.Token = func(ctx context.Context) (string, error) {
		if calls++; calls == 1 {
			return "old", nil
		}
		return right(ctx)
	}
	p.start()
	p.send("Hi again")
	p.settle()
	if calls != 2 {
		t.Errorf("%d tokens fetched, want 2", calls)
	}
}

func TestTokenOfAnotherDeviceStops(t *testing.T) {
	h := newHouse(t)
	cfg := h.config(ada, "phone-1")
	cfg.Device = "phone-2"
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Run(ctx, nil); !errors.Is(err, client.ErrStopped) {
		t.Errorf("Run = %v, want ErrStopped", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
