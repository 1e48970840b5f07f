package broker_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"holdline/broker"
	"holdline/broker/journal/memory"
)

// TestQoS2IsExactlyOnce sends messages through two clients that do what MQTT
// asks of them, with lost links, takeovers and crashes at random moments: every message
// arrives once, in order.
func TestQoS2IsExactlyOnce(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { exactlyOnce(t, seed) }) })
	}
}

func exactlyOnce(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	n := start(t, memory.New())
	from, to := &sender{}, &receiver{open: map[uint16]bool{}}
	var pub, sub *phone
	connect := func() {
		pub, sub = n.connect(anonymous("from")), n.connect(anonymous("to"), window(1+int(seed%5)))
		from.again()
	}
	connect()
	sub.sub("t", 2)
	for step := 0; len(to.got) < 60; step++ {
		if step > 20_000 {
			t.Fatalf("only %d messages came through", len(to.got))
		}
		switch r.IntN(30) {
		case 0:
			pub.drop()
			pub = n.connect(anonymous("from"))
			from.again()
		case 1:
			sub = n.connect(anonymous("to"), window(1+int(seed%5)))
		case 2:
			n = n.crash()
			connect()
			if !pub.present || !sub.present {
				t.Fatal("a session is gone")
			}
		default:
			from.step(t, r, pub)
			to.step(t, r, sub)
		}
	}
	for i, payload := range to.got {
		if payload != fmt.Sprint(i) {
			t.Fatalf("message %d is %q: %q", i, payload, to.got)
		}
	}
}

// sender publishes one message after the other, two at a time, as a client of QoS 2 does.
type sender struct {
	next int
	open []outgoing
	read int // acks seen
}

type outgoing struct {
	id       uint16
	payload  string
	received bool // PUBREC has come
	sent     bool // on this connection, in its present state
}

func (s *sender) again() {
	s.read = 0
	for i := range s.open {
		s.open[i].sent = false
	}
}

func (s *sender) step(t *testing.T, r *rand.Rand, p *phone) {
	t.Helper()
	p.mu.Lock()
	acks := p.acks[s.read:]
	s.read = len(p.acks)
	p.mu.Unlock()
	for _, a := range acks {
		for i := range s.open {
			switch o := &s.open[i]; {
			case o.id != a.ID:
				continue
			case a.Kind == broker.Pubrec && a.Err == nil && !o.received:
				o.received, o.sent = true, false
			case a.Kind == broker.Pubcomp:
				s.open = append(s.open[:i:i], s.open[i+1:]...)
			}
			break
		}
	}
	if len(s.open) < 2 && r.IntN(2) == 0 {
		id := uint16(1)
		if len(s.open) > 0 && s.open[0].id == id {
			id = 2
		}
		s.open = append(s.open, outgoing{id: id, payload: fmt.Sprint(s.next)})
		s.next++
	}
	err := p.do(func() {
		for i := range s.open {
			o := &s.open[i]
			if o.sent {
				continue
			}
			o.sent = true
			if o.received {
				_ = p.s.Release(p.ctx, o.id)
			} else {
				_ = p.s.Publish(p.ctx, &broker.Publish{ID: o.id, QoS: 2, Topic: []byte("t"), Payload: []byte(o.payload)})
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// receiver takes messages as a client of QoS 2 does: it hands one on when it
// comes, and knows its id until the PUBREL.
type receiver struct {
	open map[uint16]bool
	got  []string
}

func (c *receiver) step(t *testing.T, r *rand.Rand, p *phone) {
	t.Helper()
	list := p.s.Take(nil, 1<<20)
	p.mu.Lock()
	acks := p.acks
	p.acks = nil
	p.mu.Unlock()
	err := p.do(func() {
		for _, d := range list {
			if d.QoS != 2 {
				t.Fatalf("QoS %d", d.QoS)
			}
			if !c.open[d.ID] {
				c.got = append(c.got, string(d.Payload))
				c.open[d.ID] = true
			}
			if r.IntN(5) > 0 { // else it is lost on the way, until the link is
				_ = p.s.Receipt(p.ctx, d.ID, false)
			}
		}
		for _, a := range acks {
			if a.Kind == broker.Pubrel && a.Err == nil {
				delete(c.open, a.ID)
				if r.IntN(5) > 0 {
					_ = p.s.Complete(p.ctx, a.ID)
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
