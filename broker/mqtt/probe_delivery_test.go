package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"testing"

	"holdline/test/wire"
)

// TestProbePacketIDsOfTheTwoDirectionsAreApart is A1 and A2: an id that the
// client uses says nothing of the delivery that has the same id.
func TestProbePacketIDsOfTheTwoDirectionsAreApart(t *testing.T) {
	b := startProbe(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			topic, client := probeName(t, "topic"), probeName(t, "phone")
			publisher := probePublisher(t, b)
			phone := wire.Open(t, b.Addr, probeLasting(version, client))
			phone.Sub(1, topic, 1)
			publisher.Accepted(1, topic, []byte("m"))
			first := phone.Get(wire.Publish)
			if first.Dup {
				t.Errorf("first delivery has DUP: %s", first)
			}

			// A2: SUBSCRIBE and UNSUBSCRIBE with the id of the delivery.
			phone.Sub(first.ID, topic+"/other", 1)
			if a := phone.Ask(wire.Packet{Type: wire.Unsubscribe, ID: first.ID, Filters: []wire.Filter{{Topic: topic + "/other"}}}, wire.Unsuback); version == wire.V5 && a.Codes[0] != 0 {
				t.Errorf("%s", a)
			}
			// A1: a publish of its own with that id.
			phone.Accepted(first.ID, topic+"/elsewhere", []byte("mine"))
			phone.Drop()

			again := wire.Dialed(t, b.Addr)
			if hello := again.Welcome(probeLasting(version, client)); !hello.SessionPresent {
				t.Fatal("the session is gone")
			}
			p := again.Get(wire.Publish)
			if string(p.Payload) != "m" || p.ID != first.ID || !p.Dup {
				t.Fatalf("after the link died: %s; want the same message and id %d again, with DUP", p, first.ID)
			}
			again.Ack(p)
			probeCoda(t, publisher, again, topic)
		})
	}
}

// TestProbeReceiveMaximumIsKept is A5 and the lost credit: what is beyond the
// window waits, and comes when there is room, on this connection or the next.
func TestProbeReceiveMaximumIsKept(t *testing.T) {
	b := startProbe(t)
	narrow := func(t *testing.T, rm uint32) wire.Hello {
		h := probeLasting(wire.V5, probeName(t, "phone"))
		h.Properties = append(h.Properties, wire.Property{ID: wire.ReceiveMaximum, Num: rm})
		return h
	}
	t.Run("A5 the link dies with messages beyond it", func(t *testing.T) {
		topic := probeName(t, "topic")
		phone := wire.Open(t, b.Addr, narrow(t, 1))
		phone.Sub(1, topic, 1)
		publisher := probePublisher(t, b)
		probeFill(t, publisher, topic, 0, 3, 1)
		if p := phone.Get(wire.Publish); string(p.Payload) != "0" {
			t.Fatalf("first is %s", p)
		}
		phone.Quiet(probeMoment)
		phone.Drop()
		again := wire.Open(t, b.Addr, narrow(t, 1))
		if n := probeExpect(t, again, 0, 3); n != 0 {
			t.Errorf("%d repeats within one connection", n)
		}
		probeCoda(t, publisher, again, topic)
	})
	t.Run("an acknowledgement returns the credit", func(t *testing.T) {
		for _, tt := range []struct{ rm, messages int }{{2, 20}, {5, 3000}} {
			topic := probeName(t, strconv.Itoa(tt.rm))
			h := narrow(t, uint32(tt.rm))
			h.Client = topic
			phone := wire.Open(t, b.Addr, h)
			phone.Sub(1, topic, 1)
			publisher := probePublisher(t, b)
			probeFill(t, publisher, topic, 0, tt.messages, 20)
			probeExpect(t, phone, 0, tt.messages)
			probeCoda(t, publisher, phone, topic)
			publisher.Drop()
		}
	})
	t.Run("late and out of order acknowledgements", func(t *testing.T) {
		topic := probeName(t, "topic")
		phone := wire.Open(t, b.Addr, narrow(t, 4))
		phone.Sub(1, topic, 1)
		publisher := probePublisher(t, b)
		probeFill(t, publisher, topic, 0, 8, 8)
		var p [8]wire.Packet
		for i := range 4 {
			p[i] = phone.Get(wire.Publish)
		}
		phone.Quiet(probeMoment)
		for i, ack := range []int{3, 1, 2} { // the first stays open
			phone.Ack(p[ack])
			if p[4+i] = phone.Get(wire.Publish); string(p[4+i].Payload) != strconv.Itoa(4+i) {
				t.Fatalf("after an acknowledgement: %s, want message %d", p[4+i], 4+i)
			}
		}
		phone.Drop()
		// What was acknowledged may come again, since a cursor only moves over
		// a whole prefix; what was not must.
		again := wire.Open(t, b.Addr, narrow(t, 4))
		seen := map[string]bool{}
		for len(seen) < 5 { // 0, 4, 5, 6, 7
			p := again.Get(wire.Publish)
			switch s := string(p.Payload); s {
			case "1", "2", "3":
			default:
				seen[s] = true
			}
			again.Ack(p)
		}
		probeCoda(t, publisher, again, topic)
	})
}

