package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"holdline/chat"
)

func TestBackoffIsFullJitterWithACap(t *testing.T) {
	for _, r := range []float64{0, 0.5, 0.999} {
		b := backoff{cap: time.Minute, rand: func() float64 { return r }}
		for i, limit := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			want := time.Duration(r * float64(limit*time.Second))
			if got := b.next(stable - 1); got != want {
				t.Errorf("try %d with %v: %s, want %s", i, r, got, want)
			}
		}
		if got := b.next(stable); got > time.Second {
			t.Errorf("after a stable link: %s, want at most 1 s", got)
		}
	}
	b := backoff{}
	var low, high bool
	for range 200 {
		d := b.spread(time.Second)
		low, high = low || d < 750*time.Millisecond, high || d > 1250*time.Millisecond
		if d < 500*time.Millisecond || d > 1500*time.Millisecond {
			t.Errorf("spread %s", d)
		}
	}
	if !low || !high {
		t.Error("200 spreads are all on one side")
	}
}

// refuse refuses one connection with a CONNACK and tells how long the client
// had stayed away, and with which password it came.
func refuse(f *fake, code byte, user ...packets.User) (away time.Duration, password string) {
	began := time.Now()
	p := f.accept()
	away = time.Since(began)
	p.send(&packets.Connack{ReasonCode: code, Properties: &packets.Properties{User: user, ReasonString: "because"}})
	p.closed()
	return away, string(p.hello.Password)
}

func TestRefusedTokenIsFetchedAnewOnceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		fetched := 0
		cfg.Token = func(context.Context) (string, error) { fetched++; return fmt.Sprint("token ", fetched), nil }
		start(t, cfg)
		for _, tt := range []struct {
			code     byte
			atOnce   bool
			password string
		}{
			{packets.ConnackServerBusy, true, "token 1"},
			{packets.ConnackNotAuthorized, false, "token 1"}, // being busy is no reason for another token
			{packets.ConnackBadUsernameOrPassword, true, "token 2"},
			{packets.ConnackBadUsernameOrPassword, false, "token 3"},
		} {
			if away, password := refuse(f, tt.code); away == 0 != tt.atOnce || password != tt.password {
				t.Errorf("came with %q after %s, want %q, at once %t", password, away, tt.password, tt.atOnce)
			}
		}
		p := f.accept().welcome(false).synced("k-0")
		time.Sleep(stable)
		// The token expires during the connection.
		p.send(&packets.Disconnect{ReasonCode: packets.DisconnectNotAuthorized, Properties: &packets.Properties{}})
		if away, password := refuse(f, packets.ConnackServerBusy); away != 0 || password != "token 5" {
			t.Errorf("came back after %s with %q", away, password)
		}
	})
}

func TestServerSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		refuse(f, packets.ConnackServerBusy, packets.User{Key: "ra", Value: "30000"})
		if away, _ := refuse(f, packets.ConnackServerBusy); away != 30*time.Second {
			t.Errorf("away for %s, want 30 s", away)
		}
		p := f.accept().welcome(false)
		p.send(&packets.Disconnect{ReasonCode: packets.DisconnectServerShuttingDown, Properties: &packets.Properties{User: []packets.User{{Key: "spread", Value: "50000"}}}})
		began := time.Now()
		f.accept()
		if away := time.Since(began); away != 25*time.Second {
			t.Errorf("away for %s, want the middle of 50 s", away)
		}
	})
}

func TestSomeCodesEndRun(t *testing.T) {
	for _, tt := range []struct {
		code    byte
		connack bool
		want    error
	}{
		{packets.DisconnectSessionTakenOver, false, ErrTakenOver},
		{packets.DisconnectAdministrativeAction, false, ErrStopped},
		{packets.ConnackBanned, true, ErrStopped},
		{packets.ConnackInvalidClientID, true, ErrStopped},
	} {
		t.Run(fmt.Sprintf("%#x", tt.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				cfg, notes := testConfig(f)
				c := start(t, cfg)
				if tt.connack {
					refuse(f, tt.code)
				} else {
					p := f.accept().welcome(false)
					p.send(&packets.Disconnect{ReasonCode: tt.code, Properties: &packets.Properties{}})
				}
				<-c.over
				if !errors.Is(c.err, tt.want) {
					t.Errorf("Run = %v, want %v", c.err, tt.want)
				}
				if l := notes.links[len(notes.links)-1]; l.Up || !errors.Is(l.Err, tt.want) {
					t.Errorf("OnLink was told %+v last", l)
				}
			})
		})
	}
}

func TestMissingAcknowledgementProbesTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		c := start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		send(t, c.Client, "into the void")
		began := time.Now()
		p.said()
		p.expect(packets.PINGREQ)
		if got := time.Since(began); got != 8*time.Second {
			t.Errorf("PINGREQ after %s, want 8 s", got)
		}
		p.closed()
		if got := time.Since(began); got != 11*time.Second {
			t.Errorf("gave up after %s, want 11 s", got)
		}

		// On a link that answers pings but not publishes it takes 30 s.
		p = f.accept().welcome(true)
		began = time.Now()
		if _, pub := p.said(); !pub.Duplicate {
			t.Error("resend without DUP")
		}
		for c := p.next(); c != nil; c = p.next() {
			if c.Type != packets.PINGREQ {
				t.Errorf("got %s", c)
			}
			p.send(&packets.Pingresp{})
		}
		if got := time.Since(began); got != 30*time.Second {
			t.Errorf("gave up after %s, want 30 s", got)
		}
	})
}

func TestKeepAlivePingsAQuietLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		began := time.Now()
		p.expect(packets.PINGREQ)
		if got := time.Since(began); got != 240*time.Second {
			t.Errorf("PINGREQ after %s, want 240 s", got)
		}
		p.send(&packets.Pingresp{})
		time.Sleep(100 * time.Second)
		p.event(1) // traffic in one direction only proves nothing about the other
		p.acked(1)
		at := time.Now()
		p.expect(packets.PINGREQ)
		if got := time.Since(at); got != 240*time.Second {
			t.Errorf("PINGREQ %s after traffic both ways, want 240 s", got)
		}
		p.closed()
		if got := time.Since(at); got != 250*time.Second {
			t.Errorf("gave up after %s, want 250 s", got)
		}
	})
}

func TestServerSetsTheKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		cfg.Role = chat.Device
		start(t, cfg)
		p := f.accept()
		alive := uint16(60)
		p.send(&packets.Connack{Properties: &packets.Properties{ServerKeepAlive: &alive}})
		p.granted()
		began := time.Now()
		p.expect(packets.PINGREQ)
		if got := time.Since(began); got != time.Minute {
			t.Errorf("PINGREQ after %s, want 1 m", got)
		}
	})
}

func TestServerThatNeverAnswersConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept()
		began := time.Now()
		p.closed()
		if got := time.Since(began); got != connectPatience {
			t.Errorf("gave up after %s", got)
		}
		p = f.accept() // no SUBACK either
		p.send(&packets.Connack{Properties: &packets.Properties{}})
		p.expect(packets.SUBSCRIBE)
		began = time.Now()
		p.closed()
		if got := time.Since(began); got != connectPatience {
			t.Errorf("gave up on SUBACK after %s", got)
		}
	})
}

func TestGarbageEndsTheConnectionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		if _, err := io.WriteString(p.conn, "\x30\x02\xff\xff"); err != nil {
			t.Fatal(err)
		}
		p.closed()
		f.accept().welcome(true)
	})
}

func TestFloodBeyondReceiveMaximumEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.request0(t)
		for n := uint64(3); n < 30; n++ { // 1 and 2 are missing, so nothing can be acknowledged
			if _, err := (&packets.Publish{Topic: "down/event", QoS: 1, PacketID: uint16(n), Payload: rawOf(eventOf("k", n)), Properties: &packets.Properties{}}).WriteTo(p.conn); err != nil {
				break
			}
		}
		for c := p.next(); c != nil; c = p.next() {
			if c.Type == packets.PUBACK {
				t.Errorf("acknowledged %s", c)
			}
		}
		f.accept()
	})
}
