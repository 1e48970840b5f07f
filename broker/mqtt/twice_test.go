package mqtt_test

import (
	"fmt"
	"testing"

	"holdline/test/wire"
)

// publish2 sends a PUBLISH of QoS 2 and requires its PUBREC.
func publish2(t testing.TB, c *wire.Client, id uint16, topic, payload string, dup bool) {
	t.Helper()
	a := c.Ask(wire.Packet{Type: wire.Publish, QoS: 2, ID: id, Dup: dup, Topic: topic, Payload: []byte(payload)}, wire.Pubrec)
	if a.Code >= 0x80 {
		t.Fatalf("QoS 2 publish: %s", a)
	}
}

// release sends a PUBREL and requires its PUBCOMP.
func release(t testing.TB, c *wire.Client, id uint16, code byte) {
	t.Helper()
	if a := c.Ask(wire.Packet{Type: wire.Pubrel, ID: id}, wire.Pubcomp); c.Version == wire.V5 && a.Code != code {
		t.Errorf("PUBREL: %s, want %#02x", a, code)
	}
}

// TestAPublishOfQoS2IsTakenOnce: repeats on the same connection, the next one,
// and after a restart are answered, and not taken again.
func TestAPublishOfQoS2IsTakenOnce(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			topic := probeName(t, "topic")
			rh := probeLasting(version, probeName(t, "reader"))
			wire.Open(t, b.Addr, rh).Sub(1, topic, 2)
			h := probeLasting(version, probeName(t, "phone"))
			c := wire.Open(t, b.Addr, h)
			publish2(t, c, 5, topic, "one", false)
			publish2(t, c, 5, topic, "one", true)
			again := func() {
				t.Helper()
				c = wire.Dialed(t, b.Addr)
				if !c.Welcome(h).SessionPresent {
					t.Fatal("the session is gone")
				}
			}
			c.Drop()
			again()
			publish2(t, c, 5, topic, "one", true)
			c.Drop()
			b.Restart()
			again()
			publish2(t, c, 5, topic, "one", true)
			release(t, c, 5, 0)
			release(t, c, 5, 0x92) // it is over
			publish2(t, c, 5, topic, "two", false)
			c.Drop()
			b.Restart()
			again()
			release(t, c, 5, 0)
			publish2(t, c, 5, topic, "end", false)
			reader := wire.Open(t, b.Addr, rh)
			for _, want := range []string{"one", "two", "end"} {
				p := reader.Get(wire.Publish)
				if string(p.Payload) != want || p.QoS != 2 {
					t.Fatalf("got %s, want %q with QoS 2", p, want)
				}
				reader.Ask(wire.Packet{Type: wire.Pubrec, ID: p.ID}, wire.Pubrel)
				reader.Must(wire.Packet{Type: wire.Pubcomp, ID: p.ID})
			}
			reader.Must(wire.Packet{Type: wire.Unsubscribe, ID: 9, Filters: []wire.Filter{{Topic: topic}}})
			reader.Get(wire.Unsuback)
		})
	}
}

// TestADeliveryOfQoS2GoesOnWhereItStopped, at each step, over lost links and restarts.
func TestADeliveryOfQoS2GoesOnWhereItStopped(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		for _, retained := range []bool{false, true} {
			t.Run(fmt.Sprintf("v%d retained %t", version, retained), func(t *testing.T) {
				topic := probeName(t, "topic")
				h := probeLasting(version, probeName(t, "phone"))
				var c *wire.Client
				reconnect := func(restart bool) {
					t.Helper()
					if c.Drop(); restart {
						b.Restart()
					}
					c = wire.Dialed(t, b.Addr)
					if !c.Welcome(h).SessionPresent {
						t.Fatal("the session is gone")
					}
				}
				pub := probePublisher(t, b)
				send := wire.Packet{Type: wire.Publish, QoS: 2, ID: 1, Topic: topic, Payload: []byte("x"), Retain: retained}
				c = wire.Open(t, b.Addr, h)
				if retained {
					pub.Ask(send, wire.Pubrec)
					c.Sub(1, topic, 2)
				} else {
					c.Sub(1, topic, 2)
					pub.Ask(send, wire.Pubrec)
				}
				first := c.Get(wire.Publish)
				if first.QoS != 2 || first.Dup || first.Retain != retained || first.ID > 32767 != retained {
					t.Fatalf("got %s", first)
				}
				for _, restart := range []bool{false, true} {
					reconnect(restart)
					if p := c.Get(wire.Publish); p.ID != first.ID || !p.Dup || string(p.Payload) != "x" {
						t.Fatalf("got %s again, want id %d and DUP", p, first.ID)
					}
				}
				c.Must(wire.Packet{Type: wire.Puback, ID: first.ID}) // not an answer to QoS 2
				c.Ask(wire.Packet{Type: wire.Pubrec, ID: first.ID}, wire.Pubrel)
				c.Ask(wire.Packet{Type: wire.Pubrec, ID: first.ID}, wire.Pubrel)
				for _, restart := range []bool{false, true} {
					reconnect(restart)
					if p, err := c.Next(wire.Patience); err != nil || p.Type != wire.Pubrel || p.ID != first.ID {
						t.Fatalf("%s, %v; want the PUBREL to id %d", p, err, first.ID)
					}
				}
				c.Must(wire.Packet{Type: wire.Pubcomp, ID: first.ID})
				c.Alive()
				for _, restart := range []bool{false, true} {
					reconnect(restart)
					probeCoda(t, probePublisher(t, b), c, topic)
				}
				// A PUBREC for nothing is answered, so that the client can forget it.
				if a := c.Ask(wire.Packet{Type: wire.Pubrec, ID: 77}, wire.Pubrel); version == wire.V5 && a.Code != 0x92 {
					t.Errorf("%s, want 0x92", a)
				}
				if retained {
					retain(t, probePublisher(t, b), topic, "")
				}
			})
		}
	}
}

