package bridge

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
	"holdline/storage"
)

// frozenStore and frozenJournal are what a process sees that is stopped at one
// place for a long time, as by SIGSTOP. What it was about to do it does when it wakes,
// whatever the time is then.
type frozenStore struct {
	storage.Store
	*stuck
	at string
}

func (s frozenStore) Transact(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) error {
	if s.at == "before commit" && s.freeze() {
		err := s.Store.Transact(context.WithoutCancel(ctx), scope, decide)
		s.woken <- err
		return err
	}
	err := s.Store.Transact(ctx, scope, decide)
	if s.at == "after commit" && s.freeze() {
		s.woken <- nil
	}
	return err
}

func (s frozenStore) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	if s.at == "before mark" && s.freeze() {
		err := s.Store.Published(context.WithoutCancel(ctx), l, events)
		s.woken <- err
		return err
	}
	return s.Store.Published(ctx, l, events)
}

type frozenJournal struct {
	journal.Journal
	*stuck
	at string
}

func (j frozenJournal) Append(ctx context.Context, s *journal.Submission) error {
	if s.Entries == nil || j.at != "before append" && j.at != "after append" || j.once.Load() {
		return j.Journal.Append(ctx, s)
	}
	done := s.Done
	learned := make(chan journal.Result, 1)
	s.Done = func(r journal.Result) { learned <- r }
	if j.at == "before append" {
		j.freeze()
	}
	err := j.Journal.Append(context.WithoutCancel(ctx), s)
	if err == nil {
		r := <-learned
		if j.at == "after append" {
			j.freeze()
		}
		done(r)
		err = r.Err
	}
	j.woken <- err
	return nil
}

// TestAFrozenBridgeWritesNothingWhenItWakes stops one of two bridges at each
// place of the way, lets the other take over, and wakes the first.
func TestAFrozenBridgeWritesNothingWhenItWakes(t *testing.T) {
	for _, engine := range engines {
		for _, at := range []string{"before commit", "after commit", "before append", "after append", "before mark"} {
			t.Run(engine.name+"/"+at, func(t *testing.T) {
				w := engine.world(t)
				now, s := newClock(), newStuck()
				a := w.startOn(frozenJournal{w.journal, s, at}, frozenStore{w.store, s, at}, "a",
					func(b *Bridge) { quick(now)(b); b.leases.renew = time.Hour })
				w.append(says(ada, "1", "hello"), says(ada, "2", "there"))
				select {
				case <-s.frozen:
				case <-time.After(patience):
					t.Fatal("the first bridge never came to that place")
				}

				now.advance(leaseTTL + time.Second)
				b := w.start("b", quick(now))
				w.awaitShares(map[string]int{"b": 16}, b)
				w.take(says(ada, "3", "still there?"), says(bea, "1", "hi"))

				close(s.release)
				select {
				case err := <-s.woken:
					fenced := at == "before commit" || at == "before mark"
					if fenced != errors.Is(err, storage.ErrFenced) {
						t.Errorf("the frozen bridge learned %v when it woke", err)
					}
				case <-time.After(patience):
					t.Fatal("the frozen bridge does not wake")
				}
				w.take(says(ada, "4", "good"))

				var of chat.ConversationID
				for _, c := range w.conversations() {
					if c.Customer == ada {
						of = c.ID
					}
				}
				w.wantTexts(of, "1 ada hello", "2 ada there", "3 ada still there?", "4 ada good")
				w.wantTold(ada.Inbox(), "message 1 ada hello", "head waiting last 1", "message 2 ada there",
					"message 3 ada still there?", "message 4 ada good")
				w.audit()
				if entries := a.Stats().Entries; at == "before commit" && entries != 0 {
					t.Errorf("the frozen bridge stored %d entries", entries)
				}
				if got := fmt.Sprint(w.holders(kindInput)); got != "map[b:16]" {
					t.Errorf("input is held by %s, want b", got)
				}
			})
		}
	}
}
