package mqtt_test

import (
	"fmt"
	"testing"
	"time"

	"holdline/test/wire"
)

// willed is a hello with a will on a topic of the test.
func willed(t testing.TB, version byte, client string, expiry, delay uint32) wire.Hello {
	h := wire.Hello{Version: version, Client: probeName(t, client), Clean: true, KeepAlive: 300,
		Will: &wire.Packet{Topic: probeName(t, "will"), QoS: 1, Payload: []byte("gone " + client)}}
	if version == wire.V5 {
		h.Properties = wire.Properties{{ID: wire.SessionExpiry, Num: expiry}}
		if delay > 0 {
			h.Will.Properties = wire.Properties{{ID: wire.WillDelay, Num: delay}}
		}
	}
	return h
}

// willReader watches the will's topic of the test, and "end".
func willReader(t testing.TB, b *probeBroker) *wire.Client {
	c := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "reader"), Clean: true})
	c.Sub(1, probeName(t, "will"), 1)
	c.Sub(2, "end", 1)
	return c
}

func TestAWillIsPublishedWhenItsClientIsLost(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	for _, version := range probeVersions {
		for _, tt := range []struct {
			name string
			lose func(*wire.Client, wire.Hello)
			want int
		}{
			{"lost link", func(c *wire.Client, _ wire.Hello) { c.Drop() }, 1},
			{"goodbye", func(c *wire.Client, _ wire.Hello) {
				c.Must(wire.Packet{Type: wire.Disconnect})
				c.Closed(wire.Patience)
			}, 0},
			{"goodbye with will", func(c *wire.Client, _ wire.Hello) { c.Must(wire.Packet{Type: wire.Disconnect, Code: 4}) }, 1},
			{"protocol error", func(c *wire.Client, _ wire.Hello) { c.Must(wire.Packet{Type: wire.Pubrel, ID: 0}) }, 1},
			{"takeover", func(c *wire.Client, h wire.Hello) { h.Will = nil; wire.Open(t, b.Addr, h) }, 1},
			{"silence", func(*wire.Client, wire.Hello) {}, 1},
		} {
			if tt.name == "goodbye with will" && version != wire.V5 {
				continue
			}
			t.Run(fmt.Sprint(tt.name, " v", version), func(t *testing.T) {
				reader := willReader(t, b)
				pub := probePublisher(t, b)
				h := willed(t, version, "phone", 0, 0)
				if tt.name == "silence" {
					h.KeepAlive = 1
				}
				phone := wire.Open(t, b.Addr, h)
				tt.lose(phone, h)
				if tt.want > 0 {
					p := reader.Get(wire.Publish)
					if string(p.Payload) != "gone phone" || p.QoS != 1 || p.Retain {
						t.Errorf("got %s, want the will", p)
					}
					reader.Ack(p)
				}
				if got := collect(t, pub, reader); len(got) > 0 {
					t.Errorf("got %v too", got)
				}
			})
		}
	}
}

func TestAWillHasItsProperties(t *testing.T) {
	b := startProbe(t)
	reader := willReader(t, b)
	h := willed(t, wire.V5, "phone", 0, 0)
	h.Will.Retain = true
	h.Will.Properties = wire.Properties{
		{ID: wire.PayloadFormat, Num: 1}, {ID: wire.MessageExpiry, Num: 100}, {ID: wire.ContentType, Str: "text/plain"},
		{ID: wire.ResponseTopic, Str: "answer"}, {ID: wire.CorrelationData, Str: "\x01"},
		{ID: wire.UserProperty, Str: "k", Value: "1"}, {ID: wire.UserProperty, Str: "k", Value: "2"},
	}
	wire.Open(t, b.Addr, h).Drop()
	live := reader.Get(wire.Publish)
	later := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "later"), Clean: true})
	later.Sub(1, h.Will.Topic, 1)
	kept := later.Get(wire.Publish)
	if live.Retain || !kept.Retain {
		t.Errorf("live %s, then %s; want the second one retained", live, kept)
	}
	for _, p := range []wire.Packet{live, kept} {
		left, _ := p.Properties.Num(wire.MessageExpiry)
		format, _ := p.Properties.Num(wire.PayloadFormat)
		if left > 100 || left < 90 || format != 1 || p.Properties.Str(wire.ContentType) != "text/plain" || p.Properties.Str(wire.ResponseTopic) != "answer" ||
			p.Properties.Str(wire.CorrelationData) != "\x01" || p.Properties.User("k") != "1" || len(p.Properties) != 7 {
			t.Errorf("%s with %v", p, p.Properties)
		}
	}
	// A retained will with nothing in it takes back what was retained; QoS 0 stays QoS 0.
	h.Will.Payload, h.Will.QoS, h.Will.Properties = nil, 0, nil
	wire.Open(t, b.Addr, h).Drop()
	if p := reader.Get(wire.Publish); len(p.Payload) != 0 || p.QoS != 0 {
		t.Errorf("got %s, want the empty will", p)
	}
	last := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "last"), Clean: true})
	last.Sub(1, h.Will.Topic, 1)
	last.Sub(2, "end", 1)
	if got := collect(t, probePublisher(t, b), last); len(got) > 0 {
		t.Errorf("still retained: %v", got)
	}
}

