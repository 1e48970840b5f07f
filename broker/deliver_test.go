package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
)

func TestOverlappingFiltersDeliverOnceWithTheBest(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.subscribe(
		broker.Subscription{Filter: "a/#", QoS: 0, ID: 1},
		broker.Subscription{Filter: "a/+", QoS: 1, ID: 2},
		broker.Subscription{Filter: "b", QoS: 1, ID: 3},
	)
	n.append("a/x", "1")
	d := p.take(1)[0]
	slices.Sort(d.Subs)
	if d.QoS != 1 || !slices.Equal(d.Subs, []uint32{1, 2}) {
		t.Errorf("QoS %d, identifiers %v; want 1, [1 2]", d.QoS, d.Subs)
	}
	p.nothing(n, "b")
	other := n.connect(anonymous("other"))
	if err := other.publish(broker.Publish{Topic: []byte("a/x"), Payload: []byte("0")}); err != nil {
		t.Fatal(err)
	}
	if d := p.take(1)[0]; d.QoS != 0 || d.ID != 0 {
		t.Errorf("a publish of QoS 0 came with QoS %d, id %d", d.QoS, d.ID)
	}
	p.nothing(n, "b")
}

func TestNoLocalKeepsOwnWordsAway(t *testing.T) {
	n := start(t, memory.New())
	for _, who := range []broker.Identity{anonymous("same"), service("bot", "same")} {
		p := n.connect(who)
		p.subscribe(broker.Subscription{Filter: "a", QoS: 1, NoLocal: true})
		p.say(1, "a", "own")
		if err := p.publish(broker.Publish{Topic: []byte("a"), Payload: []byte("own, QoS 0")}); err != nil {
			t.Fatal(err)
		}
		p.nothing(n, "a")
	}
	// Another account with the same client id is not "own".
	p := n.connect(service("bot", "same"))
	n.connect(service("tob", "same")).say(1, "a", "other's")
	if d := p.take(1)[0]; string(d.Payload) != "other's" {
		t.Errorf("got %q", d.Payload)
	}
}

func TestQoS0SubscriptionsGetWhatComesWhileTheyAreThere(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 0)
	n.append("a", "live")
	if d := p.take(1)[0]; d.QoS != 0 || d.ID != 0 || d.Dup {
		t.Errorf("QoS %d, id %d, DUP %t; want QoS 0", d.QoS, d.ID, d.Dup)
	}
	p.drop()
	n.append("a", "nobody there")
	p = n.connect(anonymous("phone"))
	p.nothing(n, "a")
}

// TestAReaderThatStopsHoldsUpNobody has one client that takes nothing while
// large messages come: they are not kept for it, and all of them come later.
func TestAReaderThatStopsHoldsUpNobody(t *testing.T) {
	n := start(t, memory.New())
	stuck := n.connect(anonymous("stuck"))
	stuck.sub("a", 1)
	well := n.connect(anonymous("well"))
	well.sub("a", 1)
	big := strings.Repeat("x", 60<<10)
	const messages = 40
	for range messages {
		n.append("a", big)
		well.ack(well.take(1)[0].ID)
	}
	if got := n.Stats().Replaying; got != 1 {
		t.Errorf("%d sessions are behind, want 1", got)
	}
	total, last := 0, uint64(0)
	for total < messages {
		var got []broker.Delivery
		stuck.wait(func() bool { got = stuck.s.Take(nil, 1); return len(got) > 0 })
		for _, d := range got {
			if d.Seq <= last {
				t.Fatalf("entry %d came after %d", d.Seq, last)
			}
			last = d.Seq
		}
		total += len(got)
	}
	for i := range messages {
		stuck.s.Acknowledge(uint16(1 + (last-uint64(i))%32767))
	}
	if d := n.Stats().QoS1Drops; d != 0 {
		t.Errorf("%d were dropped", d)
	}
}

