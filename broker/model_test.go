package broker_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"holdline/broker"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
)

// model is what MQTT promises one session, kept in the simplest way.
type model struct {
	limit   int
	filters map[string]bool
	owed    []uint64            // entries that matched when they were written, in order; less what was given up
	by      map[uint64][]string // the filters an entry is owed for
	acked   map[uint64]bool     // by the client
	sent    map[uint64]bool     // taken by a connection since the last crash
	unsure  map[uint64]bool     // taken before a crash
	flying  []uint64            // taken by this connection and not acknowledged
	last    uint64              // the newest taken by this connection
	crashed bool                // since this connection began from a crash
}

func (m *model) wrote(seq uint64, topic string) {
	for f := range m.filters {
		if topics.Match(f, topic) {
			m.by[seq] = append(m.by[seq], f)
		}
	}
	if m.by[seq] != nil {
		m.owed = append(m.owed, seq)
	}
}

// due is what this connection should have in flight, given the bound on what
// may wait behind the oldest unacknowledged one.
func (m *model) due() int {
	slots, waiting := 0, 0
	for _, seq := range m.owed {
		switch {
		case seq <= m.last:
			if slots > 0 || !m.acked[seq] {
				slots++
			}
			if !m.acked[seq] {
				waiting++
			}
		case m.acked[seq]:
			slots += min(slots, 1)
		case waiting < m.limit && slots < 4*m.limit:
			slots++
			waiting++
		}
	}
	return waiting
}

// TestSessionsKeepTheirPromises drives one session through random publishes,
// acknowledgements in any order, lost links, takeovers, crashes and changes of
// subscriptions, against the model.
func TestSessionsKeepTheirPromises(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := &model{limit: []int{1, 3, 16}[seed%3], filters: map[string]bool{}, by: map[uint64][]string{}, acked: map[uint64]bool{}, sent: map[uint64]bool{}, unsure: map[uint64]bool{}}
	n := start(t, memory.New())
	p := n.connect(anonymous("phone"), window(m.limit))
	p.sub("a/+", 1)
	m.filters["a/+"] = true
	fresh := func(present *phone) {
		if !present.present {
			t.Fatal("the session was not present")
		}
		m.flying, m.last = nil, 0
	}
	for range 600 {
		switch r.IntN(16) {
		case 0, 1, 2, 3, 4:
			topic := []string{"a/1", "a/2", "b/1", "c"}[r.IntN(4)]
			m.wrote(n.append(topic, topic), topic)
		case 5, 6, 7, 8:
			m.receive(t, p)
		case 9, 10, 11:
			m.acknowledge(r, p)
		case 12: // lost link
			p.drop()
			p = n.connect(anonymous("phone"), window(m.limit))
			m.crashed = false
			fresh(p)
		case 13: // takeover
			next := n.connect(anonymous("phone"), window(m.limit))
			if got := p.reason(); got != broker.TakenOver {
				t.Fatalf("the old connection was closed for %d", got)
			}
			p, m.crashed = next, false
			fresh(p)
		case 14: // crash
			if r.IntN(3) > 0 {
				continue
			}
			j := n.j.Crash()
			n.stop()
			n = start(t, j)
			p = n.connect(anonymous("phone"), window(m.limit))
			m.recover(t, n)
			fresh(p)
		case 15:
			m.resubscribe(t, r, n, p)
		}
	}
	for m.due() > 0 {
		m.receive(t, p)
		m.acknowledge(r, p)
	}
	for _, seq := range m.owed {
		if !m.sent[seq] && !m.unsure[seq] {
			t.Errorf("entry %d was never delivered", seq)
		}
	}
	if d := n.Stats().QoS1Drops; d != 0 {
		t.Errorf("%d messages were dropped", d)
	}
}

// recover learns from the record what a crash has left of the acknowledgements,
// and checks that it made none up.
func (m *model) recover(t *testing.T, n *node) {
	t.Helper()
	mount := topics.Mount{Client: "phone"}
	r, ok, err := n.j.Record(t.Context(), broker.SessionKey(mount))
	if err != nil || !ok {
		t.Fatalf("Record: %t %v", ok, err)
	}
	cursor, ahead, err := broker.SessionRecord(r.Value, mount)
	if err != nil {
		t.Fatal(err)
	}
	known := map[uint64]bool{}
	for _, seq := range m.owed {
		if seq > cursor && !slices.Contains(ahead, seq) {
			continue
		}
		if !m.acked[seq] {
			t.Fatalf("after the crash entry %d counts as acknowledged (cursor %d, ahead %v)", seq, cursor, ahead)
		}
		known[seq] = true
	}
	m.acked, m.crashed = known, true
	maps.Copy(m.unsure, m.sent)
	clear(m.sent)
}

// receive takes what is due and checks it.
func (m *model) receive(t *testing.T, p *phone) {
	t.Helper()
	for _, d := range p.take(max(0, m.due()-len(m.flying))) {
		switch {
		case d.Seq <= m.last:
			t.Fatalf("entry %d came after %d", d.Seq, m.last)
		case !slices.Contains(m.owed, d.Seq):
			t.Fatalf("entry %d on %q is not owed", d.Seq, d.Topic)
		case m.acked[d.Seq]:
			t.Fatalf("entry %d came again after its acknowledgement", d.Seq)
		case d.QoS != 1 || d.ID != uint16(1+d.Seq%32767):
			t.Fatalf("entry %d has QoS %d and id %d", d.Seq, d.QoS, d.ID)
		case m.sent[d.Seq] && !d.Dup, !m.sent[d.Seq] && !m.unsure[d.Seq] && !m.crashed && d.Dup:
			t.Fatalf("entry %d: DUP is %t, sent before is %t", d.Seq, d.Dup, m.sent[d.Seq])
		}
		m.last = d.Seq
		m.sent[d.Seq] = true
		m.flying = append(m.flying, d.Seq)
		if len(m.flying) > m.limit {
			t.Fatalf("%d in flight, at most %d are allowed", len(m.flying), m.limit)
		}
	}
}

func (m *model) acknowledge(r *rand.Rand, p *phone) {
	for range 1 + r.IntN(4) {
		if len(m.flying) == 0 {
			return
		}
		i := 0
		if r.IntN(3) == 0 {
			i = r.IntN(len(m.flying))
		}
		seq := m.flying[i]
		p.ack(uint16(1 + seq%32767))
		m.acked[seq] = true
		m.flying = slices.Delete(m.flying, i, i+1)
	}
}

func (m *model) resubscribe(t *testing.T, r *rand.Rand, n *node, p *phone) {
	f := []string{"a/+", "a/1", "b/#"}[r.IntN(3)]
	if !m.filters[f] || r.IntN(2) == 0 {
		p.sub(f, 1) // a second time changes nothing
		m.filters[f] = true
		return
	}
	m.receive(t, p) // so that it is known what was sent
	var was []bool
	var err error
	if e := p.do(func() { was, err = p.s.Unsubscribe(p.ctx, []string{f}) }); e != nil || err != nil || !was[0] {
		t.Fatalf("Unsubscribe: %v %v %v", was, e, err)
	}
	delete(m.filters, f)
	// What was not sent for it is given up; what was is seen through.
	m.owed = slices.DeleteFunc(m.owed, func(seq uint64) bool {
		m.by[seq] = slices.DeleteFunc(m.by[seq], func(g string) bool { return g == f })
		return len(m.by[seq]) == 0 && !m.acked[seq] && !slices.Contains(m.flying, seq)
	})
}
