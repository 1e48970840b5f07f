package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// poisonous refuses every transaction that would remember an id beginning with
// "poison", and every one that would tell the cursed anything.
func poisonous(w *world, cursed chat.Account) {
	w.store.before = func(ctx context.Context, s storage.Scope, decide func(*storage.Unit) error) error {
		for _, k := range s.Said {
			if strings.HasPrefix(string(k.ID), "poison") {
				return fmt.Errorf("%w: %s", storage.ErrPermanent, k.ID)
			}
		}
		var told []chat.Inbox
		nothing := errors.New("only trying")
		err := w.store.Store.Transact(ctx, s, func(u *storage.Unit) error {
			if err := decide(u); err != nil {
				return err
			}
			told = u.Told()
			return nothing
		})
		for _, i := range told {
			if i == cursed.Inbox() {
				return fmt.Errorf("%w: %s", storage.ErrPermanent, i)
			}
		}
		if errors.Is(err, nothing) {
			return nil
		}
		return err
	}
}

func TestPoisonIsIsolatedRefusedAndPassed(t *testing.T) {
	w := newWorld(t)
	poisonous(w, bea)
	var all []journal.Entry
	for n := range 50 {
		all = append(all, says(ada, fmt.Sprint(n), fmt.Sprint("word ", n)))
		switch n {
		case 13, 14, 40:
			all = append(all, says(ada, fmt.Sprint("poison-", n), "x"))
		case 30:
			all = append(all, says(bea, "1", "cursed"))
		}
	}
	w.append(all...)
	b := w.start("a")
	w.settle()

	c := w.only()
	var want []string
	for n := range 50 {
		want = append(want, fmt.Sprintf("%d ada word %d", n+1, n))
	}
	w.wantTexts(c.ID, want...)
	var refused []string
	for _, e := range w.told(ada.Inbox()) {
		if e.Type == chat.TypeRefused {
			refused = append(refused, fmt.Sprint(e.ID, " ", e.Reason))
		}
	}
	if got := strings.Join(refused, ", "); got != "poison-13 internal, poison-14 internal, poison-40 internal" {
		t.Errorf("refused %s", got)
	}
	if s := b.Stats(); s.Poison != 4 || s.Untold != 1 || s.Refused[chat.ReasonInternal] != 3 || s.Entries != 54 {
		t.Errorf("stats %+v, want 4 poisoned, 1 of them untold, 54 entries", s)
	}
	w.audit()
}

// Presence that cannot be stored is nobody's message: nobody is told.
func TestPoisonousPresenceIsPassed(t *testing.T) {
	w := newWorld(t)
	b := w.start("a")
	w.take(session(gus, "desk\xff", "n1", 1, true), session(gus, "desk", "n1", 1, true))
	if got := w.told(gus.Inbox()); len(got) != 0 || !w.reachable("gus") {
		t.Errorf("gus was told %v, reachable %t", got, w.reachable("gus"))
	}
	if s := b.Stats(); s.Poison != 1 || s.Untold != 1 {
		t.Errorf("stats %+v, want one poisoned and untold", s)
	}
}

// muteJournal loses every announcement.
type muteJournal struct{ journal.Journal }

func (muteJournal) Announce(context.Context, journal.Announcement) error { return nil }

func TestWhatWasCommittedIsPublishedBeforeRunReturns(t *testing.T) {
	w := newWorld(t)
	committed := make(chan struct{}, 1)
	w.store.after = func(s storage.Scope, err error) error {
		committed <- struct{}{}
		return err
	}
	b := w.startOn(muteJournal{w.journal}, w.store, "a")
	w.append(says(ada, "1", "hello"))
	<-committed
	b.stop()
	w.audit()
	if n := len(w.published()[topics.Inbox(ada.Inbox())]); n != 2 {
		t.Errorf("%d events of ada's are in the journal when Run has returned, want 2", n)
	}
	for p := range chat.Partitions {
		if left, err := w.store.Unpublished(t.Context(), p, 10); err != nil || len(left) > 0 {
			t.Errorf("partition %d has %d events not marked (%v)", p, len(left), err)
		}
	}
}

// The poll finds what no wake-up told of.
func TestALostWakeUpCostsTimeOnly(t *testing.T) {
	w := newWorld(t)
	w.startOn(muteJournal{w.journal}, w.store, "a")
	w.take(says(ada, "1", "hello"))
	w.audit()
}

// scantJournal answers with one entry at a time, as an engine may whose page is
// full or whose entries were erased meanwhile: only an empty answer is the end.
type scantJournal struct{ journal.Journal }

func (j scantJournal) ReadPartition(ctx context.Context, partition int, after uint64, limit int) ([]*journal.Entry, error) {
	return j.Journal.ReadPartition(ctx, partition, after, min(limit, 1))
}