// TestProbeReplayIsOrderedAndWindowed is A6.
func TestProbeReplayIsOrderedAndWindowed(t *testing.T) {
	b := startProbe(t)
	topic, client := probeName(t, "topic"), probeName(t, "phone")
	h := probeLasting(wire.V5, client)
	h.Properties = append(h.Properties, wire.Property{ID: wire.ReceiveMaximum, Num: 10})
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, topic, 1)
	if err := phone.Goodbye(); err != nil {
		t.Fatal(err)
	}
	publisher := probePublisher(t, b)
	probeFill(t, publisher, topic, 0, 200, 20)

	phone = wire.Open(t, b.Addr, h)
	var window []wire.Packet
	for range 10 {
		window = append(window, phone.Get(wire.Publish))
	}
	if probePeer == "" { // mosquitto sends more here
		phone.Quiet(probeMoment)
	}
	ids := map[uint16]bool{}
	for i, p := range window {
		if string(p.Payload) != strconv.Itoa(i) {
			t.Errorf("place %d of the replay is %s", i, p)
		}
		if p.Dup {
			t.Errorf("DUP on a message that was never sent: %s [MQTT-3.3.1-1]", p)
		}
		if ids[p.ID] {
			t.Errorf("packet id %d twice in one window", p.ID)
		}
		ids[p.ID] = true
	}
	for _, p := range window {
		phone.Ack(p)
	}
	probeExpect(t, phone, 10, 190)
	probeCoda(t, publisher, phone, topic)
}

// TestProbeAMessageTooLargeForTheClientIsSkipped is A7.
func TestProbeAMessageTooLargeForTheClientIsSkipped(t *testing.T) {
	b := startProbe(t)
	topic, client := probeName(t, "topic"), probeName(t, "phone")
	h := probeLasting(wire.V5, client)
	h.Properties = append(h.Properties, wire.Property{ID: wire.MaximumPacketSize, Num: 1024})
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, topic, 1)
	phone.Drop()
	publisher := probePublisher(t, b)
	publisher.Accepted(1, topic, []byte("0"))
	publisher.Accepted(2, topic, bytes.Repeat([]byte("x"), 4096))
	publisher.Accepted(3, topic, []byte("1"))
	for range 3 { // the session is not locked out, now or later
		phone = wire.Open(t, b.Addr, h)
		probeExpect(t, phone, 0, 2)
		publisher.Accepted(4, topic, bytes.Repeat([]byte("x"), 4096))
		probeCoda(t, publisher, phone, topic)
		if err := phone.Goodbye(); err != nil {
			t.Fatal(err)
		}
		probeFill(t, publisher, topic, 0, 2, 2)
	}
}

// TestProbeReplayNamesItsTopics is A8: what was sent with an alias is sent again with a topic.
func TestProbeReplayNamesItsTopics(t *testing.T) {
	b := startProbe(t)
	topic, client := probeName(t, "topic"), probeName(t, "phone")
	h := probeLasting(wire.V5, client)
	h.Properties = append(h.Properties, wire.Property{ID: wire.TopicAliasMaximum, Num: 10})
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, topic, 1)
	publisher := probePublisher(t, b)
	probeFill(t, publisher, topic, 0, 5, 5)
	read := func(phone *wire.Client) {
		t.Helper()
		aliases := map[uint32]string{}
		for i := range 5 {
			p := phone.Get(wire.Publish)
			if a, ok := p.Properties.Num(wire.TopicAlias); ok {
				if p.Topic == "" {
					p.Topic = aliases[a]
				}
				aliases[a] = p.Topic
			}
			if p.Topic != topic || string(p.Payload) != strconv.Itoa(i) {
				t.Fatalf("message %d: topic %q, %s", i, p.Topic, p)
			}
		}
	}
	read(phone)
	phone.Drop()
	read(wire.Open(t, b.Addr, h))
}

