package broker

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdline/broker/journal"
)

// expiries are the sessions that nobody is connected to, by when they end. All
// that is kept of each is its key and that time.
type expiries struct {
	mu   sync.Mutex
	heap expiryHeap
	wake chan struct{} // holds one: the next end came nearer
}

type expiry struct {
	at  int64 // Unix milliseconds
	key string
}

// expiryHeap knows where each key is, so that a session is in it once.
type expiryHeap struct {
	list []expiry
	at   map[string]int32
}

func (h *expiryHeap) Len() int           { return len(h.list) }
func (h *expiryHeap) Less(i, j int) bool { return h.list[i].at < h.list[j].at }
func (h *expiryHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.at[h.list[i].key], h.at[h.list[j].key] = int32(i), int32(j)
}

// Push implements heap.Interface.
func (h *expiryHeap) Push(x any) {
	e := x.(expiry)
	h.at[e.key] = int32(len(h.list))
	h.list = append(h.list, e)
}

// Pop implements heap.Interface.
func (h *expiryHeap) Pop() any {
	last := h.list[len(h.list)-1]
	h.list[len(h.list)-1] = expiry{}
	h.list = h.list[:len(h.list)-1]
	delete(h.at, last.key)
	return last
}

// at sets when a session ends.
func (x *expiries) at(key string, when time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ms := when.UnixMilli()
	if i, ok := x.heap.at[key]; ok {
		x.heap.list[i].at = ms
		heap.Fix(&x.heap, int(i))
	} else {
		heap.Push(&x.heap, expiry{ms, key})
	}
	if x.heap.list[0].key == key {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// cancel forgets a session: somebody is connected to it.
func (x *expiries) cancel(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := x.heap.at[key]; ok {
		heap.Remove(&x.heap, int(i))
	}
}

func (x *expiries) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.heap.list)
}

// due takes out one session that has ended; otherwise it says how long to wait.
func (x *expiries) due(now time.Time) (key string, ok bool, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.heap.list) == 0 {
		return "", false, time.Hour
	}
	if wait = time.UnixMilli(x.heap.list[0].at).Sub(now); wait > 0 {
		return "", false, wait
	}
	return heap.Pop(&x.heap).(expiry).key, true, 0
}

// expire ends sessions whose time has come, until ctx ends.
func (b *Broker) expire(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		key, ok, wait := b.expiries.due(time.Now())
		if ok {
			if err := b.forget(ctx, key); err != nil && ctx.Err() == nil {
				b.Log.WarnContext(ctx, "expired session not removed", "err", err)
				b.expiries.at(key, time.Now().Add(time.Minute))
			}
			if ctx.Err() != nil {
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-b.expiries.wake:
		case <-ctx.Done():
			return
		}
	}
}

// forget does what is due for a session that nobody is connected to: it
// publishes its will, and removes the record when the session has ended. A session that is
// connected, or that was in the meantime, is left alone.
func (b *Broker) forget(ctx context.Context, key string) error {
	unlock, err := b.lockSession(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if b.online.get(key) != nil {
		return nil
	}
	r, raw, err := b.stored(ctx, key)
	switch {
	case err != nil || r == nil || r.left.IsZero():
		return err
	case time.Now().Before(r.next()):
		b.expiries.at(key, r.next())
		return nil
	case r.will != nil:
		return b.mourn(ctx, key, r, raw.Version)
	}
	// Nobody waits for it; if it is lost in a crash, the next start finds it again.
	return b.j.Append(ctx, &journal.Submission{Puts: []journal.Put{{Key: key, If: raw.Version}}, Lazy: true})
}

// mourn publishes a will whose time has come. The session goes on without it,
// if it goes on.
func (b *Broker) mourn(ctx context.Context, key string, r *record, version uint64) error {
	m, _ := mountOf(key) // it was read before
	var sub journal.Submission
	r.will.publish(&sub, b, originOf(m, key), time.Now())
	r.will = nil
	put := journal.Put{Key: key, If: version}
	over := !time.Now().Before(r.ends())
	if !over {
		put.Value = r.encode()
	}
	sub.Puts = append(sub.Puts, put)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch _, err := b.append(ctx, &sub); {
	case errors.Is(err, journal.ErrConflict):
		return nil // somebody is connected to it, or has published it
	case err != nil:
		return err
	}
	if !over {
		b.expiries.at(key, r.ends())
	}
	return nil
}

// stored reads a session's record; nil when there is none that can be read.
func (b *Broker) stored(ctx context.Context, key string) (*record, journal.Record, error) {
	m, ok := mountOf(key)
	if !ok {
		return nil, journal.Record{}, nil
	}
	raw, ok, err := b.j.Record(ctx, key)
	if err != nil || !ok {
		return nil, raw, err
	}
	r, err := decodeRecord(raw.Value, m)
	if err != nil {
		return nil, raw, nil // it cannot be read: connecting starts it anew
	}
	return r, raw, nil
}

// restore finds the sessions that the last life of this node left: those that
// nobody was connected to are given their end; those that were connected are away since now.
func (b *Broker) restore(ctx context.Context) error {
	var cut []string
	err := b.j.Records(ctx, sessionPrefix, func(raw journal.Record) error {
		m, ok := mountOf(raw.Key)
		if !ok {
			return nil
		}
		r, err := decodeRecord(raw.Value, m)
		switch {
		case err != nil:
			b.Log.WarnContext(ctx, "session record skipped", "device", m.Client, "err", err)
		case !r.left.IsZero():
			b.expiries.at(raw.Key, r.next())
		case r.node == b.Node:
			cut = append(cut, raw.Key)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cutOffAtOnce)
	for _, key := range cut {
		g.Go(func() error { return b.cutOff(ctx, key) })
	}
	return g.Wait()
}

// cutOffAtOnce is how many records are written together after a crash.
const cutOffAtOnce = 64

// cutOff writes down that a session's connection ended with the process.
func (b *Broker) cutOff(ctx context.Context, key string) error {
	unlock, err := b.lockSession(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if b.online.get(key) != nil {
		return nil
	}
	r, raw, err := b.stored(ctx, key)
	if err != nil || r == nil || !r.left.IsZero() || r.node != b.Node {
		return err
	}
	m, _ := mountOf(key) // stored has read it
	b.presume(r, LimitsOf(m.Account.Role))
	r.left = time.Now().UTC()
	if r.will != nil && !r.left.Before(r.willDue()) {
		return b.mourn(ctx, key, r, raw.Version)
	}
	b.expiries.at(key, r.next())
	_, err = b.append(ctx, &journal.Submission{Puts: []journal.Put{{Key: key, Value: r.encode(), If: raw.Version}}})
	return err
}