func TestQoS0IsDroppedForAStuckReader(t *testing.T) {
	n := start(t, memory.New())
	stuck := n.connect(anonymous("stuck"))
	stuck.sub("a", 0)
	other := n.connect(anonymous("other"))
	payload := bytes.Repeat([]byte("x"), 60<<10)
	for range 20 {
		if err := other.publish(broker.Publish{Topic: []byte("a"), Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	kept := len(stuck.s.Take(nil, 1<<30))
	if dropped := n.Stats().DroppedQoS0; kept+int(dropped) != 20 || kept > 5 {
		t.Errorf("%d kept, %d dropped; want all of 20 accounted for, and few kept", kept, dropped)
	}
}

func TestAnEqualFilterKeepsItsPlace(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"), window(1))
	p.sub("a", 1)
	for i := range 3 {
		n.append("a", fmt.Sprint(i))
	}
	p.drop()
	p = n.connect(anonymous("phone"), window(1))
	p.sub("a", 1) // as stock clients do after every connect
	for i := range 3 {
		d := p.take(1)[0]
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", d.Payload, i)
		}
		p.ack(d.ID)
	}
}

// TestAPacketIDInFlightIsWaitedFor has two entries whose packet id is the same.
func TestAPacketIDInFlightIsWaitedFor(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 1)
	n.append("a", "first")
	first := p.take(1)[0]
	fill := &journal.Submission{}
	for range 32767 - 1 {
		fill.Entries = append(fill.Entries, journal.Entry{Topic: "b", Partition: journal.NoPartition})
	}
	n.submit(fill)
	if seq := n.append("a", "second"); seq != first.Seq+32767 {
		t.Fatalf("the second is entry %d, want %d", seq, first.Seq+32767)
	}
	n.append("a", "third")
	if got := p.s.Take(nil, 1<<20); len(got) != 0 {
		t.Fatalf("%q came while its id was in flight", got[0].Payload)
	}
	p.ack(first.ID)
	got := p.take(2)
	if string(got[0].Payload) != "second" || string(got[1].Payload) != "third" || got[0].ID != first.ID {
		t.Errorf("got %q and %q", got[0].Payload, got[1].Payload)
	}
}

func TestAnnouncementsReachTheirSessionOnly(t *testing.T) {
	n := start(t, memory.New())
	one, two := n.connect(customer("ada", "one")), n.connect(customer("ada", "two"))
	one.sub("down/#", 1)
	two.sub("down/#", 1)
	a := one.who.Mount.Account
	if err := n.j.Announce(t.Context(), journal.Announcement{Topic: topics.Reply(a, "one"), Payload: []byte("reply")}); err != nil {
		t.Fatal(err)
	}
	if d := one.take(1)[0]; string(d.Payload) != "reply" || d.QoS != 0 {
		t.Errorf("got %q with QoS %d", d.Payload, d.QoS)
	}
	two.nothing(n, topics.Inbox(a.Inbox()))
}

func TestWhatCannotBeSentIsPassedOver(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"), window(1))
	p.sub("a", 1)
	n.append("a", "too large")
	n.append("a", "fits")
	p.s.Drop(p.take(1)[0])
	d := p.take(1)[0]
	if string(d.Payload) != "fits" {
		t.Errorf("got %q", d.Payload)
	}
	p.ack(d.ID)
	p.drop()
	p = n.connect(anonymous("phone"))
	p.nothing(n, "a")
	if got := n.Stats().Skipped; got != 1 {
		t.Errorf("%d passed over, want 1", got)
	}
}

// TestWhatWasSentIsSeenThrough although its filter is gone [MQTT-3.10.4-3].
func TestWhatWasSentIsSeenThrough(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	p.sub("a", 1)
	n.append("a", "sent")
	p.take(1)
	if err := p.do(func() {
		if _, err := p.s.Unsubscribe(p.ctx, []string{"a"}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	n.append("a", "not sent")
	p.drop()
	p = n.connect(anonymous("phone"))
	d := p.take(1)[0]
	if string(d.Payload) != "sent" || !d.Dup {
		t.Errorf("got %q, DUP %t", d.Payload, d.Dup)
	}
	p.ack(d.ID)
	p.sub("b", 1)
	p.nothing(n, "b")
}

func TestFiltersAreAnsweredOneByOne(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(customer("ada", "phone"))
	grants := p.subscribe(
		broker.Subscription{Filter: "down/#", QoS: 2},
		broker.Subscription{Filter: "#", QoS: 1},
		broker.Subscription{Filter: "down/#/x", QoS: 1},
		broker.Subscription{Filter: "$share/g/down/#", QoS: 1},
	)
	if grants[0].Err != nil || grants[0].QoS != 2 {
		t.Errorf("down/#: %+v, want QoS 2", grants[0])
	}
	for i, want := range []error{nil, chat.ErrForbidden, chat.ErrInvalid, broker.ErrShared} {
		if got := grants[i].Err; want != nil && !errors.Is(got, want) {
			t.Errorf("filter %d: %v, want %v", i, got, want)
		}
	}
	q := n.connect(anonymous("many"))
	limit := q.s.Limits().Subscriptions
	var many []broker.Subscription
	for i := range limit + 1 {
		many = append(many, broker.Subscription{Filter: fmt.Sprint("f/", i)})
	}
	grants = q.subscribe(many...)
	if grants[limit-1].Err != nil || !errors.Is(grants[limit].Err, broker.ErrQuota) {
		t.Errorf("the last two of %d: %+v", limit+1, grants[limit-1:])
	}
}
