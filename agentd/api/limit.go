package api

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	rememberedKeys = 10_000          // of each limit; the least recently used is forgotten
	hashPatience   = 2 * time.Second // for one's turn to have a password checked
)

// errBusy: too many passwords are being checked.
var errBusy = errors.New("too many are signing in at once; try again in a moment")

// signIns bounds how often passwords are tried, and how many at once: each
// check takes 19 MiB and a core for a while.
type signIns struct {
	perID, perAddress *limits
	turns             *semaphore.Weighted
}

func newSignIns() *signIns {
	return &signIns{
		perID:      newLimits(rate.Every(time.Minute/5), 10),
		perAddress: newLimits(rate.Every(time.Minute/30), 30),
		turns:      semaphore.NewWeighted(int64(2 * runtime.NumCPU())),
	}
}

// turn waits for a place among those whose password is checked now; errBusy when none gets free.
func (s *signIns) turn(ctx context.Context) (leave func(), err error) {
	wait, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	if s.turns.Acquire(wait, 1) != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errBusy
	}
	return func() { s.turns.Release(1) }, nil
}

// addressKey is what a client address counts as: IPv6 by its /64, which is
// what one customer of a provider has.
func addressKey(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// limits is one rate limit for each key.
type limits struct {
	every rate.Limit
	burst int

	mu     sync.Mutex
	recent *list.List // of *bucket, the most recently used in front
	byKey  map[string]*list.Element
}

type bucket struct {
	key   string
	limit *rate.Limiter
}

func newLimits(every rate.Limit, burst int) *limits {
	return &limits{every: every, burst: burst, recent: list.New(), byKey: map[string]*list.Element{}}
}

// take counts one try and returns 0, or how long it is too early.
func (l *limits) take(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byKey[key]
	if !ok {
		if l.recent.Len() >= rememberedKeys {
			oldest := l.recent.Back()
			l.recent.Remove(oldest)
			delete(l.byKey, oldest.Value.(*bucket).key)
		}
		e = l.recent.PushFront(&bucket{key, rate.NewLimiter(l.every, l.burst)})
		l.byKey[key] = e
	}
	l.recent.MoveToFront(e)
	r := e.Value.(*bucket).limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}
