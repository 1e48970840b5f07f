package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdline/chat"
)

// quick makes lease rounds frequent, and gives the bridge a clock.
func quick(c *clock) func(*Bridge) {
	return func(b *Bridge) {
		b.leases.renew, b.leases.again = 10*time.Millisecond, 10*time.Millisecond
		if c != nil {
			b.Now, b.leases.now = c.now, c.now
		}
	}
}

// holders counts the leases of a kind by who holds them.
func (w *world) holders(kind string) map[string]int {
	w.Helper()
	rows, err := w.store.Leases(w.Context(), kind+"/")
	if err != nil {
		w.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range rows {
		n[r.Holder]++
	}
	return n
}

// awaitShares waits until the leases of both kinds are held like that.
func (w *world) awaitShares(want map[string]int, among ...*running) {
	w.Helper()
	w.store.await(w.T, func() string {
		for _, kind := range []string{kindInput, kindPublish} {
			got := w.holders(kind)
			for node, n := range want {
				if got[node] != n {
					return fmt.Sprintf("%s leases are held %v, want %v", kind, got, want)
				}
			}
			for _, b := range among { // the bridge knows it too
				if got := b.leases.count(kind); got != want[b.Node] {
					return fmt.Sprintf("%s holds %d of %s, want %d", b.Node, got, kind, want[b.Node])
				}
			}
		}
		return ""
	})
}

func TestShare(t *testing.T) {
	for k := 1; k <= 20; k++ {
		var members []string
		for i := range k {
			members = append(members, fmt.Sprintf("node-%02d", i))
		}
		total := map[string]int{}
		for _, m := range members {
			for _, kind := range []string{kindInput, kindPublish} {
				n := share(members, m, kind)
				total[kind] += n
				if n < chat.Partitions/k || n > chat.Partitions/k+1 {
					t.Errorf("%s of %d has %d %s leases", m, k, n, kind)
				}
			}
		}
		if total[kindInput] != chat.Partitions || total[kindPublish] != chat.Partitions {
			t.Errorf("%d bridges share %v", k, total)
		}
	}
}

func TestBridgesShareTheWork(t *testing.T) {
	w := newWorld(t)
	a := w.start("a", quick(nil))
	w.awaitShares(map[string]int{"a": 16}, a)
	b := w.start("b", quick(nil))
	w.awaitShares(map[string]int{"a": 8, "b": 8}, a, b)
	c := w.start("c", quick(nil))
	w.store.await(t, func() string {
		for _, kind := range []string{kindInput, kindPublish} {
			got := w.holders(kind)
			for _, node := range []string{"a", "b", "c"} {
				if got[node] < 5 || got[node] > 6 {
					return fmt.Sprintf("%s leases are held %v, want 5 or 6 each", kind, got)
				}
			}
		}
		return ""
	})
	for n := range 20 {
		w.append(says(ada, fmt.Sprint(n), "x"), says(bea, fmt.Sprint(n), "y"))
	}
	c.stop() // gives back at once: nobody waits for a lease to lapse
	w.awaitShares(map[string]int{"a": 8, "b": 8}, a, b)
	b.stop()
	w.awaitShares(map[string]int{"a": 16}, a)
	w.settle()
	w.audit()
	for _, conversation := range w.conversations() {
		if conversation.Seq != 20 {
			t.Errorf("%s has %d messages, want 20", conversation.Customer, conversation.Seq)
		}
	}
}

func TestARestartReclaimsAtOnce(t *testing.T) {
	w := newWorld(t)
	m := newMortal(0, false)
	first := w.startOn(mortalJournal{w.journal, m}, mortalStore{w.store, m}, "a")
	w.awaitShares(map[string]int{"a": 16}, first)
	m.kill() // nothing is given back
	first.stop()
	second := w.start("a")
	if got := second.Stats(); got.InputLeases != 16 || got.PublishLeases != 16 {
		t.Errorf("%+v when ready, want all leases", got)
	}
	w.take(says(ada, "1", "hello"))
}

// A node that held everything comes back when there are two: what is not its
// share any more is free at once, not when it lapses.
func TestARestartGivesBackWhatIsNoLongerItsShare(t *testing.T) {
	w := newWorld(t)
	now := newClock() // stands still: nothing lapses
	m := newMortal(0, false)
	first := w.startOn(mortalJournal{w.journal, m}, mortalStore{w.store, m}, "a", quick(now))
	w.awaitShares(map[string]int{"a": 16}, first)
	m.kill()
	first.stop()
	b := w.start("b", quick(now))
	a := w.start("a", quick(now))
	w.awaitShares(map[string]int{"a": 8, "b": 8}, a, b)
}

func TestALapsedLeaseEndsTheWork(t *testing.T) {
	w := newWorld(t)
	now := newClock()
	a := w.start("a", func(b *Bridge) { quick(now)(b); b.leases.renew = time.Hour })
	w.take(says(ada, "1", "hello"))
	now.advance(leaseTTL)
	w.append(says(ada, "2", "is anybody there?"))
	if s := a.Stats(); s.InputLeases != 0 || s.PublishLeases != 0 {
		t.Errorf("%+v after the deadline, want no leases", s)
	}
	w.start("b", quick(now))
	w.settle()
	if s := a.Stats(); s.Entries != 1 {
		t.Errorf("a stored %d entries, want 1", s.Entries)
	}
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada is anybody there?")
}

func TestAnotherLifeOfTheNodeFencesTheFirst(t *testing.T) {
	w := newWorld(t)
	first := w.start("a", quick(nil))
	w.take(says(ada, "1", "hello"))
	rows, err := w.store.Leases(t.Context(), kindInput+"/")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if _, err := w.store.Claim(t.Context(), r.Name, "b", 0, time.Now().Add(time.Hour), 2*leaseTTL); err != nil {
			t.Fatal(err)
		}
	}
	w.store.await(t, func() string {
		if n := first.leases.count(kindInput); n > 0 {
			return fmt.Sprintf("%d leases are still thought held", n)
		}
		return ""
	})
	if strings.Contains(fmt.Sprint(w.holders(kindInput)), "a:") {
		t.Errorf("leases are held by %v", w.holders(kindInput))
	}
}