func TestTheLowerQoSCounts(t *testing.T) {
	b := startProbe(t)
	pub := probePublisher(t, b)
	for sub := range byte(3) {
		c := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, fmt.Sprint("phone", sub)), Clean: true})
		topic := probeName(t, fmt.Sprint(sub))
		a := c.Ask(wire.Packet{Type: wire.Subscribe, ID: 1, Filters: []wire.Filter{{Topic: topic, Options: sub}}}, wire.Suback)
		if a.Codes[0] != sub {
			t.Errorf("asked for %d: %s", sub, a)
		}
		for qos := range byte(3) {
			pub.Must(wire.Packet{Type: wire.Publish, QoS: qos, ID: map[bool]uint16{true: uint16(10 + sub)}[qos > 0], Topic: topic, Payload: []byte{'0' + qos}})
			if qos == 2 {
				pub.Ask(wire.Packet{Type: wire.Pubrel, ID: uint16(10 + sub)}, wire.Pubcomp)
			}
			if p := c.Get(wire.Publish); p.QoS != min(qos, sub) || p.Payload[0] != '0'+qos {
				t.Errorf("published with %d, granted %d: got %s", qos, sub, p)
			} else if p.QoS == 1 {
				c.Ack(p)
			}
			if qos == 1 {
				pub.Get(wire.Puback)
			}
		}
	}
}

// TestReceiveMaximumCountsHandshakes, both ways.
func TestReceiveMaximumCountsHandshakes(t *testing.T) {
	b := startOwn(t)
	eve := wire.Open(t, b.Addr, b.Customer(wire.V5, "eve", "phone"))
	most, _ := eve.Connack.Properties.Num(wire.ReceiveMaximum)
	say := func(id uint32) string { return fmt.Sprintf(`{"id":"m-%d","text":"hi"}`, id) }
	for id := range most {
		publish2(t, eve, uint16(id+1), "up/message", say(id), false)
	}
	release(t, eve, 1, 0)
	publish2(t, eve, uint16(most+1), "up/message", say(most), false)
	eve.Must(wire.Packet{Type: wire.Publish, QoS: 2, ID: uint16(most + 2), Topic: "up/message", Payload: []byte(say(most + 1))})
	if last := eve.Closed(wire.Patience); last.Code != 0x93 {
		t.Errorf("%s, want 0x93", last)
	}
	// A 3.1.1 client does not know the bound: it may have many more open.
	old := wire.Open(t, b.Addr, b.Customer(wire.V311, "old", "phone"))
	for id := range 3 * most {
		publish2(t, old, uint16(id+1), "up/message", say(id), false)
	}
	for id := range 3 * most {
		release(t, old, uint16(id+1), 0)
	}
	// A delivery takes its place until the PUBCOMP.
	h := probeLasting(wire.V5, probeName(t, "reader"))
	h.Properties = append(h.Properties, wire.Property{ID: wire.ReceiveMaximum, Num: 2})
	reader := wire.Open(t, b.Addr, h)
	topic := probeName(t, "topic")
	reader.Sub(1, topic, 2)
	pub := probePublisher(t, b)
	for id := range uint16(4) {
		publish2(t, pub, id+1, topic, fmt.Sprint(id), false)
	}
	one, two := reader.Get(wire.Publish), reader.Get(wire.Publish)
	reader.Ask(wire.Packet{Type: wire.Pubrec, ID: one.ID}, wire.Pubrel)
	reader.Quiet(probeMoment)
	reader.Must(wire.Packet{Type: wire.Pubcomp, ID: one.ID})
	if p := reader.Get(wire.Publish); string(p.Payload) != "2" {
		t.Errorf("got %s, want the third", p)
	}
	reader.Must(wire.Packet{Type: wire.Pubrec, ID: two.ID, Code: 0x97}) // refused: it is over
	if p := reader.Get(wire.Publish); string(p.Payload) != "3" {
		t.Errorf("got %s, want the fourth", p)
	}
}

func TestARefusedPublishOfQoS2(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		eve := wire.Open(t, b.Addr, b.Customer(version, "eve", "phone"))
		a := eve.Ask(wire.Packet{Type: wire.Publish, QoS: 2, ID: 3, Topic: "down/event", Payload: []byte(probeSay)}, wire.Pubrec)
		if want := map[byte]byte{wire.V5: 0x87}[version]; a.Code != want {
			t.Errorf("v%d: %s, want %#02x", version, a, want)
		}
		if version == wire.V311 {
			release(t, eve, 3, 0)
		}
		publish2(t, eve, 3, "up/message", probeSay, false)
		release(t, eve, 3, 0)
		eve.Drop()
	}
}

func TestAWillOfQoS2(t *testing.T) {
	b := startProbe(t)
	reader := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "reader"), Clean: true})
	reader.Sub(1, probeName(t, "will"), 2)
	h := willed(t, wire.V5, "phone", 0, 0)
	h.Will.QoS = 2
	wire.Open(t, b.Addr, h).Drop()
	if p := reader.Get(wire.Publish); p.QoS != 2 || string(p.Payload) != "gone phone" {
		t.Errorf("got %s, want the will with QoS 2", p)
	}
}
