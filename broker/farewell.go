package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

// farewell is what the journal is told when a session's connection has ended.
type farewell struct {
	key  string
	sub  journal.Submission
	next time.Time // when something is to be done about the session; zero when it is over
}

// farewell makes the last word about a connection. The caller holds the right
// to write the record, for good.
func (s *Session) farewell(clean bool) *farewell {
	s.mu.Lock()
	r := s.picture()
	keep, recorded := s.durable && !s.lost && r.expiry > 0, s.durable
	s.mu.Unlock()
	r.left = time.Now().UTC()
	f := &farewell{key: s.key, sub: journal.Submission{
		Entries: s.presence(chat.Presence{Up: false, Epoch: s.epoch, Node: s.b.Node, Name: s.name, Clean: clean}),
	}}
	switch {
	case r.will == nil:
	case clean: // [MQTT-3.14.4-3]
		r.will = nil
	case !keep || r.will.delay == 0:
		r.will.publish(&f.sub, s.b, s.origin, r.left)
		r.will = nil
	}
	put := journal.Put{Key: s.key, If: s.version}
	if keep {
		put.Value, f.next = r.encode(), r.next()
	}
	if recorded {
		f.sub.Puts = append(f.sub.Puts, put)
	}
	return f
}

// say makes a farewell durable. One that the journal does not take now, because
// the disk is full say, is said again later: an account whose last connection
// ended unheard would count as connected until the next start.
func (b *Broker) say(ctx context.Context, f *farewell) error {
	if len(f.sub.Entries)+len(f.sub.Puts) > 0 {
		if _, err := b.append(ctx, &f.sub); err != nil {
			if !errors.Is(err, journal.ErrConflict) && !errors.Is(err, journal.ErrFailed) && !errors.Is(err, journal.ErrClosed) {
				b.farewells.put(f)
			}
			return err
		}
	}
	if !f.next.IsZero() {
		b.expiries.at(f.key, f.next)
	}
	return nil
}

// farewells are those that are to be said again, the newest of each session: no
// more than there were connections. They end with the process, because its next
// life begins by telling that nobody is connected.
type farewells struct {
	mu sync.Mutex
	m  map[string]*farewell
}

// farewellEvery is how often what could not be said is tried again.
const farewellEvery = time.Second

func (w *farewells) put(f *farewell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[string]*farewell{}
	}
	w.m[f.key] = f
}

func (w *farewells) take() map[string]*farewell {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.m
	w.m = nil
	return m
}

// repeat says farewells again until ctx ends.
func (b *Broker) repeat(ctx context.Context) {
	tick := time.NewTicker(farewellEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var err error
		for _, f := range b.farewells.take() {
			if err != nil { // it is as it was: not a wait for each of them
				b.farewells.put(f)
				continue
			}
			err = b.sayAgain(ctx, f)
		}
	}
}

// sayAgain says one farewell, unless the client has come back, which is newer. A
// session that was connected in between has another version, and its farewell is void.
func (b *Broker) sayAgain(ctx context.Context, f *farewell) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unlock, err := b.lockSession(within, f.key)
	if err != nil {
		b.farewells.put(f)
		return err
	}
	defer unlock()
	if b.online.get(f.key) != nil {
		return nil
	}
	if err = b.say(within, f); errors.Is(err, journal.ErrConflict) {
		return nil
	}
	return err
}
