package mqtt_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"holdline/broker/topics"
	"holdline/chat"
	"holdline/test/wire"
)

// retain publishes with the retain flag and QoS 1, and requires that it is taken.
func retain(t testing.TB, c *wire.Client, topic, payload string, props ...wire.Property) {
	t.Helper()
	a := c.Ask(wire.Packet{Type: wire.Publish, QoS: 1, ID: 7, Retain: true, Topic: topic, Payload: []byte(payload), Properties: props}, wire.Puback)
	if a.Code >= 0x80 {
		t.Fatalf("retain on %q: %s", topic, a)
	}
}

// options are those of a subscription.
func options(qos, handling byte, asPublished, noLocal bool) byte {
	o := qos | handling<<4
	if asPublished {
		o |= 8
	}
	if noLocal {
		o |= 4
	}
	return o
}

// collect takes the publishes that are there, by topic, until coda comes on the
// topic "end", and acknowledges them.
func collect(t testing.TB, publisher, c *wire.Client) (got []wire.Packet) {
	t.Helper()
	publisher.Accepted(60001, "end", []byte("coda"))
	for {
		p := c.Get(wire.Publish)
		if p.QoS == 1 {
			c.Ack(p)
		}
		if p.Topic == "end" {
			return got
		}
		got = append(got, p)
	}
}

func TestRetainedMessagesComeToNewSubscriptions(t *testing.T) {
	b := startProbe(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			pub := probePublisher(t, b)
			if n, ok := pub.Connack.Properties.Num(wire.RetainAvailable); ok && n == 0 {
				t.Error("CONNACK says that there are no retained messages")
			}
			top := probeName(t, "r")
			retain(t, pub, top+"/1", "old")
			retain(t, pub, top+"/1", "one")
			retain(t, pub, top+"/2/x", "two")
			pub.Must(wire.Packet{Type: wire.Publish, Retain: true, Topic: top, Payload: []byte("zero")}) // QoS 0
			retain(t, pub, top+"/gone", "x")
			retain(t, pub, top+"/gone", "")
			reader := wire.Open(t, b.Addr, wire.Hello{Version: version, Client: probeName(t, "reader"), Clean: true})
			for _, tt := range []struct {
				filter string
				qos    byte
				want   []string
			}{
				{top + "/#", 1, []string{top + " zero 0", top + "/1 one 1", top + "/2/x two 1"}},
				{top + "/+", 1, []string{top + "/1 one 1"}},
				{top + "/1", 0, []string{top + "/1 one 0"}},
				{"+/+/x", 1, []string{top + "/2/x two 1"}},
				{top + "/gone", 1, nil},
				{top + "/", 1, nil},
			} {
				reader.Sub(1, "end", 1)
				reader.Sub(2, tt.filter, tt.qos)
				var got []string
				for _, p := range collect(t, pub, reader) {
					if !p.Retain || p.Dup || p.QoS > 0 && p.ID < 32768 {
						t.Errorf("%q: %s: want the retain flag, no DUP, an id beside the cursor's", tt.filter, p)
					}
					got = append(got, fmt.Sprintf("%s %s %d", p.Topic, p.Payload, p.QoS))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("%q: got %q, want %q", tt.filter, got, tt.want)
				}
				reader.Ask(wire.Packet{Type: wire.Unsubscribe, ID: 3, Filters: []wire.Filter{{Topic: tt.filter}}}, wire.Unsuback)
			}
			for _, topic := range []string{top, top + "/1", top + "/2/x"} {
				retain(t, pub, topic, "")
			}
		})
	}
}

