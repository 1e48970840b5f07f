package mqtt_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/test/wire"
)

// probeWeb opens a WebSocket as a browser of the server's own page does.
func probeWeb(t *testing.T, b *probeBroker) *wire.Client {
	t.Helper()
	return wire.Webbed(t, wire.Upgrade{URL: b.Web, Origin: b.Web, Protocol: "mqtt"})
}

// TestProbeForeignPagesOpenNoWebSocket: a page of somebody else must not
// connect with what the browser knows.
func TestProbeForeignPagesOpenNoWebSocket(t *testing.T) {
	b := startOwn(t)
	host := strings.TrimPrefix(b.Web, "http://")
	for origin, ok := range map[string]bool{
		"": true, b.Web: true, probeOrigin: true,
		"https://evil.example": false, "null": false, "http://desk.example": false, "https://desk.example.evil.example": false,
		"http://" + host + ".evil.example": false, "http://127.0.0.1:1": false,
	} {
		c, err := wire.DialWebSocket(t.Context(), wire.Upgrade{URL: b.Web, Origin: origin, Protocol: "mqtt"})
		var refused *wire.Refused
		switch {
		case err == nil:
			c.Drop()
			if !ok {
				t.Errorf("origin %q was let in", origin)
			}
		case ok:
			t.Errorf("origin %q: %v", origin, err)
		case !errors.As(err, &refused) || refused.Status != http.StatusForbidden:
			t.Errorf("origin %q: %v, want HTTP 403", origin, err)
		}
	}
}

// TestProbeAWebSocketIsBinaryMQTT: another subprotocol, text, or more than a
// packet may have ends that connection.
func TestProbeAWebSocketIsBinaryMQTT(t *testing.T) {
	b := startOwn(t)
	bystander := probeWeb(t, b)
	bystander.Welcome(probeLasting(wire.V5, "bystander"))
	for _, protocol := range []string{"", "chat", "mqttv3.1"} {
		c, err := wire.DialWebSocket(t.Context(), wire.Upgrade{URL: b.Web, Protocol: protocol})
		if err != nil {
			continue // refused: as well
		}
		if p, err := c.Connect(wire.Hello{Client: "other", Clean: true}); err == nil {
			t.Errorf("subprotocol %q: %s", protocol, p)
		}
		c.Drop()
	}
	for name, send := range map[string]func(*wire.Client) error{
		"text": func(c *wire.Client) error {
			return c.Frame(wire.TextFrame, wire.Packet{Type: wire.Pingreq}.Encode(wire.V5))
		},
		"huge frame":  func(c *wire.Client) error { return c.Frame(wire.BinaryFrame, make([]byte, 1<<20)) },
		"huge packet": func(c *wire.Client) error { return c.Frame(wire.BinaryFrame, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}) },
		"broken":      func(c *wire.Client) error { return c.Frame(wire.BinaryFrame, []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}) },
		"reserved":    func(c *wire.Client) error { return c.Frame(5, []byte{0xc0, 0}) },
	} {
		c := probeWeb(t, b)
		c.Welcome(wire.Hello{Client: "other", Clean: true})
		if err := send(c); err != nil && !wire.Gone(err) {
			t.Errorf("%s: %v", name, err)
		}
		c.Closed(wire.Patience)
	}
	bystander.Alive()
}

// TestProbePacketsAndFramesHaveDifferentEnds: a packet may come in many frames
// and a frame may have many packets [MQTT-6.0.0-2].
func TestProbePacketsAndFramesHaveDifferentEnds(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		c := probeWeb(t, b)
		for _, one := range probeLastingBytes(version, fmt.Sprint("phone-", version)) {
			if err := c.Bytes([]byte{one}); err != nil {
				t.Fatal(err)
			}
		}
		c.Version = version
		if a := c.Get(wire.Connack); a.Code != 0 {
			t.Fatal(a)
		}
		c.Sub(1, "t", 1)
		var many []wire.Packet
		for i := range 20 {
			many = append(many, wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "t", Payload: fmt.Append(nil, i)})
		}
		c.Must(many...)
		for i := range 20 {
			probePuback(t, c, uint16(i+1))
		}
		probeExpect(t, c, 0, 20)
		c.Must(wire.Packet{Type: wire.Unsubscribe, ID: 9, Filters: []wire.Filter{{Topic: "t"}}})
		c.Get(wire.Unsuback)
	}
}

func probeLastingBytes(version byte, client string) []byte {
	h := probeLasting(version, client)
	return h.Encode()
}

// TestProbeAJammedWebSocketHoldsUpNobody is A3 and A4 for desks.
func TestProbeAJammedWebSocketHoldsUpNobody(t *testing.T) {
	b := startOwn(t)
	const bulk = 1000
	topic := probeName(t, "topic")
	publisher := probePublisher(t, b)
	h := probeLasting(wire.V5, "desk")
	jammed := wire.Webbed(t, wire.Upgrade{URL: b.Web, Protocol: "mqtt", Narrow: true})
	jammed.Welcome(h)
	jammed.Sub(1, topic, 1)
	var took []time.Duration
	filler := strings.Repeat(".", 8<<10)
	for i := range bulk {
		began := time.Now()
		publisher.Accepted(probeID(i), topic, fmt.Appendf(nil, "%d %s", i, filler))
		took = append(took, time.Since(began))
	}
	if slowest := slices.Max(took); slowest > 2*time.Second {
		t.Errorf("a jammed desk delayed a PUBACK by %s", slowest)
	}
	again := probeWeb(t, b)
	began := time.Now()
	again.Welcome(h)
	if d := time.Since(began); d > time.Second {
		t.Errorf("takeover took %s", d)
	} else {
		t.Logf("slowest PUBACK %s, takeover %s", slices.Max(took), d)
	}
	probeExpect(t, again, 0, bulk)
	probeCoda(t, publisher, again, topic)
}
