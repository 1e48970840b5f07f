package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdline/chat"
	"holdline/storage"
)

// The kinds of leases: who takes in a partition's input, who publishes its events.
const (
	kindInput   = "input"
	kindPublish = "publish"
	// membership counts the live bridges, so that each knows its share.
	membership = "bridge/"
)

// renewals bounds the lease calls in flight: enough that a slow storage can
// renew all within their time, few enough to leave room for the work.
const renewals = 4

func leaseName(kind string, partition int) string { return fmt.Sprintf("%s/%02d", kind, partition) }

// holding is one lease as its holder sees it.
type holding struct {
	storage.Lease
	// deadline is by the local clock, from before the call that took the lease:
	// never later than what storage counts.
	deadline time.Time
}

// leases keeps this bridge's share of the work. A lease is dropped the moment
// storage says it moved on, and is not valid past its deadline even when nobody
// could tell.
type leases struct {
	node    string
	store   storage.Store
	log     *slog.Logger
	now     func() time.Time
	ttl     time.Duration
	renew   time.Duration
	again   time.Duration
	changed func() // called, without a lock, when a lease was gained

	mu   sync.Mutex
	held map[string]holding // by name

	// Of run alone:
	self    storage.Lease
	settled map[string]bool // what an earlier life held of a kind is taken or given back
}

func newLeases(c Config) *leases {
	return &leases{
		node: c.Node, store: c.Store, log: c.Log, now: c.Now,
		ttl: leaseTTL, renew: renewEvery, again: claimEvery,
		held: map[string]holding{}, settled: map[string]bool{},
	}
}

// get returns a lease that is valid now.
func (l *leases) get(kind string, partition int) (holding, bool) {
	l.mu.Lock()
	h, ok := l.held[leaseName(kind, partition)]
	l.mu.Unlock()
	return h, ok && l.now().Before(h.deadline)
}

// valid reports whether h is still held under the same epoch.
func (l *leases) valid(h holding) bool {
	l.mu.Lock()
	have, ok := l.held[h.Name]
	l.mu.Unlock()
	return ok && have.Epoch == h.Epoch && l.now().Before(have.deadline)
}

// count is how many leases of a kind are held.
func (l *leases) count(kind string) (n int) {
	for p := range chat.Partitions {
		if _, ok := l.get(kind, p); ok {
			n++
		}
	}
	return n
}

// bound limits ctx to the time h still has.
func (l *leases) bound(ctx context.Context, h ...holding) (context.Context, context.CancelFunc) {
	left := callTimeout
	for _, h := range h {
		left = min(left, h.deadline.Sub(l.now()))
	}
	return context.WithTimeout(ctx, left)
}

// drop forgets a lease that moved on.
func (l *leases) drop(h holding) {
	l.mu.Lock()
	have, ok := l.held[h.Name]
	ok = ok && have.Epoch == h.Epoch
	if ok {
		delete(l.held, h.Name)
	}
	l.mu.Unlock()
	if ok {
		l.log.Warn("lease lost", "lease", h.Name, "epoch", h.Epoch)
	}
}

// verify renews h if it is still ours, and drops it when storage says it is not.
func (l *leases) verify(ctx context.Context, h holding) error {
	if !l.valid(h) {
		return nil // given back, or lapsed: not to be taken again by way of a renewal
	}
	err := l.claim(ctx, h.Name, h.Epoch)
	if errors.Is(err, storage.ErrFenced) {
		l.drop(h)
		return nil
	}
	return err
}

// run claims and renews until ctx ends, then gives everything back. ready is
// called after each round that storage answered.
func (l *leases) run(ctx context.Context, ready func()) {
	var wait backoff
	for ctx.Err() == nil {
		pause := l.renew
		switch short, err := l.round(ctx); {
		case err != nil && ctx.Err() == nil:
			l.log.Warn("leases not renewed", "err", err)
			pause = min(wait.pause(), l.renew)
		case err == nil:
			wait.reset()
			ready()
			if short {
				pause = l.again
			}
		}
		sleep(ctx, pause)
	}
	l.yieldAll(ctx)
}

// round renews what is held and moves towards this bridge's share. short is true when it
// has less than that.
func (l *leases) round(ctx context.Context) (short bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.ttl)
	defer cancel()
	at := l.now()
	if l.self, err = l.store.Claim(ctx, membership+l.node, l.node, l.self.Epoch, at, l.ttl); err != nil {
		return true, fmt.Errorf("claim membership: %w", err) // with the epoch forgotten: a restart, next time
	}
	if err := l.renewHeld(ctx); err != nil {
		return true, err
	}
	members, err := l.members(ctx)
	if err != nil {
		return true, err
	}
	for _, kind := range []string{kindInput, kindPublish} {
		less, err := l.balance(ctx, kind, share(members, l.node, kind))
		if err != nil {
			return true, err
		}
		short = short || less
	}
	return short, nil
}

func (l *leases) renewHeld(ctx context.Context) error {
	l.mu.Lock()
	var list []holding
	for name, h := range l.held {
		if l.now().Before(h.deadline) {
			list = append(list, h)
		} else {
			delete(l.held, name) // what comes after a lapse is a new lease
		}
	}
	l.mu.Unlock()
	var g errgroup.Group // one failure must not take the others' turn
	g.SetLimit(renewals)
	for _, h := range list {
		g.Go(func() error { return l.verify(ctx, h) })
	}
	return g.Wait()
}

