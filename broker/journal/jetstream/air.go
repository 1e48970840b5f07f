package jetstream

import (
	"context"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

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

// Announce implements journal.Journal. Listeners of this process hear it from
// here, those of others over the servers.
func (j *Journal) Announce(ctx context.Context, what journal.Announcement) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := j.air.say(what); err != nil {
		return err
	}
	b := appendBytes([]byte{encoding}, fieldTopic, what.Topic)
	b = appendBytes(b, fieldPayload, what.Payload)
	b = appendBytes(b, fieldProperties, what.Properties)
	if err := j.fetch.conn.Publish(j.names.air(), b); err != nil {
		j.log.Debug("announcement lost", "err", err) // as the contract allows
	}
	return nil
}

// hear passes on what others announce.
func (j *Journal) hear(conn *nats.Conn) error {
	_, err := conn.Subscribe(j.names.air(), func(m *nats.Msg) {
		b, err := decode(m.Data)
		if err != nil {
			j.log.Warn("announcement not understood", "err", err)
			return
		}
		// Closed is no news here.
		_ = j.air.say(journal.Announcement{Topic: b.entry.Topic, Payload: b.entry.Payload, Properties: b.entry.Properties})
	})
	return err
}

func (a *air) say(what journal.Announcement) error {
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
