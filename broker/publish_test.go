package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
)

func qos1(id uint16, topic, payload string) broker.Publish {
	return broker.Publish{ID: id, QoS: 1, Topic: []byte(topic), Payload: []byte(payload)}
}

func say(id string) string { return fmt.Sprintf(`{"id":%q,"text":"hi"}`, id) }

// TestNothingIsAcknowledgedBeforeTheSync also sees that what was buffered
// goes to the journal as one submission.
func TestNothingIsAcknowledgedBeforeTheSync(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(customer("ada", "phone"))
	release := n.j.Hold()
	defer release()
	var burst []broker.Publish
	for i := range uint16(16) {
		burst = append(burst, qos1(i+1, "up/message", say(fmt.Sprint(i))))
	}
	if err := p.publish(burst...); err != nil {
		t.Fatal(err)
	}
	if w := n.j.Stats().Waiting; w != 1 {
		t.Errorf("%d submissions wait, want 1", w)
	}
	if acks := p.acked(0); len(acks) > 0 {
		t.Fatalf("acknowledged before the sync: %v", acks)
	}
	release()
	for i, a := range p.acked(16) {
		if a.ID != uint16(i+1) || a.Err != nil {
			t.Errorf("acknowledgement %d is %v", i, a)
		}
	}
}

func TestReceiveMaximumBoundsWhatWaits(t *testing.T) {
	t.Run("a client that knows it may not exceed it", func(t *testing.T) {
		n := start(t, memory.New())
		p := n.connect(customer("ada", "phone"))
		defer p.drop()
		release := n.j.Hold()
		defer release()
		var burst []broker.Publish
		for i := range uint16(17) {
			burst = append(burst, qos1(i+1, "up/message", say(fmt.Sprint(i))))
		}
		if err := p.publish(burst...); !errors.Is(err, broker.ErrReceiveMaximum) {
			t.Errorf("the 17th: %v, want ErrReceiveMaximum", err)
		}
		release()
	})
	t.Run("a client that does not know it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, memory.New())
			p := n.connect(customer("bob", "phone"), old)
			release := n.j.Hold()
			var published atomic.Int32
			done := make(chan error, 1)
			go func() {
				for i := range uint16(40) {
					if err := p.publish(qos1(i+1, "up/message", say(fmt.Sprint(i)))); err != nil {
						done <- err
						return
					}
					published.Add(1)
				}
				done <- nil
			}()
			synctest.Wait()
			if got := published.Load(); got != 16 {
				t.Errorf("%d publishes were taken while nothing was synced, want 16", got)
			}
			release()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for i, a := range p.acked(40) {
				if a.ID != uint16(i+1) || a.Err != nil {
					t.Errorf("acknowledgement %d is %v", i, a)
				}
			}
			p.drop()
		})
	})
}

func TestInputIsKeyedByTheConversationItNames(t *testing.T) {
	n := start(t, memory.New())
	who := customer("ada", "phone")
	conversation := chat.NewConversationID(0xf3, [12]byte{1})
	p := n.connect(who)
	p.say(1, "up/message", say("a"))
	p.say(2, "up/message", fmt.Sprintf(`{"id":"b","text":"hi","conversation":%q}`, conversation))
	p.say(3, "up/request", `{"request":"r","op":"dance"}`) // the reply tells
	full, _, err := who.Mount.Publish("up/message")
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, e := range n.entries(strings.TrimSuffix(full, "message") + "#") {
		got = append(got, e.Partition)
		if e.Client != "phone" {
			t.Errorf("entry is from client %q, want phone", e.Client)
		}
	}
	own := who.Mount.Account.Slot().Partition()
	if want := []int{own, chat.Slot(0xf3).Partition(), own}; !slices.Equal(got, want) {
		t.Errorf("partitions %v, want %v", got, want)
	}
}

