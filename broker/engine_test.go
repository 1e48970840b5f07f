package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/token"
	"holdline/broker/topics"
	"holdline/chat"
)

// patience bounds every wait of these tests; nothing waits that long unless it fails.
const patience = 10 * time.Second

// node is a broker on a journal in memory.
type node struct {
	*broker.Broker
	t    testing.TB
	j    *memory.Journal
	stop func()

	crashed *atomic.Bool // its journal answers nothing any more
}

// crash ends the node and its journal as kill -9 would, and starts the next life.
func (n *node) crash() *node {
	n.t.Helper()
	j := n.j.Crash()
	n.crashed.Store(true)
	n.stop()
	return start(n.t, j)
}

func start(t testing.TB, j *memory.Journal) *node {
	t.Helper()
	return startOn(t, j, j)
}

// startOn is start for a journal that wraps the one in memory.
func startOn(t testing.TB, j *memory.Journal, as journal.Journal) *node {
	t.Helper()
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Node: "n1", Journal: as, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- b.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	n := &node{Broker: b, t: t, j: j, crashed: new(atomic.Bool)}
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(func() {
		n.stop()
		if err := j.Close(); err != nil && !errors.Is(err, journal.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// phone is a connection without a socket.
type phone struct {
	t       testing.TB
	who     broker.Identity
	s       *broker.Session
	present bool
	ctx     context.Context

	mu      sync.Mutex
	acks    []broker.Ack
	closed  broker.Reason
	cancel  context.CancelFunc
	woken   chan struct{}
	crashed *atomic.Bool // the node's
	ending  atomic.Bool
	ended   chan struct{}
}

func (p *phone) Wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *phone) Acked(acks []broker.Ack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acks = append(p.acks, acks...)
}

func (p *phone) Stop() { p.cancel() }

// Close ends the connection as a transport would: from a goroutine of its own.
func (p *phone) Close(r broker.Reason) {
	p.mu.Lock()
	if p.closed == 0 {
		p.closed = r
	}
	p.mu.Unlock()
	p.Wake()
	go p.end(false)
}

func (p *phone) end(clean bool) {
	if p.ending.Swap(true) {
		<-p.ended
		return
	}
	defer close(p.ended)
	err := p.s.End(p.ctx, clean, nil)
	if err != nil && !errors.Is(err, broker.ErrUnavailable) && !p.crashed.Load() {
		p.t.Errorf("End: %v", err)
	}
}

// drop ends the connection as a lost link does.
func (p *phone) drop() { p.end(false) }

func anonymous(id string) broker.Identity {
	return broker.Identity{Mount: topics.Mount{Client: id}}
}

func customer(subject, id string) broker.Identity {
	a := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: subject}
	return broker.Identity{Mount: topics.MountFor(a, id), Name: strings.ToUpper(subject)}
}

func service(subject, id string) broker.Identity {
	a := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Service, Subject: subject}
	return broker.Identity{Mount: topics.MountFor(a, id)}
}

func (n *node) dial(h broker.Hello) (*phone, error) {
	p := &phone{t: n.t, who: h.Identity, woken: make(chan struct{}, 1), ended: make(chan struct{}), crashed: n.crashed}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(n.t.Context()))
	h.Link = p
	s, present, err := n.Connect(p.ctx, h)
	if err != nil {
		return nil, err
	}
	p.s, p.present = s, present
	s.Begin()
	return p, nil
}

// connect resumes or begins a session that is kept for an hour.
func (n *node) connect(id broker.Identity, change ...func(*broker.Hello)) *phone {
	n.t.Helper()
	h := broker.Hello{Identity: id, Expiry: time.Hour, Strict: true}
	for _, c := range change {
		c(&h)
	}
	p, err := n.dial(h)
	if err != nil {
		n.t.Fatalf("Connect: %v", err)
	}
	return p
}

func clean(h *broker.Hello)     { h.Clean = true }
func transient(h *broker.Hello) { h.Expiry = 0 }
func old(h *broker.Hello)       { h.Strict = false }
func window(n int) func(*broker.Hello) {
	return func(h *broker.Hello) { h.Window = n }
}

// do runs what a reader does between Enter and Leave.
func (p *phone) do(work func()) error {
	if !p.s.Enter() {
		return broker.ErrGone
	}
	work()
	return p.s.Leave(p.ctx)
}