// TestProbeTakeoversLoseNothing is A9: what was acknowledged to the publisher
// reaches a subscriber whose connection is taken over all the time.
func TestProbeTakeoversLoseNothing(t *testing.T) {
	messages := 10_000
	if testing.Short() {
		messages = 2_000
	}
	b := startProbe(t)
	topic, client := probeName(t, "topic"), probeName(t, "phone")
	h := probeLasting(wire.V5, client)
	wire.Open(t, b.Addr, h).Sub(1, topic, 1)

	publisher, err := wire.Dial(t.Context(), b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Drop()
	if _, err := publisher.Connect(wire.Hello{Client: probeName(t, "publisher"), Clean: true}); err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { published <- probePump(t.Context(), publisher, topic, messages) }()

	// Each connection takes a few and is taken over while more are on their way.
	next, takeovers, repeats := 0, 0, 0
	for next < messages {
		phone := wire.Dialed(t, b.Addr)
		if !phone.Welcome(h).SessionPresent {
			t.Fatal("the session is gone")
		}
		takeovers++
		for range 16 {
			if next == messages {
				break
			}
			p := phone.Get(wire.Publish)
			n, err := strconv.Atoi(string(p.Payload))
			switch {
			case err != nil || n > next:
				t.Fatalf("after %d takeovers: got %s, want message %d: lost or out of order", takeovers, p, next)
			case n == next:
				next++
			default:
				repeats++
			}
			phone.Ack(p)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages, %d takeovers, %d repeats", messages, takeovers, repeats)
}

// probePump publishes numbered messages with a window of 20 from a goroutine of its own.
func probePump(ctx context.Context, c *wire.Conn, topic string, n int) error {
	for sent, acked := 0, 0; acked < n; {
		for ; sent < n && sent-acked < 20; sent++ {
			if err := c.Send(wire.Packet{Type: wire.Publish, QoS: 1, ID: probeID(sent), Topic: topic, Payload: strconv.AppendInt(nil, int64(sent), 10)}); err != nil {
				return err
			}
		}
		p, err := c.Next(wire.Patience)
		if err != nil || p.Type != wire.Puback || p.ID != probeID(acked) || p.Code >= 0x80 {
			return fmt.Errorf("message %d: got %s, %w", acked, p, err)
		}
		acked++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// TestProbeARestartLosesNothing is B1 (the kill -9 is in package test): what
// was acknowledged to the publisher is delivered by the next life of the broker, once and in order.
func TestProbeARestartLosesNothing(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			topic := probeName(t, "topic")
			h := probeLasting(version, probeName(t, "phone"))
			phone := wire.Open(t, b.Addr, h)
			phone.Sub(1, topic, 1)
			publisher := probePublisher(t, b)
			probeFill(t, publisher, topic, 0, 100, 20)
			probeExpect(t, phone, 0, 100)
			if err := phone.Goodbye(); err != nil {
				t.Fatal(err)
			}
			probeFill(t, publisher, topic, 100, 900, 50)
			for range 3 { // reading nothing between restarts changes nothing
				b.Restart()
			}
			phone = wire.Dialed(t, b.Addr)
			if !phone.Welcome(h).SessionPresent {
				t.Fatal("the session is gone")
			}
			if n := probeExpect(t, phone, 100, 900); n != 0 {
				t.Errorf("%d repeats of what was acknowledged before a clean stop", n)
			}
			probeCoda(t, probePublisher(t, b), phone, topic)
		})
	}
}

// TestProbeAnOfflineSessionHasNoCap queues more than any other broker keeps.
func TestProbeAnOfflineSessionHasNoCap(t *testing.T) {
	const messages = 9000
	b := startProbe(t)
	topic, client := probeName(t, "topic"), probeName(t, "phone")
	phone := wire.Open(t, b.Addr, probeLasting(wire.V311, client))
	phone.Sub(1, topic, 1)
	phone.Drop()
	publisher := probePublisher(t, b)
	probeFill(t, publisher, topic, 0, messages, 500)
	phone = wire.Open(t, b.Addr, probeLasting(wire.V311, client))
	probeExpect(t, phone, 0, messages)
	probeCoda(t, publisher, phone, topic)
}
