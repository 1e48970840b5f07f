package memory

import (
	"context"
	"slices"
	"sync"

	"holdline/broker/journal"
)

// air carries announcements to the listeners, in order, from a goroutine of
// its own. It holds 1024; what comes when it is full is lost, as the contract allows.
type air struct {
	queue chan announced
	ended chan struct{}

	mu        sync.Mutex
	closed    bool
	listeners []*listener // replaced, never changed
	unheard   uint64
}

// lost counts the announcements that found no room.
func (a *air) lost() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unheard
}

// announced is an announcement and who was there to hear it.
type announced struct {
	journal.Announcement
	listeners []*listener
}

type listener struct {
	fn      func(journal.Announcement)
	stopped bool           // guarded by air.mu
	calls   sync.WaitGroup // of fn; only added to before it is stopped
}

func (a *air) start() {
	a.queue, a.ended = make(chan announced, 1024), make(chan struct{})
	go func() {
		defer close(a.ended)
		for what := range a.queue {
			for _, l := range what.listeners {
				if a.begin(l) {
					l.fn(what.Announcement)
					l.calls.Done()
				}
			}
		}
	}()
}

func (a *air) begin(l *listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.stopped {
		return false
	}
	l.calls.Add(1)
	return true
}

// stop lets what was announced be heard, and ends.
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
	if err := ctx.Err(); err != nil {
		return err
	}
	a := &j.air
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return journal.ErrClosed
	}
	if len(a.listeners) == 0 {
		return nil
	}
	select {
	case a.queue <- announced{what, a.listeners}:
	default: // full: lost
		a.unheard++
	}
	return nil
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
		l.stopped = true
		a.listeners = slices.DeleteFunc(slices.Clone(a.listeners), func(m *listener) bool { return m == l })
		a.mu.Unlock()
		l.calls.Wait()
	}
}