func TestAShortPageIsNotTheEnd(t *testing.T) {
	w := newWorld(t)
	var want []string
	for n := range 60 { // one at each poll would take a minute
		w.append(says(ada, fmt.Sprint(n+1), "word"))
		want = append(want, fmt.Sprintf("%d ada word", n+1))
	}
	w.startOn(scantJournal{w.journal}, w.store, "a")
	w.settle()
	w.wantTexts(w.only().ID, want...)
}

func TestAPanicInADecisionIsThatEntrysFault(t *testing.T) {
	it, err := read(new(durable(says(ada, "1", "hello"))))
	if err != nil {
		t.Fatal(err)
	}
	_, err = decide(storage.NewUnit(storage.Loaded{}), []*item{it}, chat.Grace) // nothing of its scope is loaded
	if !errors.Is(err, storage.ErrPermanent) {
		t.Errorf("decide = %v, want ErrPermanent", err)
	}
}

func durable(e journal.Entry) journal.Entry {
	e.Seq = 1
	return e
}

func TestATemporaryFailureSkipsNothing(t *testing.T) {
	w := newWorld(t)
	left := 3
	w.store.before = func(context.Context, storage.Scope, func(*storage.Unit) error) error {
		if left--; left >= 0 {
			return errors.New("no connection")
		}
		return nil
	}
	b := w.start("a")
	w.take(says(ada, "1", "hello"), says(ada, "2", "there"))
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada there")
	if s := b.Stats(); s.Poison != 0 || len(s.Refused) != 0 || s.LastError.IsZero() {
		t.Errorf("stats %+v, want no poison and the time of the error", s)
	}
}

// What keeps failing in one partition holds up no other.
func TestAPartitionThatKeepsFailingStandsAlone(t *testing.T) {
	w := newWorld(t)
	var mended atomic.Bool
	w.store.before = func(_ context.Context, s storage.Scope, _ func(*storage.Unit) error) error {
		for _, a := range s.Advance {
			if a.Partition == ada.Slot().Partition() && !mended.Load() {
				return errors.New("timeout")
			}
		}
		return nil
	}
	w.append(says(ada, "1", "hello"), says(bea, "1", "hi"))
	b := w.start("a")
	w.store.await(t, func() string {
		if list := w.conversations(); len(list) != 1 || list[0].Customer != bea {
			return "bea waits for ada's partition"
		}
		return ""
	})
	if lag := b.Stats().Lag; lag[ada.Slot().Partition()] == 0 {
		t.Errorf("lag %v, want ada's partition behind", lag)
	}
	mended.Store(true)
	w.settle()
	if n := len(w.conversations()); n != 2 {
		t.Errorf("%d conversations, want 2", n)
	}
	w.audit()
}

// The answer to a commit is lost: it is found out, not repeated.
func TestACommitWhoseAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	lost := false
	w.store.after = func(_ storage.Scope, err error) error {
		if err == nil && !lost {
			lost = true
			return errors.New("connection lost")
		}
		return err
	}
	b := w.start("a")
	w.take(says(ada, "1", "hello"), session(gus, "desk", "n1", 1, true))
	w.take(says(ada, "2", "there"))
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada there")
	if s := b.Stats(); s.Duplicates != 0 {
		t.Errorf("%d entries were taken in twice", s.Duplicates)
	}
	w.audit()
}

// talk is a conversation that meets every kind of write.
func talk(w *world) {
	w.take(session(ada, "phone", "n1", 1, true), session(gus, "desk", "n1", 1, true), says(ada, "1", "hello"), says(ada, "2", "anyone?"))
	c := w.only().ID
	w.take(does(gus, "c1", chat.ActAccept, c, 0), publishes(ada, "up/message", []byte("?")))
	w.take(saysIn(gus, "g1", c, 1, "hi"), says(ada, "3", "order 4711"), says(ada, "3", "order 4711"))
	w.take(does(gus, "c2", chat.ActResolve, c, 1), saysIn(ada, "4", c, 0, "thanks"))
}

func wantTalk(w *world) {
	w.Helper()
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada anyone?", "3 gus hi", "4 ada order 4711", "5 ada thanks")
	w.wantTold(ada.Inbox(), "message 1 ADA hello", "head waiting last 1", "message 2 ADA anyone?", "head held GUS last 2",
		"refused  invalid", "message 3 GUS hi", "message 4 ADA order 4711", "head resolved GUS last 4",
		"message 5 ADA thanks", "head waiting last 5")
	w.wantTold(gus.Inbox(), "head held GUS last 2", "done c1", "message 3 GUS hi", "message 4 ADA order 4711",
		"head resolved GUS last 4", "done c2")
	w.audit()
}