// members lists the live bridges, this one included.
func (l *leases) members(ctx context.Context) ([]string, error) {
	rows, err := l.store.Leases(ctx, membership)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	members := []string{l.node}
	for _, r := range rows {
		if node := strings.TrimPrefix(r.Name, membership); node != l.node && r.Holder != "" && r.Until.After(l.now()) {
			members = append(members, node)
		}
	}
	slices.Sort(members)
	return members, nil
}

// share is how many partitions of a kind fall to node: all of them over all
// members, the remainder to the first ones for input and to the last ones for publishing.
func share(members []string, node, kind string) int {
	k, i := len(members), slices.Index(members, node)
	if kind == kindPublish {
		i = k - 1 - i
	}
	n := chat.Partitions / k
	if i < chat.Partitions%k {
		n++
	}
	return n
}

// balance gives back what is more than want, or claims what is free towards it.
func (l *leases) balance(ctx context.Context, kind string, want int) (short bool, err error) {
	var mine, others []int
	for p := range chat.Partitions {
		if _, ok := l.get(kind, p); ok {
			mine = append(mine, p)
		} else {
			others = append(others, p)
		}
	}
	for _, p := range mine[min(want, len(mine)):] {
		if err := l.yield(ctx, leaseName(kind, p)); err != nil {
			return false, err
		}
	}
	if len(mine) > want {
		mine = mine[:want]
	}
	if len(mine) == want && l.settled[kind] {
		return false, nil
	}
	rows, err := l.store.Leases(ctx, kind+"/")
	if err != nil {
		return false, fmt.Errorf("list leases: %w", err)
	}
	holder := map[string]string{}
	for _, r := range rows {
		if r.Until.After(l.now()) {
			holder[r.Name] = r.Holder
		}
	}
	// What an earlier life of this node holds comes first: nobody else can take it
	// before it lapses, so the surplus of that is given back at once.
	slices.SortStableFunc(others, func(a, b int) int {
		ours := func(p int) int {
			if holder[leaseName(kind, p)] == l.node {
				return 0
			}
			return 1
		}
		return ours(a) - ours(b)
	})
	var g errgroup.Group
	g.SetLimit(renewals)
	for _, p := range others {
		name := leaseName(kind, p)
		switch h := holder[name]; {
		case h != "" && h != l.node:
			continue
		case len(mine) == want && h == "":
			continue
		case len(mine) == want:
			g.Go(func() error { return l.dispose(ctx, name) })
			continue
		}
		mine = append(mine, p)
		g.Go(func() error {
			if err := l.claim(ctx, name, 0); err != nil && !errors.Is(err, storage.ErrFenced) {
				return err
			}
			return nil // somebody was faster
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	l.settled[kind] = true
	return l.count(kind) < want, nil
}

// claim takes or renews one lease. known is 0 for one that is not held.
func (l *leases) claim(ctx context.Context, name string, known uint64) error {
	at := l.now()
	row, err := l.store.Claim(ctx, name, l.node, known, at, l.ttl)
	if err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	l.mu.Lock()
	gained := l.held[name].Epoch != row.Epoch
	l.held[name] = holding{row, at.Add(l.ttl)}
	l.mu.Unlock()
	if gained {
		l.log.Debug("lease gained", "lease", name, "epoch", row.Epoch)
		l.changed()
	}
	return nil
}

// dispose gives back what an earlier life of this node holds.
func (l *leases) dispose(ctx context.Context, name string) error {
	row, err := l.store.Claim(ctx, name, l.node, 0, l.now(), l.ttl)
	switch {
	case errors.Is(err, storage.ErrFenced):
		return nil // it lapsed, and somebody was faster
	case err != nil:
		return fmt.Errorf("claim %s: %w", name, err)
	}
	if err := l.store.Yield(ctx, row); err != nil {
		return fmt.Errorf("yield %s: %w", name, err)
	}
	return nil
}

// yield stops the work under a lease, then gives it back.
func (l *leases) yield(ctx context.Context, name string) error {
	l.mu.Lock()
	h, ok := l.held[name]
	delete(l.held, name)
	l.mu.Unlock()
	if !ok {
		return nil
	}
	if err := l.store.Yield(ctx, h.Lease); err != nil {
		return fmt.Errorf("yield %s: %w", name, err)
	}
	l.log.Info("lease given back", "lease", name, "epoch", h.Epoch)
	return nil
}

// yieldAll gives everything back at the end, so that others need not wait for
// the leases to lapse.
func (l *leases) yieldAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	l.mu.Lock()
	rows := []storage.Lease{l.self}
	for _, h := range l.held {
		rows = append(rows, h.Lease)
	}
	clear(l.held)
	l.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(renewals)
	for _, r := range rows {
		g.Go(func() error { return l.store.Yield(ctx, r) })
	}
	if err := g.Wait(); err != nil {
		l.log.Warn("leases not given back; they lapse by themselves", "err", err)
	}
}
