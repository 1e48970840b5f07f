package mqtt_test

import (
	"fmt"
	"testing"
	"time"

	"holdline/test/wire"
)

// TestProbeALongKeepAliveIsNoOverflow: 43,691 × 1.5 does not fit into 16 bits.
func TestProbeALongKeepAliveIsNoOverflow(t *testing.T) {
	b := startProbe(t)
	for _, version := range probeVersions {
		for _, keepAlive := range []uint16{43_690, 43_691, 65_535, 0} {
			c := wire.Open(t, b.Addr, wire.Hello{Version: version, Client: probeName(t, fmt.Sprint(version, keepAlive)), Clean: true, KeepAlive: keepAlive})
			c.Quiet(probeMoment)
			c.Alive()
		}
	}
}

// TestProbeASilentConnectionEnds waits for one and a half keep-alives, and not for less.
func TestProbeASilentConnectionEnds(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	began := time.Now()
	c := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "phone"), Clean: true, KeepAlive: 2})
	last := c.Closed(10 * time.Second)
	if took := time.Since(began); took < 2900*time.Millisecond {
		t.Errorf("closed after %s, want 3 s [MQTT-3.1.2-22]", took)
	}
	if last.Type == wire.Disconnect && last.Code != 0x8d {
		t.Errorf("%s, want 0x8d", last)
	}
}

// TestProbeAnEndedSessionOwesNothing: when a session ended, by expiry or by clean start, the next
// one of that client id gets nothing of its subscriptions or messages.
func TestProbeAnEndedSessionOwesNothing(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	leave := func(c *wire.Client) { // and wait until the server knows
		c.Must(wire.Packet{Type: wire.Disconnect})
		c.Closed(wire.Patience)
	}
	for _, tt := range []struct {
		name  string
		first wire.Hello
		end   func(*wire.Client)
		wait  time.Duration
		next  wire.Hello
	}{
		{"expiry 0", wire.Hello{}, leave, 0, probeLasting(wire.V5, "")},
		{"expiry 1 s", wire.Hello{Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 1}}}, leave, 2500 * time.Millisecond, probeLasting(wire.V5, "")},
		{"clean session", wire.Hello{Version: wire.V311, Clean: true}, leave, 0, probeLasting(wire.V311, "")},
		{"clean start", probeLasting(wire.V5, ""), leave, 0,
			wire.Hello{Clean: true, Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 3600}}}},
		{"expiry 0 in DISCONNECT", probeLasting(wire.V5, ""), func(c *wire.Client) {
			c.Must(wire.Packet{Type: wire.Disconnect, Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 0}}})
			c.Closed(wire.Patience)
		}, 0, probeLasting(wire.V5, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topic := probeName(t, "topic")
			tt.first.Client, tt.next.Client = topic+"-phone", topic+"-phone"
			publisher := probePublisher(t, b)
			phone := wire.Open(t, b.Addr, tt.first)
			phone.Sub(1, topic, 1)
			publisher.Accepted(1, topic, []byte("old, unacknowledged"))
			phone.Get(wire.Publish)
			tt.end(phone)
			if tt.wait > 0 {
				<-time.After(tt.wait) // only time itself ends this session
			}
			publisher.Accepted(2, topic, []byte("while away"))
			next := wire.Dialed(t, b.Addr)
			if next.Welcome(tt.next).SessionPresent {
				t.Error("the session is still present")
			}
			publisher.Accepted(3, topic, []byte("without a subscription"))
			next.Sub(1, topic, 1)
			probeCoda(t, publisher, next, topic)
		})
	}
}

// TestProbeADisconnectKeepsALastingSession also with an expiry that the DISCONNECT sets.
func TestProbeADisconnectKeepsALastingSession(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	publisher := probePublisher(t, b)
	for _, version := range probeVersions {
		h := probeLasting(version, probeName(t, fmt.Sprint(version)))
		phone := wire.Open(t, b.Addr, h)
		phone.Sub(1, topic, 1)
		if err := phone.Goodbye(); err != nil {
			t.Fatal(err)
		}
		probeFill(t, publisher, topic, 0, 3, 3)
		phone = wire.Dialed(t, b.Addr)
		if !phone.Welcome(h).SessionPresent {
			t.Errorf("v%d: the session is gone", version)
		}
		probeExpect(t, phone, 0, 3)
		phone.Must(wire.Packet{Type: wire.Unsubscribe, ID: 9, Filters: []wire.Filter{{Topic: topic}}})
		phone.Get(wire.Unsuback)
	}
}

// TestProbeAnEqualFilterKeepsItsPlace: stock clients subscribe at every connect,
// which must not skip what was published while they were away.
func TestProbeAnEqualFilterKeepsItsPlace(t *testing.T) {
	b := startProbe(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			topic := probeName(t, "topic")
			h := probeLasting(version, probeName(t, "phone"))
			phone := wire.Open(t, b.Addr, h)
			phone.Sub(1, topic, 1)
			phone.Drop()
			publisher := probePublisher(t, b)
			probeFill(t, publisher, topic, 0, 50, 20)
			phone = wire.Dialed(t, b.Addr)
			if err := phone.Bytes(append(h.Encode(), wire.Packet{Type: wire.Subscribe, ID: 7, Filters: []wire.Filter{{Topic: topic, Options: 1}}}.Encode(version)...)); err != nil {
				t.Fatal(err)
			}
			phone.Version = version
			if a := phone.Get(wire.Connack); !a.SessionPresent {
				t.Fatal("the session is gone")
			}
			probeExpect(t, phone, 0, 50)
			phone.Get(wire.Suback)
			probeCoda(t, publisher, phone, topic)
		})
	}
}

