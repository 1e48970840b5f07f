package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
)

func TestTakeoverFencesTheOldConnection(t *testing.T) {
	n := start(t, memory.New())
	first := n.connect(anonymous("phone"))
	first.sub("a", 1)
	n.append("a", "1")
	first.take(1)
	second := n.connect(anonymous("phone"))
	if !second.present || second.s.Epoch() <= first.s.Epoch() {
		t.Errorf("present %t, epoch %d after %d", second.present, second.s.Epoch(), first.s.Epoch())
	}
	if first.s.Enter() {
		t.Error("the old connection may still work")
	}
	if r := first.reason(); r != broker.TakenOver {
		t.Errorf("the old connection was closed for %d, want TakenOver", r)
	}
	if d := second.take(1)[0]; string(d.Payload) != "1" || !d.Dup {
		t.Errorf("got %q, DUP %t; want 1 again", d.Payload, d.Dup)
	}
	if got := n.Stats(); got.Takeovers != 1 || got.Online != 1 {
		t.Errorf("%d takeovers, %d online", got.Takeovers, got.Online)
	}
}

// TestAStormOfTakeoversLosesNothing lets connections fight for one session
// while messages come, acknowledging some of what they get.
func TestAStormOfTakeoversLosesNothing(t *testing.T) {
	n := start(t, memory.New())
	n.connect(anonymous("phone")).sub("a", 1)
	const messages = 500
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var g sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		g.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, err := n.dial(broker.Hello{Identity: anonymous("phone"), Expiry: time.Hour, Window: 16})
				if err != nil {
					t.Errorf("Connect: %v", err)
					return
				}
				for range 3 {
					for _, d := range p.s.Take(nil, 1<<20) {
						if p.do(func() { p.s.Acknowledge(d.ID) }) == nil {
							mu.Lock()
							seen[d.Seq] = true
							mu.Unlock()
						}
					}
				}
			}
		})
	}
	want := map[uint64]bool{}
	for i := range messages {
		want[n.append("a", fmt.Sprint(i))] = true
	}
	close(stop)
	g.Wait()
	last := n.connect(anonymous("phone"))
	for seq := range seen {
		delete(want, seq)
	}
	for len(want) > 0 {
		var got []broker.Delivery
		last.wait(func() bool { got = last.s.Take(nil, 1<<20); return len(got) > 0 })
		for _, d := range got {
			delete(want, d.Seq)
			last.ack(d.ID)
		}
	}
}

func TestPresenceIsJournalInput(t *testing.T) {
	n := start(t, memory.New())
	who := customer("ada", "phone")
	partition := who.Mount.Account.Slot().Partition()
	first := n.connect(who)
	second := n.connect(who) // takes over: nobody goes down
	second.s.End(second.ctx, true, nil)
	n.connect(who, transient).drop()
	var got []chat.Presence
	for _, e := range n.entries(topics.Presence(who.Mount.Account, "phone")) {
		var p chat.Presence
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			t.Fatal(err)
		}
		if e.Partition != partition {
			t.Errorf("partition %d, want %d", e.Partition, partition)
		}
		got = append(got, p)
	}
	a, b := first.s.Epoch(), second.s.Epoch()
	if len(got) != 5 || got[4].Epoch <= b {
		t.Fatalf("presence %+v, want five entries, the last with a newer epoch than %d", got, b)
	}
	c := got[4].Epoch
	want := []chat.Presence{
		{Up: true, Epoch: a, Node: "n1", Name: "ADA"}, {Up: true, Epoch: b, Node: "n1", Name: "ADA"},
		{Epoch: b, Node: "n1", Name: "ADA", Clean: true},
		{Up: true, Epoch: c, Node: "n1", Name: "ADA"}, {Epoch: c, Node: "n1", Name: "ADA"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	starts := n.entries(topics.NodeStart("n1"))
	seen := map[int]bool{}
	for _, e := range starts {
		seen[e.Partition] = true
	}
	if len(starts) != chat.Partitions || len(seen) != chat.Partitions {
		t.Errorf("%d node starts in %d partitions, want one in each of %d", len(starts), len(seen), chat.Partitions)
	}
}

func TestSessionsAreOfTheirAccount(t *testing.T) {
	n := start(t, memory.New())
	ada := n.connect(customer("ada", "phone-1"))
	bob := n.connect(customer("bob", "phone-1"))
	if bob.present || !ada.s.Enter() {
		t.Fatal("two customers cannot both call their phone phone-1")
	}
	if err := ada.s.Leave(ada.ctx); err != nil {
		t.Fatal(err)
	}
	ada.sub("down/#", 1)
	bob.sub("down/#", 1)
	n.append(topics.Inbox(bob.mailbox()), "for bob")
	if d := bob.take(1)[0]; string(d.Payload) != "for bob" {
		t.Errorf("bob got %q", d.Payload)
	}
	ada.nothing(n, topics.Inbox(ada.mailbox()))
}

func (p *phone) mailbox() chat.Inbox { return p.who.Mount.Account.Inbox() }

func TestASessionEndsWhenItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memory.New())
		p := n.connect(anonymous("phone"))
		p.sub("a", 1)
		n.connect(anonymous("other")) // stays
		p.drop()
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if got := n.Stats().Sessions; got != 2 {
			t.Errorf("%d sessions a second before the end, want 2", got)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := n.Stats().Sessions; got != 1 {
			t.Errorf("%d sessions after the end, want 1", got)
		}
		if _, ok, err := n.j.Record(t.Context(), broker.SessionKey(topics.Mount{Client: "phone"})); ok || err != nil {
			t.Errorf("the record is there: %t, %v", ok, err)
		}
		if n.connect(anonymous("phone")).present {
			t.Error("an expired session is present")
		}
		n.stop()
	})
}

func TestExpiryGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memory.New())
		n.connect(anonymous("away")).drop()
		n.connect(anonymous("cut off")) // is there when the process dies
		time.Sleep(30 * time.Minute)
		j := n.j.Crash()
		n.stop()
		n = start(t, j)
		synctest.Wait()
		if got := n.Stats().Sessions; got != 2 {
			t.Fatalf("%d sessions after the restart, want 2", got)
		}
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if got := n.Stats().Sessions; got != 1 {
			t.Errorf("%d sessions when the first has ended, want 1", got)
		}
		if !n.connect(anonymous("cut off")).present {
			t.Error("a session was not kept from the moment the process died")
		}
		n.stop()
	})
}

func TestExpiryIsCappedAtTheRetention(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"), func(h *broker.Hello) { h.Expiry = 1 << 32 * time.Second })
	if got := p.s.Expiry(); got != broker.DefaultRetention {
		t.Errorf("Expiry = %s, want %s", got, broker.DefaultRetention)
	}
}

func TestACursorIsWrittenASecondLaterOrAfter64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memory.New())
		p := n.connect(anonymous("phone"), window(100))
		p.sub("a", 1)
		cursor := func() uint64 {
			r, _, err := n.j.Record(t.Context(), broker.SessionKey(topics.Mount{Client: "phone"}))
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := broker.SessionRecord(r.Value, topics.Mount{Client: "phone"})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		seq := n.append("a", "1")
		p.ack(p.take(1)[0].ID)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := cursor(); got < seq {
			t.Errorf("cursor %d two seconds after entry %d was acknowledged", got, seq)
		}
		for range 64 {
			seq = n.append("a", "x")
		}
		for _, d := range p.take(64) {
			p.ack(d.ID)
		}
		synctest.Wait() // no time passes
		if got := cursor(); got < seq {
			t.Errorf("cursor %d after 64 acknowledgements up to %d", got, seq)
		}
		n.stop()
	})
}

func TestAnIdleSessionsCursorDoesNotGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memory.New())
		n.connect(anonymous("phone")).sub("a", 1)
		for range 10 {
			n.append("b", "not for it")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		j := n.j.Crash()
		n.stop()
		forget(t, j, time.Now().Add(-time.Minute))
		n = start(t, j)
		if !n.connect(anonymous("phone")).present {
			t.Error("the session was cut by the retention although it had everything")
		}
		n.stop()
	})
}

