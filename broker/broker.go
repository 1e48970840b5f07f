// Package broker connects phones, desks and devices, and acknowledges only
// what is in the journal.
//
// It is the session engine under the transport broker/mqtt. What a client
// publishes is acknowledged when the journal has synced it, in the order of the
// publishes. What a client is subscribed to is read from the journal by cursor: live
// from the node's one follower, or late by a pump, so that an offline client is a
// record of a few bytes, nothing waits in memory for a slow one, and nobody waits
// for anybody else's socket. Everything about a session but its cursor is durable before
// it is answered; a lost cursor costs duplicates, never messages.
//
// It does not know packets or sockets, does not store conversations and does
// not decide about them: it checks who speaks, where to, and that it can be read.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"holdline/broker/journal"
	"holdline/broker/token"
	"holdline/broker/topics"
	"holdline/chat"
)

// Config is what a broker needs. Node, Journal and Keys are required.
type Config struct {
	// Node is the name of this node, the same for every life of it.
	Node    string
	Journal journal.Journal
	Keys    *token.Keys
	Log     *slog.Logger // discards when nil
	// Retention is how long the journal is kept, and so the longest a session can
	// be away. 14 days when 0.
	Retention time.Duration
}

// DefaultRetention is the retention of a Config that names none.
const DefaultRetention = 14 * 24 * time.Hour

// Broker is the session engine of one node. Make it with New, start it with Run.
type Broker struct {
	Config
	j journal.Journal

	index   *index
	finding find          // the follower's
	routing atomic.Uint64 // the newest entry of the batch being routed
	routed  atomic.Uint64 // the newest entry that was routed
	started uint64        // the tail when Run began
	life    atomic.Uint64 // the journal's epoch
	wakes   wakes

	stripes     []*semaphore.Weighted
	online      online
	pumps       pumps
	checkpoints checkpoints
	retained    retained
	expiries    expiries
	farewells   farewells
	count       counters
	revoked     revocations
	gauge       Gauge

	stopping atomic.Bool
	broken   atomic.Bool
	breaks   chan struct{} // closed when the journal has failed
}

// New makes a broker. It starts nothing.
func New(c Config) (*Broker, error) {
	var errs []error
	if c.Node == "" {
		errs = append(errs, errors.New("broker: Node is empty"))
	}
	if c.Journal == nil {
		errs = append(errs, errors.New("broker: Journal is missing"))
	}
	if c.Keys == nil {
		errs = append(errs, errors.New("broker: Keys are missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	b := &Broker{
		Config: c, j: c.Journal, index: newIndex(), stripes: newStripes(), breaks: make(chan struct{}),
		online:      online{m: map[string]*Session{}},
		pumps:       pumps{wake: make(chan struct{}, pumpWorkers)},
		checkpoints: checkpoints{urgent: make(chan struct{}, 1)},
		expiries:    expiries{heap: expiryHeap{at: map[string]int32{}}, wake: make(chan struct{}, 1)},
	}
	b.count.init()
	return b, nil
}

// Run serves sessions until ctx ends, and then until the last connection has
// ended, ten seconds at most. When ready is called, the journal knows that no session of
// an earlier life of this node is up.
//
// It returns the journal's error when the journal fails: the process should end then.
func (b *Broker) Run(ctx context.Context, ready func()) error {
	if err := b.tellStart(ctx); err != nil {
		return fmt.Errorf("broker start: %w", err)
	}
	tail := b.j.Tail()
	b.started = tail.Seq
	b.life.Store(tail.Epoch)
	b.routing.Store(tail.Seq)
	b.routed.Store(tail.Seq)
	if err := b.loadRetained(ctx, tail.Seq); err != nil {
		return fmt.Errorf("broker start: %w", err)
	}
	unfollow, err := b.j.Follow(tail.Seq, b.follow)
	if err != nil {
		return fmt.Errorf("broker start: %w", err)
	}
	defer unfollow()
	defer b.j.Listen(b.heard)()

	// The workers outlive ctx: connections that end meanwhile need them.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	for range pumpWorkers {
		g.Go(func() error { b.pumps.work(work); return nil })
	}
	g.Go(func() error { b.checkpoint(work); return nil })
	g.Go(func() error { b.expire(work); return nil })
	g.Go(func() error { b.repeat(work); return nil })
	g.Go(func() error {
		if err := b.restore(work); err != nil && work.Err() == nil {
			b.Log.ErrorContext(ctx, "sessions of the last life were not all looked at", "err", err)
		}
		return nil
	})
	ready()
	select {
	case <-ctx.Done():
	case <-b.breaks:
		err = fmt.Errorf("broker: %w", journal.ErrFailed)
	}
	b.stopping.Store(true)
	for _, s := range b.online.all() {
		s.link.Close(ShuttingDown)
	}
	if left := b.online.wait(patience); left > 0 {
		b.Log.WarnContext(ctx, "connections did not end in time", "count", left)
	}
	stop()
	return errors.Join(err, g.Wait())
}

// tellStart makes durable, in every partition, that this node begins a new
// life: no session that was up on it can be up.
func (b *Broker) tellStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var sub journal.Submission
	for p := range chat.Partitions {
		sub.Entries = append(sub.Entries, journal.Entry{Topic: topics.NodeStart(b.Node), Payload: []byte("{}"), Partition: p})
	}
	_, err := b.append(ctx, &sub)
	return err
}

// failed looks at what the journal answered. When the journal has failed,
// nothing is acknowledged any more: every connection is closed and Run returns.
func (b *Broker) failed(err error) {
	if !errors.Is(err, journal.ErrFailed) || b.broken.Swap(true) {
		return
	}
	b.Log.Error("the journal has failed; every connection is closed", "err", err)
	close(b.breaks)
	for _, s := range b.online.all() {
		s.link.Close(Unavailable)
	}
}

// online are the sessions that are connected.
type online struct {
	mu   sync.Mutex
	m    map[string]*Session
	idle chan struct{} // closed when m is empty; nil when nobody waits
}

func (o *online) get(key string) *Session {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.m[key]
}

func (o *online) put(s *Session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[s.key] = s
}

// remove takes s out, unless another connection has the session.
func (o *online) remove(s *Session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m[s.key] == s {
		delete(o.m, s.key)
	}
	if len(o.m) == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

func (o *online) all() []*Session {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*Session, 0, len(o.m))
	for _, s := range o.m {
		list = append(list, s)
	}
	return list
}

func (o *online) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.m)
}

// wait waits until nobody is connected; it returns how many are when it gives up.
func (o *online) wait(patience time.Duration) int {
	o.mu.Lock()
	if len(o.m) == 0 {
		o.mu.Unlock()
		return 0
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	return o.len()
}