func TestRetainHandlingAndRetainAsPublished(t *testing.T) {
	b := startProbe(t)
	pub := probePublisher(t, b)
	topic := probeName(t, "r")
	retain(t, pub, topic, "kept")
	reader := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "reader"), Clean: true})
	reader.Sub(1, "end", 1)
	for i, tt := range []struct {
		handling    byte
		asPublished bool
		want        string
	}{
		{2, false, "[live false]"}, // none, although it is new
		{1, true, "[live true]"},   // it is not new
		{0, false, "[kept true live false]"},
		{0, true, "[kept true live true]"},
	} {
		a := reader.Ask(wire.Packet{Type: wire.Subscribe, ID: 2, Filters: []wire.Filter{{Topic: topic, Options: options(1, tt.handling, tt.asPublished, false)}}}, wire.Suback)
		if a.Codes[0] != 1 {
			t.Fatal(a)
		}
		retain(t, pub, topic, "live")
		var got []string
		for _, p := range collect(t, pub, reader) {
			got = append(got, fmt.Sprint(string(p.Payload), " ", p.Retain))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%d: got %v, want %s", i, got, tt.want)
		}
		retain(t, pub, topic, "kept")
		collect(t, pub, reader)
	}
	// Retain Handling 1 on a new one, with an identifier and user properties.
	retain(t, pub, topic, "kept", wire.Property{ID: wire.UserProperty, Str: "k", Value: "v"})
	other := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "other"), Clean: true})
	other.Must(wire.Packet{Type: wire.Subscribe, ID: 2, Filters: []wire.Filter{{Topic: topic, Options: options(1, 1, false, false)}},
		Properties: wire.Properties{{ID: wire.SubscriptionID, Num: 77}}})
	if p := other.Get(wire.Publish); p.Properties.User("k") != "v" || !p.Retain {
		t.Errorf("got %s with %v", p, p.Properties)
	} else if n, _ := p.Properties.Num(wire.SubscriptionID); n != 77 {
		t.Errorf("identifier %d, want 77", n)
	}
	// No Local holds for them too.
	pub.Must(wire.Packet{Type: wire.Subscribe, ID: 2, Filters: []wire.Filter{{Topic: topic, Options: options(1, 0, false, true)}, {Topic: "end", Options: 1}}})
	pub.Get(wire.Suback)
	if got := collect(t, pub, pub); len(got) != 0 {
		t.Errorf("No Local: got %v", got)
	}
}

func TestRetainedMessagesExpire(t *testing.T) {
	t.Parallel()
	b := startProbe(t)
	pub := probePublisher(t, b)
	top := probeName(t, "r")
	retain(t, pub, top+"/a", "short", wire.Property{ID: wire.MessageExpiry, Num: 1})
	retain(t, pub, top+"/b", "long", wire.Property{ID: wire.MessageExpiry, Num: 100})
	<-time.After(1500 * time.Millisecond) // only time itself makes it expire
	reader := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "reader"), Clean: true})
	reader.Sub(1, "end", 1)
	reader.Sub(1, top+"/#", 1)
	got := collect(t, pub, reader)
	if len(got) != 1 || string(got[0].Payload) != "long" {
		t.Fatalf("got %v, want the long one", got)
	}
	if left, _ := got[0].Properties.Num(wire.MessageExpiry); left > 99 || left < 90 {
		t.Errorf("%d s are left, want a little less than 99", left)
	}
}

// TestRetainedDeliveriesSurviveReconnects: many more than the window, with lost
// links and a restart in between; each comes, and what was in flight comes again with its id and DUP.
func TestRetainedDeliveriesSurviveReconnects(t *testing.T) {
	b := startOwn(t)
	const messages = 100
	pub := probePublisher(t, b)
	top := probeName(t, "r")
	for i := range messages {
		retain(t, pub, fmt.Sprintf("%s/%03d", top, i), fmt.Sprint(i))
	}
	h := probeLasting(wire.V5, probeName(t, "phone"))
	h.Properties = append(h.Properties, wire.Property{ID: wire.ReceiveMaximum, Num: 5})
	phone := wire.Open(t, b.Addr, h)
	phone.Sub(1, top+"/#", 1)
	pub.Accepted(2, top+"/live", []byte("live"))
	type sent struct {
		id uint16
		at int
	}
	open := map[string]sent{} // in flight, by payload
	acked := map[string]bool{}
	for round := 0; len(acked) <= messages; round++ {
		for range 13 {
			if len(acked) > messages {
				break
			}
			p := phone.Get(wire.Publish)
			if p.Retain != (string(p.Payload) != "live") || acked[string(p.Payload)] {
				t.Fatalf("round %d: got %s", round, p)
			}
			if was, again := open[string(p.Payload)]; again && (!p.Dup || was.id != p.ID) {
				t.Fatalf("round %d: %s again, want DUP and id %d", round, p, was.id)
			} else if !again && p.Dup && was.at == round {
				t.Fatalf("round %d: %s for the first time", round, p)
			}
			open[string(p.Payload)] = sent{p.ID, round}
			if len(open) == 5 || string(p.Payload) == "99" || len(acked) == messages { // the window is full: acknowledge the oldest two thirds
				for payload, was := range open {
					if len(acked) < messages && len(open) <= 2 && string(p.Payload) != "99" {
						break
					}
					phone.Must(wire.Packet{Type: wire.Puback, ID: was.id})
					acked[payload] = true
					delete(open, payload)
				}
				phone.Alive()
			}
		}
		if len(acked) > messages {
			break
		}
		phone.Drop()
		if round%3 == 1 {
			b.Restart()
			pub = probePublisher(t, b)
		}
		phone = wire.Dialed(t, b.Addr)
		if !phone.Welcome(h).SessionPresent {
			t.Fatal("the session is gone")
		}
	}
	retain(t, pub, top+"/new", "last")
	if p := phone.Get(wire.Publish); string(p.Payload) != "last" || p.Retain {
		t.Errorf("got %s, want the last one, live", p)
	}
}