// TestCrashAtEveryStep kills the process at each call that changes something,
// before it takes effect and after, and starts it again. With real engines it
// takes every seventh of these calls.
func TestCrashAtEveryStep(t *testing.T) {
	for n, engine := range engines {
		stride := int64(1)
		if n > 0 {
			stride = 7
		}
		for _, late := range []bool{false, true} {
			deaths := 0
			for call := int64(1); ; call += stride {
				died := false
				t.Run(fmt.Sprintf("%s/call %d, effect %t", engine.name, call, late), func(t *testing.T) {
					w := engine.world(t)
					m := newMortal(call, late)
					b := w.startOn(mortalJournal{w.journal, m}, mortalStore{w.store, m}, "a")
					w.store.died, w.store.revive = m.died, func() {
						died = true
						w.store.died = nil
						b.stop()
						w.start("a")
					}
					talk(w)
					wantTalk(w)
				})
				if !died || t.Failed() {
					break
				}
				deaths++
			}
			if deaths < 12/int(stride) {
				t.Errorf("%s: %d deaths, want one for each commit, append and mark", engine.name, deaths)
			}
		}
	}
}

func TestMalformedInputStopsNothing(t *testing.T) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	good := [][]byte{
		says(ada, "1", "x").Payload, saysIn(ada, "2", "00aabbccddeeff001122334455", 3, "y").Payload,
		does(gus, "3", chat.ActAccept, "00aabbccddeeff001122334455", 1).Payload, asks(ada, "4", "a-1", 7).Payload,
		session(gus, "desk", "n1", 1, true).Payload,
	}
	names := []string{
		up(ada, "up/message"), up(ada, "up/request"), up(gus, "up/message"), up(gus, "up/command"), up(gus, "up/request"),
		up(mote, "up/report"), up(ada, "up/message/more"), up(ada, ""), topics.Presence(gus, "desk"), topics.Presence(gus, ""),
		topics.NodeStart("n1"), topics.NodeStart(""), topics.Root + "/main/presence/king/x/y", topics.Root + "/main/customer//up/message",
		topics.Root, "elsewhere", topics.Root + "/%/agent/%2/up/message", up(chat.Account{Tenant: "main", Role: chat.Customer, Subject: strings.Repeat("x", 500)}, "up/message"),
	}
	var all []journal.Entry
	for range 3000 {
		b := []byte(string(good[rnd.IntN(len(good))]))
		switch rnd.IntN(5) {
		case 0:
			b = b[:rnd.IntN(len(b))]
		case 1:
			b[rnd.IntN(len(b))] = byte(rnd.IntN(256))
		case 2:
			b = []byte(strings.Repeat("[", rnd.IntN(3000)))
		case 3:
			b = []byte([]string{"", "null", "7", `"x"`, "{}", "[]", `{"id":null}`, `{"id":"\u0000","text":"x"}`, `{"id":"x","text":"\u0000"}`, "\xff"}[rnd.IntN(10)])
		}
		e := journal.Entry{Topic: names[rnd.IntN(len(names))], Payload: b, Partition: rnd.IntN(chat.Partitions), Client: "c"}
		if rnd.IntN(10) == 0 {
			e.Refused = b
		}
		all = append(all, e)
	}
	w.append(all...)
	b := w.start("a")
	for n := range chat.Partitions * 4 {
		a := chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprint("good-", n)}
		w.append(says(a, "1", "hello"))
	}
	w.settle()
	found := 0
	for _, c := range w.conversations() {
		if strings.HasPrefix(c.Customer.Subject, "good-") && c.Seq == 1 {
			found++
		}
	}
	if found != chat.Partitions*4 {
		t.Errorf("%d good conversations, want %d", found, chat.Partitions*4)
	}
	if s := b.Stats(); s.Refused[chat.ReasonInvalid] == 0 || s.Untold != 0 {
		t.Errorf("stats %+v, want refusals, and nothing that could not be told", s)
	}
	w.audit()
}

func FuzzRead(f *testing.F) {
	f.Add(up(ada, "up/message"), []byte(`{"id":"1","text":"x"}`), []byte(nil))
	f.Add(topics.Presence(gus, "desk"), []byte(`{"up":true}`), []byte(`{"reason":"invalid"}`))
	f.Fuzz(func(t *testing.T, topic string, payload, refused []byte) {
		it, err := read(&journal.Entry{Seq: 1, Topic: topic, Payload: payload, Refused: refused})
		if err != nil && it.deed != toPass {
			t.Errorf("an entry nobody hears about is to be %d", it.deed)
		}
		if it.deed == toRefuse && it.refusal.Reason == "" {
			t.Error("refused without a reason")
		}
		if _, err := json.Marshal(it.refusal); err != nil {
			t.Error(err)
		}
	})
}

// stuck counts what a frozen process has done.
type stuck struct {
	frozen  chan struct{} // closed when it stands still
	release chan struct{}
	woken   chan error // what it learned when it went on
	once    atomic.Bool
}

func newStuck() *stuck {
	return &stuck{frozen: make(chan struct{}), release: make(chan struct{}), woken: make(chan error, 1)}
}

// freeze stands still the first time.
func (s *stuck) freeze() (first bool) {
	if s.once.Swap(true) {
		return false
	}
	close(s.frozen)
	<-s.release
	return true
}