// TestAWillWaits: its delay, or the end of the session if that comes first; a
// client that comes back in time cancels it, one that begins anew does not.
func TestAWillWaits(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	for _, tt := range []struct {
		name          string
		expiry, delay uint32
		then          func(h wire.Hello)
		least, most   time.Duration // until the will; 0 for never
	}{
		{"the delay", 100, 1, nil, 900 * time.Millisecond, 8 * time.Second},
		{"the session", 1, 100, nil, 900 * time.Millisecond, 8 * time.Second},
		{"no session", 0, 100, nil, 0, 8 * time.Second},
		{"back in time", 100, 1, func(h wire.Hello) {
			h.Clean, h.Will = false, nil
			if c := wire.Open(t, b.Addr, h); !c.Connack.SessionPresent {
				t.Error("the session is gone")
			}
		}, 0, 0},
		{"anew", 100, 100, func(h wire.Hello) { h.Will = nil; wire.Open(t, b.Addr, h) }, 0, 8 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reader := willReader(t, b)
			h := willed(t, wire.V5, "phone", tt.expiry, tt.delay)
			phone := wire.Open(t, b.Addr, h)
			phone.Must(wire.Packet{Type: wire.Disconnect, Code: 4})
			phone.Closed(wire.Patience)
			began := time.Now()
			if tt.then != nil {
				tt.then(h)
			}
			if tt.most == 0 {
				reader.Quiet(2500 * time.Millisecond)
				return
			}
			p := reader.Get(wire.Publish)
			if took := time.Since(began); string(p.Payload) != "gone phone" || took < tt.least || took > tt.most {
				t.Errorf("%s after %s, want the will after %s to %s", p, took, tt.least, tt.most)
			}
			reader.Ack(p)
			reader.Quiet(100 * time.Millisecond)
		})
	}
}

// TestATakeoverAndTheWillOfTheOldConnection: it is published, unless the new
// connection resumes the session and the will was to wait.
func TestATakeoverAndTheWillOfTheOldConnection(t *testing.T) {
	b := startProbe(t)
	for _, tt := range []struct {
		delay uint32
		clean bool
		want  int
	}{{0, false, 1}, {0, true, 1}, {100, false, 0}, {100, true, 1}} {
		t.Run(fmt.Sprint(tt.delay, tt.clean), func(t *testing.T) {
			reader := willReader(t, b)
			h := willed(t, wire.V5, "phone", 100, tt.delay)
			old := wire.Open(t, b.Addr, h)
			h.Clean, h.Will.Payload = tt.clean, []byte("the new one's")
			wire.Open(t, b.Addr, h)
			old.Closed(wire.Patience)
			got := collect(t, probePublisher(t, b), reader)
			if len(got) != tt.want || tt.want == 1 && string(got[0].Payload) != "gone phone" {
				t.Errorf("got %v, want %d wills of the old connection", got, tt.want)
			}
		})
	}
}

// TestWillsOutliveTheServer: one that waits for its time when the server stops.
func TestWillsOutliveTheServer(t *testing.T) {
	t.Parallel()
	b := startOwn(t)
	h := willed(t, wire.V5, "phone", 100, 2)
	wire.Open(t, b.Addr, h).Drop()
	b.Restart()
	reader := willReader(t, b)
	if p := reader.Get(wire.Publish); string(p.Payload) != "gone phone" {
		t.Errorf("got %s, want the will", p)
	}
}