func (p *phone) subscribe(subs ...broker.Subscription) []broker.Grant {
	p.t.Helper()
	var grants []broker.Grant
	var err error
	if e := p.do(func() { grants, err = p.s.Subscribe(p.ctx, subs) }); e != nil || err != nil {
		p.t.Fatalf("Subscribe: %v %v", e, err)
	}
	return grants
}

func (p *phone) sub(filter string, qos byte) {
	p.t.Helper()
	if g := p.subscribe(broker.Subscription{Filter: filter, QoS: qos}); g[0].Err != nil {
		p.t.Fatalf("Subscribe %q: %v", filter, g[0].Err)
	}
}

// publish sends publishes in one go; the error is that of the first to end the connection.
func (p *phone) publish(publishes ...broker.Publish) (err error) {
	e := p.do(func() {
		for i := range publishes {
			if err = p.s.Publish(p.ctx, &publishes[i]); err != nil {
				return
			}
		}
	})
	return errors.Join(err, e)
}

// say is publish of one message of QoS 1, and waits for the acknowledgement.
func (p *phone) say(id uint16, topic, payload string) broker.Ack {
	p.t.Helper()
	before := len(p.acked(0))
	if err := p.publish(broker.Publish{ID: id, QoS: 1, Topic: []byte(topic), Payload: []byte(payload)}); err != nil {
		p.t.Fatalf("Publish: %v", err)
	}
	return p.acked(before + 1)[before]
}

// acked waits for n acknowledgements in all and returns all there are.
func (p *phone) acked(n int) []broker.Ack {
	p.t.Helper()
	p.wait(func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.acks) >= n
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.acks)
}

// wait waits for something that comes with a Wake.
func (p *phone) wait(until func() bool) {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !until() {
		select {
		case <-p.woken:
		case <-limit.C:
			p.t.Fatal("waited in vain")
		}
	}
}

// take waits for exactly n deliveries.
func (p *phone) take(n int) []broker.Delivery {
	p.t.Helper()
	var got []broker.Delivery
	p.wait(func() bool {
		got = p.s.Take(got, 1<<20)
		return len(got) >= n
	})
	if len(got) > n {
		p.t.Fatalf("%d deliveries, want %d", len(got), n)
	}
	return got
}

func (p *phone) ack(ids ...uint16) {
	p.t.Helper()
	if err := p.do(func() {
		for _, id := range ids {
			p.s.Acknowledge(id)
		}
	}); err != nil {
		p.t.Fatalf("ack: %v", err)
	}
}

// nothing checks that no delivery comes: one that is known to come after is
// the only one there is.
func (p *phone) nothing(n *node, topic string) {
	p.t.Helper()
	n.append(topic, "marker")
	if got := p.take(1); string(got[0].Payload) != "marker" {
		p.t.Fatalf("got %q, want nothing", got[0].Payload)
	} else if got[0].ID != 0 {
		p.ack(got[0].ID)
	}
}

// append writes to the journal as another part would.
func (n *node) append(topic, payload string) uint64 {
	n.t.Helper()
	s := &journal.Submission{Entries: []journal.Entry{{Topic: topic, Payload: []byte(payload), Partition: journal.NoPartition}}}
	n.submit(s)
	return s.Entries[0].Seq
}

func (n *node) submit(s *journal.Submission) {
	n.t.Helper()
	done := make(chan journal.Result, 1)
	s.Done = func(r journal.Result) { done <- r }
	if err := n.j.Append(n.t.Context(), s); err != nil {
		n.t.Fatalf("append: %v", err)
	}
	if r := <-done; r.Err != nil {
		n.t.Fatalf("append: %v", r.Err)
	}
}

// reason waits until the engine has closed the connection.
func (p *phone) reason() broker.Reason {
	p.t.Helper()
	p.wait(func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed != 0
	})
	return p.closed
}

// entries returns what the journal has under a filter.
func (n *node) entries(filter string) []*journal.Entry {
	n.t.Helper()
	var all []*journal.Entry
	for after, tail := uint64(0), n.j.Tail().Seq; after < tail; {
		page, err := n.j.Read(n.t.Context(), []string{filter}, after, 1000)
		if err != nil {
			n.t.Fatal(err)
		}
		all, after = append(all, page.Entries...), page.Through
	}
	return all
}