// TestProbeTheOldConnectionIsTold of the takeover.
func TestProbeTheOldConnectionIsTold(t *testing.T) {
	b := startProbe(t)
	h := probeLasting(wire.V5, probeName(t, "phone"))
	old := wire.Open(t, b.Addr, h)
	wire.Open(t, b.Addr, h).Alive()
	if last := old.Closed(wire.Patience); last.Code != 0x8e {
		t.Errorf("the old connection got %s, want DISCONNECT 0x8e [MQTT-3.1.4-3]", last)
	}
}

// TestProbeMessageExpiry: what is of no more use is not delivered, and what is
// carries the time that is left; a day is no limit.
func TestProbeMessageExpiry(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	topic := probeName(t, "topic")
	h := probeLasting(wire.V5, probeName(t, "phone"))
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, topic, 1)
	phone.Drop()
	publisher := probePublisher(t, b)
	for i, tt := range []struct {
		payload string
		expiry  uint32
	}{{"stale", 1}, {"hour", 3600}, {"week", 7 * 86400}} {
		a := publisher.Ask(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: topic, Payload: []byte(tt.payload),
			Properties: wire.Properties{{ID: wire.MessageExpiry, Num: tt.expiry}}}, wire.Puback)
		if a.Code >= 0x80 {
			t.Fatal(a)
		}
	}
	<-time.After(2100 * time.Millisecond) // only time itself makes the first one stale
	phone = wire.Open(t, b.Addr, h)
	for _, want := range []struct {
		payload string
		expiry  uint32
	}{{"hour", 3600}, {"week", 7 * 86400}} {
		p := phone.Get(wire.Publish)
		left, _ := p.Properties.Num(wire.MessageExpiry)
		if string(p.Payload) != want.payload || left > want.expiry-1 || left < want.expiry-60 {
			t.Errorf("got %s with %d s left; want %q with a little less than %d", p, left, want.payload, want.expiry)
		}
		phone.Ack(p)
	}
}

// TestProbeUserPropertiesGoToTheReader, all of them in order, and not onto the PUBACK.
func TestProbeUserPropertiesGoToTheReader(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	phone := wire.Open(t, b.Addr, probeLasting(wire.V5, probeName(t, "phone")))
	phone.Sub(1, topic, 1)
	sent := wire.Properties{
		{ID: wire.PayloadFormat, Num: 1}, {ID: wire.ContentType, Str: "text/plain"}, {ID: wire.ResponseTopic, Str: "answer/here"},
		{ID: wire.CorrelationData, Str: "\x00\x01"}, {ID: wire.UserProperty, Str: "a", Value: "1"}, {ID: wire.UserProperty, Str: "a", Value: "2"},
	}
	publisher := probePublisher(t, b)
	a := publisher.Ask(wire.Packet{Type: wire.Publish, QoS: 1, ID: 1, Topic: topic, Payload: []byte("x"), Properties: sent}, wire.Puback)
	if len(a.Properties) != 0 {
		t.Errorf("PUBACK has properties of the publish: %v", a.Properties)
	}
	p := phone.Get(wire.Publish)
	var users []string
	for _, q := range p.Properties {
		if q.ID == wire.UserProperty {
			users = append(users, q.Str+q.Value)
		}
	}
	if n, _ := p.Properties.Num(wire.PayloadFormat); n != 1 || p.Properties.Str(wire.ContentType) != "text/plain" ||
		p.Properties.Str(wire.ResponseTopic) != "answer/here" || p.Properties.Str(wire.CorrelationData) != "\x00\x01" || fmt.Sprint(users) != "[a1 a2]" {
		t.Errorf("delivered with %v, want %v", p.Properties, sent)
	}
}

// TestProbeAcknowledgementsComeInOrder also for a client that sends all at once
// and stays within the server's Receive Maximum.
func TestProbeAcknowledgementsComeInOrder(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	for _, version := range probeVersions {
		c := wire.Open(t, b.Addr, wire.Hello{Version: version, Client: probeName(t, fmt.Sprint(version)), Clean: true})
		window := 20
		if n, ok := c.Connack.Properties.Num(wire.ReceiveMaximum); ok {
			window = int(n)
		}
		probeFill(t, c, topic, 0, 3000, window)
	}
}

// TestProbeAnUnknownAcknowledgementHarmsNobody: ids that were never delivered.
func TestProbeAnUnknownAcknowledgementHarmsNobody(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	h := probeLasting(wire.V5, probeName(t, "phone"))
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, topic, 1)
	for id := range uint16(50) {
		phone.Must(wire.Packet{Type: wire.Puback, ID: 1 + id*1300})
	}
	phone.Drop() // whether the server has closed it is its own affair
	publisher := probePublisher(t, b)
	probeFill(t, publisher, topic, 0, 50, 20)
	again := wire.Open(t, b.Addr, h)
	for _, id := range []uint16{32767, 32768, 65535} {
		again.Must(wire.Packet{Type: wire.Puback, ID: id, Code: 0x10})
	}
	probeExpect(t, again, 0, 50)
	probeCoda(t, publisher, again, topic)
}