func TestRefusalsAreRecordedAndAnsweredInOrder(t *testing.T) {
	n := start(t, memory.New())
	who := customer("ada", "phone")
	p := n.connect(who)
	watch := n.connect(service("bot", "watch"))
	watch.sub(topics.Everything(chat.DefaultTenant), 1)
	err := p.publish(
		qos1(1, "up/message", say("one")),
		qos1(2, "up/message", `{"id":"two"}`),
		qos1(3, "up/elsewhere", say("three")),
		qos1(4, "up/message", say("four")),
		broker.Publish{ID: 5, QoS: 1, Retain: true, Topic: []byte("up/message"), Payload: []byte(say("five"))},
		broker.Publish{ID: 6, QoS: 1, Topic: []byte("up/message"), Oversize: 70000},
		broker.Publish{Topic: []byte("up/message"), Payload: []byte(`{"id":"seven"}`)},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []error{nil, chat.ErrInvalid, chat.ErrForbidden, nil, broker.ErrRetain, chat.ErrTooLarge}
	for i, a := range p.acked(6) {
		if a.ID != uint16(i+1) || !errors.Is(a.Err, want[i]) || (want[i] == nil) != (a.Err == nil) {
			t.Errorf("acknowledgement %d is %v, want %v", i, a, want[i])
		}
	}
	full, _, err := who.Mount.Publish("up/message")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range n.entries(full) {
		var r chat.Refusal
		if e.Refused == nil {
			got = append(got, "taken")
			continue
		}
		if err := json.Unmarshal(e.Refused, &r); err != nil || len(e.Payload) > 0 || e.Partition != who.Mount.Account.Slot().Partition() {
			t.Errorf("refused entry %+v: %v", e, err)
		}
		got = append(got, string(r.ID)+" "+string(r.Reason))
	}
	if want := []string{"taken", "two invalid", "three forbidden", "taken", "five forbidden", " too_large", "seven invalid"}; !slices.Equal(got, want) {
		t.Errorf("journal has %q, want %q", got, want)
	}
	for _, d := range watch.take(2) {
		if len(d.Payload) == 0 {
			t.Errorf("a service was sent a refusal on %s", d.Topic)
		}
	}
	watch.nothing(n, topics.Presence(who.Mount.Account, "marker"))
	if r := n.Stats().Refused; r["invalid"] != 2 || r["forbidden"] != 2 || r["too_large"] != 1 {
		t.Errorf("Refused = %v", r)
	}
}

func TestTooManyRefusalsEndTheConnection(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(customer("ada", "phone"))
	for i := range uint16(9) {
		if err := p.publish(qos1(i+1, "up/message", "no")); err != nil {
			t.Fatalf("refusal %d: %v", i+1, err)
		}
	}
	if err := p.publish(qos1(10, "up/message", "no")); !errors.Is(err, broker.ErrRefusals) {
		t.Errorf("refusal 10: %v, want ErrRefusals", err)
	}
	if acks := p.acked(10); acks[9].ID != 10 {
		t.Errorf("the last acknowledgement is %v", acks[9])
	}
}

// full is a journal without space.
type full struct{ *memory.Journal }

func (f full) Append(ctx context.Context, s *journal.Submission) error {
	if len(s.Entries) > 0 && strings.HasSuffix(s.Entries[0].Topic, "full") {
		done := s.Done
		return f.Journal.Append(ctx, &journal.Submission{Puts: []journal.Put{{Key: "x", If: journal.AnyVersion}}, Done: func(journal.Result) {
			done(journal.Result{Err: journal.ErrFull})
		}})
	}
	return f.Journal.Append(ctx, s)
}

func TestAFullDiskIsSaidToPass(t *testing.T) {
	j := memory.New()
	n := startOn(t, j, full{j})
	p := n.connect(anonymous("a"))
	if a := p.say(1, "is/full", "x"); !errors.Is(a.Err, broker.ErrBusy) || broker.Final(a.Err) {
		t.Errorf("acknowledgement %v, want ErrBusy", a)
	}
	if a := p.say(2, "is/not", "x"); a.Err != nil {
		t.Errorf("acknowledgement %v, want success", a)
	}
}

func TestAFailedJournalAcknowledgesNothing(t *testing.T) {
	j := memory.New()
	n := start(t, j)
	p := n.connect(anonymous("a"))
	other := n.connect(anonymous("b"))
	release := j.Hold()
	if err := p.publish(qos1(1, "x", "y")); err != nil {
		t.Fatal(err)
	}
	j.Fail()
	release()
	if a := p.acked(1)[0]; !errors.Is(a.Err, broker.ErrUnavailable) || broker.Final(a.Err) {
		t.Errorf("acknowledgement %v, want ErrUnavailable", a)
	}
	if r := other.reason(); r != broker.Unavailable {
		t.Errorf("the other connection was closed for %d, want Unavailable", r)
	}
	if _, err := n.dial(broker.Hello{Identity: anonymous("c")}); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("Connect: %v, want ErrUnavailable", err)
	}
}

// TestNoMoreIsRetainedThanThereIsRoomFor: it is not published either, and what
// is there can be replaced and deleted.
func TestNoMoreIsRetainedThanThereIsRoomFor(t *testing.T) {
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"))
	n.FillRetained()
	keep := func(id uint16, topic, payload string) broker.Publish {
		return broker.Publish{ID: id, QoS: 1, Retain: true, Topic: []byte(topic), Payload: []byte(payload)}
	}
	if err := p.publish(keep(1, "one/more", "x"), keep(2, "full/7", "y"), keep(3, "one/more", ""), qos1(4, "one/more", "x")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{broker.ErrBusy, nil, nil, nil} {
		if a := p.acked(4)[i]; !errors.Is(a.Err, want) || (a.Err == nil) != (want == nil) {
			t.Errorf("publish %d: %v, want %v", i+1, a.Err, want)
		}
	}
	if got := n.entries("one/more"); len(got) != 2 || len(got[0].Payload) != 0 {
		t.Errorf("%d entries, want the empty one and the ordinary one", len(got))
	}
}