func TestASessionThatTheJournalCannotServeEnds(t *testing.T) {
	t.Run("away longer than the journal is kept", func(t *testing.T) {
		n := start(t, memory.New())
		p := n.connect(anonymous("phone"))
		p.sub("a", 1)
		p.drop()
		n.append("a", "1")
		n.append("a", "2")
		forget(t, n.j, time.Now().Add(time.Hour))
		if p := n.connect(anonymous("phone")); p.present {
			t.Error("the session is present, and would skip two messages")
		}
	})
	t.Run("behind by more while it is connected", func(t *testing.T) {
		n := start(t, memory.New())
		p := n.connect(anonymous("phone"), window(1))
		p.sub("a", 1)
		for range 3 {
			n.append("a", "x")
		}
		d := p.take(1)[0]
		forget(t, n.j, time.Now().Add(time.Hour))
		_ = p.do(func() { p.s.Acknowledge(d.ID) }) // makes room, and the next read finds nothing there
		if r := p.reason(); r != broker.SessionLost {
			t.Errorf("closed for %d, want SessionLost", r)
		}
		if p := n.connect(anonymous("phone")); p.present {
			t.Error("the session is still present")
		}
	})
	t.Run("of an older life of the journal", func(t *testing.T) {
		n := start(t, memory.New())
		away := n.connect(anonymous("away"))
		away.sub("a", 1)
		away.drop()
		here := n.connect(anonymous("here"))
		here.sub("a", 1)
		if _, err := n.j.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.connect(anonymous("away")).present {
			t.Error("a session that was away is present")
		}
		if r := here.reason(); r != broker.SessionLost {
			t.Errorf("closed for %d, want SessionLost", r)
		}
		if n.connect(anonymous("here")).present {
			t.Error("a session that was here is present")
		}
	})
}

// forget removes the old entries, as if the bridge had stored all input.
func forget(t *testing.T, j *memory.Journal, before time.Time) {
	t.Helper()
	for p := range chat.Partitions {
		if err := j.Keep(t.Context(), p, j.Tail().Seq); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Retain(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if j.Stats().Oldest == 1 {
		t.Fatal("nothing was removed")
	}
}

func TestCleanStartForgets(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 1)
	p.drop()
	n.append("a", "1")
	p = n.connect(anonymous("phone"), clean)
	if p.present {
		t.Error("present after a clean start")
	}
	p.sub("b", 1)
	n.append("a", "2")
	p.nothing(n, "b")
}

func TestATransientSessionLeavesNothing(t *testing.T) {
	n := start(t, memory.New())
	n.connect(anonymous("phone")).drop()
	p := n.connect(anonymous("phone"), transient)
	if !p.present {
		t.Error("the kept session was not there")
	}
	p.sub("a", 1)
	p.drop()
	if n.connect(anonymous("phone")).present {
		t.Error("a session that was to end with its connection is present")
	}
}

func TestExpiryCanBeChangedAtTheEnd(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	zero := time.Duration(0)
	if err := p.s.End(p.ctx, true, &zero); err != nil {
		t.Fatal(err)
	}
	if n.connect(anonymous("phone")).present {
		t.Error("present after its expiry was set to 0")
	}
}

// TestSubscribingIsDurableFirst crashes right after the answer.
func TestSubscribingIsDurableFirst(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 1)
	p.sub("b", 1)
	if err := p.do(func() {
		if _, err := p.s.Unsubscribe(p.ctx, []string{"b"}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	j := n.j.Crash()
	n.stop()
	n = start(t, j)
	n.append("b", "no")
	n.append("a", "yes")
	p = n.connect(anonymous("phone"))
	if d := p.take(1)[0]; !p.present || string(d.Payload) != "yes" {
		t.Errorf("present %t, got %q", p.present, d.Payload)
	}
}

func TestSomebodyElsesRecordEndsTheConnection(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 1)
	n.submit(&journal.Submission{Puts: []journal.Put{
		{Key: broker.SessionKey(topics.Mount{Client: "phone"}), Value: []byte("another node's"), If: journal.AnyVersion},
	}})
	_ = p.do(func() {
		if _, err := p.s.Subscribe(p.ctx, []broker.Subscription{{Filter: "b"}}); !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("Subscribe: %v, want ErrUnavailable", err)
		}
	})
}

func TestTokensNameTheClient(t *testing.T) {
	n := start(t, memory.New())
	if _, err := n.Authenticate("nonsense", "phone", time.Now()); !errors.Is(err, chat.ErrForbidden) {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := n.Authenticate(strings.Repeat("a", 10000), "phone", time.Now()); !errors.Is(err, chat.ErrForbidden) {
		t.Errorf("too long: %v", err)
	}
}