// TestTheSnapshotAndTheTailAreOne: while a retained message is replaced again
// and again, every subscriber sees its values in order without hole or repeat.
func TestTheSnapshotAndTheTailAreOne(t *testing.T) {
	b := startOwn(t)
	pub := probePublisher(t, b)
	topic := probeName(t, "r")
	retain(t, pub, topic, "0")
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 1
		for ; ; n++ {
			select {
			case <-stop:
				done <- n - 1
				return
			default:
			}
			if err := pub.Send(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(n%60000 + 1), Retain: true, Topic: topic, Payload: fmt.Append(nil, n)}); err != nil {
				t.Error(err)
			}
			if p, err := pub.Next(wire.Patience); err != nil || p.Type != wire.Puback {
				t.Errorf("%s, %v; want a PUBACK", p, err)
				done <- 0
				return
			}
		}
	}()
	for i := range 40 {
		reader := wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, fmt.Sprint("reader", i)), Clean: true})
		reader.Must(wire.Packet{Type: wire.Subscribe, ID: 1, Filters: []wire.Filter{{Topic: topic, Options: 1}}})
		last := -1
		for range 20 {
			p := reader.Get(wire.Publish)
			reader.Ack(p)
			var n int
			if _, err := fmt.Sscan(string(p.Payload), &n); err != nil {
				t.Fatal(err)
			}
			if last >= 0 && n != last+1 || p.Retain && last >= 0 {
				t.Fatalf("reader %d: %s after %d", i, p, last)
			}
			last = n
		}
		reader.Drop()
	}
	close(stop)
	if <-done == 0 {
		t.Fatal("the publisher failed")
	}
}

// TestWhoMayRetain: services and clients without an account; a retained command reaches its device.
func TestWhoMayRetain(t *testing.T) {
	b := startOwn(t)
	bot := wire.Open(t, b.Addr, wire.Hello{Client: "bot", Clean: true, User: "s", Password: b.Token(chat.Service, "bot", "")})
	command := "$hl/main/device/d1/" + topics.DeviceCommand.Name
	retain(t, bot, command, `{"do":"x"}`)
	for _, version := range probeVersions {
		h := wire.Hello{Version: version, Client: "d1", Clean: true, User: "d", Password: b.Token(chat.Device, "d1", "")}
		device := wire.Open(t, b.Addr, h)
		if n, ok := device.Connack.Properties.Num(wire.RetainAvailable); version == wire.V5 && (!ok || n != 0) {
			t.Error("a device is told that it may retain")
		}
		device.Sub(1, topics.AllDown, 1)
		if p := device.Get(wire.Publish); p.Topic != topics.DeviceCommand.Name || !p.Retain || p.QoS != 1 {
			t.Errorf("got %s, want the retained command", p)
		} else {
			device.Ack(p)
		}
		device.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: 1, Retain: true, Topic: "up/report", Payload: []byte(`{}`)})
		if version == wire.V5 {
			if last := device.Closed(wire.Patience); last.Code != 0x9a {
				t.Errorf("%s, want 0x9a", last)
			}
		}
	}
}
