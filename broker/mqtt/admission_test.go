package mqtt_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"holdline/broker/mqtt"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// admit serves under limits.
func admit(t *testing.T, a mqtt.Admission) *served {
	return serve(t, func(c *mqtt.Config) { c.Admission = a })
}

// as is a customer's hello.
func (s *served) as(t *testing.T, version byte, subject, device string) wire.Hello {
	t.Helper()
	h := probeLasting(version, device)
	pass, err := s.keys.Issue(token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: subject},
		Issued:  time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.User, h.Password = subject, pass
	return h
}

// refusedWith requires a CONNACK of that code in the version's words, and on
// MQTT 5 a time to stay away.
func refusedWith(t *testing.T, s *served, h wire.Hello, code, old byte) {
	t.Helper()
	c := wire.Dialed(t, s.Addr().String())
	p, err := c.Connect(h)
	if err != nil {
		t.Fatal(err)
	}
	want := code
	if h.Version == wire.V311 {
		want = old
	}
	if p.Code != want {
		t.Errorf("%s, want code %#x", p, want)
	}
	if ms, err := strconv.Atoi(p.Properties.User("ra")); h.Version == wire.V5 && (err != nil || ms <= 0 || ms > 30_000) {
		t.Errorf("to stay away %q ms, want some, 30 s at most", p.Properties.User("ra"))
	}
	c.Closed(wire.Patience)
}

func TestAClientThatConnectsTooOftenIsToldToWait(t *testing.T) {
	for _, version := range probeVersions {
		s := admit(t, mqtt.Admission{Connect: mqtt.Rate{Every: time.Hour, Burst: 2}})
		addr, phone := s.Addr().String(), s.as(t, version, "ada", "phone-1")
		for range 2 {
			c := wire.Open(t, addr, phone)
			if err := c.Goodbye(); err != nil {
				t.Fatal(err)
			}
			c.Closed(wire.Patience)
		}
		refusedWith(t, s, phone, 0x9f, 3)
		wire.Open(t, addr, s.as(t, version, "ada", "phone-2"))
		wire.Open(t, addr, s.as(t, version, "bob", "phone-1"))
		for range 5 { // for development, and never limited
			wire.Open(t, addr, wire.Hello{Client: "phone-1", Clean: true})
		}
		if n := s.engine.Stats().Rejected["rate"]; n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
	}
}

func TestTwoDevicesWithOneNameDoNotThrowEachOtherOutForEver(t *testing.T) {
	for _, version := range probeVersions {
		s := admit(t, mqtt.Admission{Takeovers: 3})
		phone := s.as(t, version, "ada", "phone-1")
		var holder *wire.Client
		for range 4 { // the first takes nothing over
			holder = wire.Open(t, s.Addr().String(), phone)
		}
		refusedWith(t, s, phone, 0x97, 3)
		holder.Alive()
		if err := holder.Goodbye(); err != nil {
			t.Fatal(err)
		}
		holder.Closed(wire.Patience)
		wire.Eventually(t, "the session is still connected", func() bool { return s.engine.Stats().Online == 0 })
		wire.Open(t, s.Addr().String(), phone) // nobody has it now
		if n := s.engine.Stats().Rejected["takeovers"]; n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
	}
}

func TestConnectionsAreAcceptedAtAPace(t *testing.T) {
	const every, n = 20 * time.Millisecond, 10
	s := admit(t, mqtt.Admission{Accept: mqtt.Rate{Every: every, Burst: 2}})
	began := time.Now()
	for i := range n {
		wire.Open(t, s.Addr().String(), wire.Hello{Client: fmt.Sprint("phone-", i), Clean: true})
	}
	// One more is let through before anybody comes: the server waits to accept, not after.
	if took := time.Since(began); took < (n-3)*every {
		t.Errorf("%d connections in %s, want one in %s after the first two", n, took, every)
	}
}

func customerRate(r mqtt.Rate) mqtt.Admission {
	return mqtt.Admission{Publish: map[chat.Role]mqtt.Rate{chat.Customer: r}}
}

func say(i int) []byte { return fmt.Appendf(nil, `{"id":"m-%d","text":"number %d"}`, i, i) }

func TestAPublishThatComesTooEarlyIsPostponed(t *testing.T) {
	s := admit(t, customerRate(mqtt.Rate{Every: time.Hour, Burst: 3}))
	phone := wire.Open(t, s.Addr().String(), s.as(t, wire.V5, "ada", "phone-1"))
	for i := range 6 {
		phone.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message", Payload: say(i)})
	}
	for i := range 6 {
		want := byte(0)
		if i >= 3 {
			want = 0x97
		}
		if a := phone.Get(wire.Puback); a.ID != uint16(i+1) || a.Code != want {
			t.Errorf("%s, want the PUBACK to id %d with %#x [MQTT-4.6.0-2]", a, i+1, want)
		}
	}
	phone.Must(wire.Packet{Type: wire.Publish, Topic: "up/typing", Payload: []byte(`{}`)}) // QoS 0 is lost
	phone.Alive()
	other := wire.Open(t, s.Addr().String(), s.as(t, wire.V5, "ada", "phone-2"))
	other.Accepted(1, "up/message", say(100))
	if st := s.engine.Stats(); st.Throttled != 4 || len(st.Refused) != 0 {
		t.Errorf("%d throttled and refused %v; want 4 and none", st.Throttled, st.Refused)
	}
}

func TestAnOldClientThatIsTooEarlyIsReadLater(t *testing.T) {
	const every, n = 20 * time.Millisecond, 10
	s := admit(t, customerRate(mqtt.Rate{Every: every, Burst: 2}))
	phone := wire.Open(t, s.Addr().String(), s.as(t, wire.V311, "ada", "phone-1"))
	began := time.Now()
	for i := range n {
		phone.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message", Payload: say(i)})
	}
	for i := range n {
		probePuback(t, phone, uint16(i+1))
	}
	if took := time.Since(began); took < (n-2)*every {
		t.Errorf("%d publishes in %s, want one in %s after the first two", n, took, every)
	}
	phone.Alive()
}

// TestAnOldClientThatWaitsCanBeTakenOver: the reader waits inside the session.
func TestAnOldClientThatWaitsCanBeTakenOver(t *testing.T) {
	s := admit(t, customerRate(mqtt.Rate{Every: time.Hour, Burst: 2}))
	hello := s.as(t, wire.V311, "ada", "phone-1")
	phone := wire.Open(t, s.Addr().String(), hello)
	for i := range 4 {
		phone.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message", Payload: say(i)})
	}
	probePuback(t, phone, 1)
	probePuback(t, phone, 2) // what came in time does not wait with what came too early
	wire.Eventually(t, "nothing is throttled", func() bool { return s.engine.Stats().Throttled == 1 })
	again := wire.Dialed(t, s.Addr().String())
	began := time.Now()
	again.Welcome(hello)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the takeover took %s", took)
	}
	phone.Closed(wire.Patience)
	again.Accepted(3, "up/message", say(2))
}
