package pebble

import (
	"context"
	"slices"
	"sync"

	"holdline/broker/journal"
)

// air carries announcements to the listeners, in order, from a goroutine of
// its own. It holds 1024; what comes when it is full is lost, as the contract allows.
type air struct {
	queue chan journal.Announcement
	ended chan struct{}

	mu        sync.Mutex
	closed    bool
	listeners []*listener
}

type listener struct {
	fn    func(journal.Announcement)
	calls sync.WaitGroup
}

func (a *air) start() {
	a.queue, a.ended = make(chan journal.Announcement, 1024), make(chan struct{})
	go func() {
		defer close(a.ended)
		for what := range a.queue {
			a.mu.Lock()
			listeners := a.listeners
			for _, l := range listeners {
				l.calls.Add(1)
			}
			a.mu.Unlock()
			for _, l := range listeners {
				l.fn(what)
				l.calls.Done()
			}
		}
	}()
}

func (a *air) stop() {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.queue)
	}
	a.mu.Unlock()
	<-a.ended
}

// Announce implements journal.Journal.
func (j *Journal) Announce(ctx context.Context, what journal.Announcement) error {
	a := &j.air
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return journal.ErrClosed
	}
	select {
	case a.queue <- what:
	default: // full: lost
	}
	return ctx.Err()
}

// Listen implements journal.Journal.
func (j *Journal) Listen(fn func(journal.Announcement)) (stop func()) {
	a := &j.air
	l := &listener{fn: fn}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = append(slices.Clip(a.listeners), l)
	return func() {
		a.mu.Lock()
		a.listeners = slices.DeleteFunc(slices.Clone(a.listeners), func(m *listener) bool { return m == l })
		a.mu.Unlock()
		l.calls.Wait()
	}
}
