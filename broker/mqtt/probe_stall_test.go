package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdline/test/wire"
)

// probeMoment is how long a probe listens for what must not come.
const probeMoment = 100 * time.Millisecond

// probeStalled is a subscriber that has stopped reading while more than all
// socket buffers hold is due to it. bulk are the messages it is owed.
type probeStalled struct {
	conn  *wire.Client
	hello wire.Hello
	bulk  int
	size  int
}

// probeStall makes one and reports the slowest PUBACK that the publisher saw meanwhile.
func probeStall(t *testing.T, b *probeBroker, publisher *wire.Client, topic string) (s probeStalled, slowest time.Duration) {
	t.Helper()
	s = probeStalled{hello: probeLasting(wire.V5, topic+"-stalled"), bulk: 1000, size: 8 << 10}
	s.conn = wire.Narrow(t, b.Addr)
	s.conn.Welcome(s.hello)
	s.conn.Sub(1, topic, 1)
	for i := range s.bulk {
		payload := append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte("."), s.size)...)
		began := time.Now()
		publisher.Accepted(probeID(i), topic, payload)
		slowest = max(slowest, time.Since(began))
	}
	return s, slowest
}

// TestProbeAStalledReaderDelaysNobody is A3.
func TestProbeAStalledReaderDelaysNobody(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	publisher := probePublisher(t, b)
	healthy := wire.Open(t, b.Addr, probeLasting(wire.V5, probeName(t, "healthy")))
	healthy.Sub(1, topic, 1)
	read := make(chan error, 1)
	const bulk = 1000
	go func() {
		for i := range bulk {
			p, err := healthy.Next(wire.Patience)
			if want := fmt.Appendf(nil, "%d ", i); err != nil || !bytes.HasPrefix(p.Payload, want) {
				read <- fmt.Errorf("healthy reader: message %d: %s, %w", i, p, err)
				return
			}
			if err := healthy.Send(wire.Packet{Type: wire.Puback, ID: p.ID}); err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	s, slowest := probeStall(t, b, publisher, topic)
	t.Logf("slowest PUBACK %s", slowest)
	if slowest > 2*time.Second {
		t.Errorf("a stalled reader delayed a PUBACK by %s", slowest)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	s.conn.Drop()
	again := wire.Open(t, b.Addr, s.hello)
	probeExpect(t, again, 0, s.bulk) // nothing was dropped for it
}

// TestProbeTakeoverFromAJammedSocketIsQuick is A4.
func TestProbeTakeoverFromAJammedSocketIsQuick(t *testing.T) {
	b := startProbe(t)
	var took []time.Duration
	for i := range 5 {
		topic := probeName(t, fmt.Sprint(i))
		publisher := wire.Open(t, b.Addr, wire.Hello{Client: topic + "-publisher", Clean: true})
		s, _ := probeStall(t, b, publisher, topic)
		again := wire.Dialed(t, b.Addr)
		began := time.Now()
		hello := again.Welcome(s.hello)
		took = append(took, time.Since(began))
		if !hello.SessionPresent {
			t.Error("the session is gone")
		}
		probeExpect(t, again, 0, s.bulk)
		probeCoda(t, publisher, again, topic)
		s.conn.Drop()
	}
	slices.Sort(took)
	t.Logf("time to CONNACK: %s", took)
	if took[0] > 100*time.Millisecond || took[len(took)-1] > 2*time.Second {
		t.Errorf("takeover took %s; want under 100 ms, and 2 s on a busy machine", took)
	}
}

// TestProbeAFloodDoesNotPushOutQoS1 is the full outbound queue: QoS 0 that
// nobody promised may be lost, QoS 1 to a subscriber that is online may not.
func TestProbeAFloodDoesNotPushOutQoS1(t *testing.T) {
	const wanted = 150
	b := startProbe(t)
	topic := probeName(t, "topic")
	phone := wire.Narrow(t, b.Addr)
	phone.Welcome(probeLasting(wire.V5, probeName(t, "phone")))
	phone.Must(wire.Packet{Type: wire.Subscribe, ID: 1, Filters: []wire.Filter{{Topic: topic + "/+", Options: 1}}})
	if a := phone.Get(wire.Suback); a.Codes[0] != 1 {
		t.Fatal(a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	for i := range 2 {
		c, err := wire.Dial(ctx, b.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Connect(wire.Hello{Client: probeName(t, fmt.Sprint("flood-", i)), Clean: true}); err != nil {
			t.Fatal(err)
		}
		burst := bytes.Repeat(wire.Packet{Type: wire.Publish, Topic: topic + "/noise", Payload: bytes.Repeat([]byte("~"), 1000)}.Encode(wire.V5), 32)
		flood.Go(func() {
			defer c.Drop()
			for ctx.Err() == nil && c.Bytes(burst) == nil {
			}
		})
	}
	published := make(chan error, 1)
	publisher, err := wire.Dial(t.Context(), b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Drop()
	if _, err := publisher.Connect(wire.Hello{Client: probeName(t, "publisher"), Clean: true}); err != nil {
		t.Fatal(err)
	}
	go func() { published <- probePump(ctx, publisher, topic+"/wanted", wanted) }()

	got, noise := 0, 0
	for deadline := time.Now().Add(30 * time.Second); got < wanted; {
		p, err := phone.Next(time.Until(deadline))
		if errors.Is(err, wire.ErrSilent) {
			t.Fatalf("%d of %d QoS 1 messages after 30 s of flood (%d of QoS 0)", got, wanted, noise)
		}
		if err != nil {
			t.Fatalf("after %d QoS 1 messages: %v", got, err)
		}
		if p.QoS == 0 {
			noise++
			continue
		}
		if string(p.Payload) != fmt.Sprint(got) {
			t.Fatalf("got %s, want message %d", p, got)
		}
		got++
		phone.Ack(p)
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
	t.Logf("all %d, between %d of QoS 0", got, noise)
}
