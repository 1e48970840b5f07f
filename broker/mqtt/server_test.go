package mqtt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/mqtt"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// served is a server on a journal in memory.
type served struct {
	*mqtt.Server
	engine *broker.Broker
	keys   *token.Keys
	j      *memory.Journal
	end    func() // the server, not the engine
}

func serve(t *testing.T, change ...func(*mqtt.Config)) *served {
	t.Helper()
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	j := memory.New()
	engine, err := broker.New(broker.Config{Node: "n1", Journal: j, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	config := mqtt.Config{Broker: engine, Addr: "127.0.0.1:0", AllowAnonymous: true}
	for _, c := range change {
		c(&config)
	}
	s := mqtt.NewServer(config)
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	endEngine := probeRun(t, "broker", func(ctx context.Context, ready func()) error {
		err := engine.Run(ctx, ready)
		if errors.Is(err, journal.ErrFailed) {
			return nil // a test has made it fail
		}
		return err
	})
	end := probeRun(t, "mqtt", s.Run)
	ended := false
	stop := func() {
		if !ended {
			ended = true
			end()
		}
	}
	t.Cleanup(func() {
		stop()
		endEngine()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return &served{s, engine, keys, j, stop}
}

func TestAnonymousIsForLoopbackOnly(t *testing.T) {
	s := serve(t)
	for addr, ok := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, "0.0.0.0:0": false, ":0": false} {
		other := mqtt.NewServer(mqtt.Config{Broker: s.engine, Addr: addr, AllowAnonymous: true})
		err := other.Listen(t.Context())
		if ok != (err == nil) {
			t.Errorf("Listen on %s: %v, want ok %t", addr, err, ok)
		}
		if err == nil { // Run closes the listener
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := other.Run(ctx, func() {}); err != nil {
				t.Error(err)
			}
		} else if other.Addr() != nil {
			t.Errorf("%s is bound although Listen refused it", addr)
		}
	}
}

func TestOneConnectionTooManyIsClosed(t *testing.T) {
	s := serve(t, func(c *mqtt.Config) { c.MaxConnections = 1 })
	first := wire.Open(t, s.Addr().String(), wire.Hello{Client: "one", Clean: true})
	second := wire.Dialed(t, s.Addr().String())
	second.Closed(wire.Patience)
	if st := s.engine.Stats(); st.Turned != 1 || st.Connections != 1 {
		t.Errorf("%d turned away, %d open; want 1 and 1", st.Turned, st.Connections)
	}
	first.Alive()
}

func TestAStoppingServerSaysSo(t *testing.T) {
	s := serve(t)
	c := wire.Open(t, s.Addr().String(), wire.Hello{Version: wire.V5, Client: "phone", Clean: true})
	silent := wire.Dialed(t, s.Addr().String()) // never says CONNECT
	began := time.Now()
	s.end()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if d := c.Get(wire.Disconnect); d.Code != 0x8b {
		t.Errorf("%s, want 0x8B", d)
	}
	silent.Closed(wire.Patience)
}

func TestATokenThatExpiresEndsTheConnection(t *testing.T) {
	s := serve(t)
	claims := token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"},
		Issued:  time.Now().Add(-time.Hour), Expires: time.Now().Add(-token.Leeway + 2*time.Second),
	}
	password, err := s.keys.Issue(claims)
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.Hello{Version: wire.V5, Client: "phone", User: "ada", Password: password, Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 3600}}}
	c := wire.Open(t, s.Addr().String(), hello)
	c.Sub(1, "down/#", 1)
	if d := c.Get(wire.Disconnect); d.Code != 0x87 {
		t.Errorf("%s, want 0x87", d)
	}
	claims.Expires = time.Now().Add(time.Hour)
	if hello.Password, err = s.keys.Issue(claims); err != nil {
		t.Fatal(err)
	}
	again := wire.Dialed(t, s.Addr().String())
	if p := again.Welcome(hello); !p.SessionPresent {
		t.Error("the session did not survive its token")
	}
}

// TestAFailedJournalIsNotAcknowledged on either version.
func TestAFailedJournalIsNotAcknowledged(t *testing.T) {
	s := serve(t)
	var clients []*wire.Client
	for v, id := range map[byte]string{wire.V311: "a", wire.V5: "b"} {
		clients = append(clients, wire.Open(t, s.Addr().String(), wire.Hello{Version: v, Client: id, Clean: true}))
	}
	release := s.j.Hold()
	for _, c := range clients {
		c.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: 7, Topic: "a", Payload: []byte("x")})
	}
	s.j.Fail()
	release()
	for _, c := range clients {
		for {
			p, err := c.Next(wire.Patience)
			if err != nil {
				break
			}
			if p.Type == wire.Puback {
				t.Errorf("%s", p)
			}
		}
	}
}

func TestWebSocket(t *testing.T) {
	s := serve(t, func(c *mqtt.Config) { c.Origins = []string{"https://shop.example"} })
	web := httptest.NewServer(s.WebSocket())
	defer web.Close()
	url := "ws" + strings.TrimPrefix(web.URL, "http")
	dial := func(t *testing.T, origin string, subprotocols ...string) (*websocket.Conn, error) {
		t.Helper()
		o := &websocket.DialOptions{Subprotocols: subprotocols, HTTPHeader: http.Header{}}
		if origin != "" {
			o.HTTPHeader.Set("Origin", origin)
		}
		c, _, err := websocket.Dial(t.Context(), url, o)
		return c, err
	}
	hello := wire.Hello{Version: wire.V5, Client: "page", Clean: true}.Encode()

	t.Run("is MQTT in binary frames", func(t *testing.T) {
		c, err := dial(t, "", "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		// A packet may be cut anywhere, and frames may hold more than one.
		ping := []byte{0xc0, 0}
		all := append(hello, ping...)
		for _, part := range [][]byte{all[:3], all[3:10], all[10:]} {
			if err := c.Write(t.Context(), websocket.MessageBinary, part); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		for len(got) == 0 || int(got[1])+4 > len(got) {
			kind, b, err := c.Read(t.Context())
			if err != nil || kind != websocket.MessageBinary {
				t.Fatalf("%v %v", kind, err)
			}
			got = append(got, b...)
		}
		if got[0] != 0x20 || got[3] != 0 || got[len(got)-2] != 0xd0 {
			t.Errorf("got % x, want CONNACK and PINGRESP", got)
		}
	})
	t.Run("a large packet goes both ways", func(t *testing.T) {
		c, err := dial(t, "", "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		body := append(binary.BigEndian.AppendUint16(nil, 1), 'a', 0)
		body = append(body, make([]byte, 200_000)...)
		packet := append(binary.AppendUvarint([]byte{0x30}, uint64(len(body))), body...)
		sub := []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0}
		for _, b := range [][]byte{hello, sub, packet} {
			if err := c.Write(t.Context(), websocket.MessageBinary, b); err != nil {
				t.Fatal(err)
			}
		}
		total := 0
		for total < len(packet) {
			_, b, err := c.Read(t.Context())
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			total += len(b)
		}
	})
	t.Run("refuses text", func(t *testing.T) {
		c, err := dial(t, "", "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if err := c.Write(t.Context(), websocket.MessageText, hello); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err == nil {
			t.Errorf("got % x", b)
		}
	})
	t.Run("refuses another subprotocol", func(t *testing.T) {
		c, err := dial(t, "", "chat")
		if err != nil {
			return
		}
		defer c.CloseNow()
		if _, b, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("got % x, %v", b, err)
		}
	})
	for origin, ok := range map[string]bool{
		"": true, web.URL: true, "https://shop.example": true, "http://shop.example": false, "https://evil.example": false, "null": false,
	} {
		t.Run("origin "+origin, func(t *testing.T) {
			c, err := dial(t, origin, "mqtt")
			if ok != (err == nil) {
				t.Errorf("%v, want ok %t", err, ok)
			}
			if err == nil {
				_ = c.CloseNow()
			}
		})
	}
	t.Run("says goodbye", func(t *testing.T) {
		c, err := dial(t, "", "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if err := c.Write(t.Context(), websocket.MessageBinary, hello); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		go s.end()
		_, b, err := c.Read(t.Context())
		if err != nil || len(b) < 3 || b[0] != 0xe0 || b[2] != 0x8b {
			t.Errorf("got % x, %v; want DISCONNECT 0x8B", b, err)
		}
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("closed with %v", err)
		}
	})
}

func TestAWebSocketNeedsARunningServer(t *testing.T) {
	s := serve(t)
	s.end()
	w := httptest.NewRecorder()
	s.WebSocket().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/mqtt", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d, want 503", w.Code)
	}
}

func TestListeningTwiceIsAnError(t *testing.T) {
	s := serve(t)
	other := mqtt.NewServer(mqtt.Config{Broker: s.engine, Addr: s.Addr().String()})
	if err := other.Listen(t.Context()); err == nil {
		t.Error("two servers on one address")
	}
	if err := other.Run(t.Context(), func() {}); err == nil {
		t.Error("Run without Listen")
	}
}

// TestABusyConnectionIsToldThatItWasTakenOver while it publishes as fast as it can.
func TestABusyConnectionIsToldThatItWasTakenOver(t *testing.T) {
	s := serve(t)
	for range 20 {
		busy := wire.Open(t, s.Addr().String(), wire.Hello{Version: wire.V5, Client: "phone", Clean: true})
		stop := make(chan struct{})
		go func() {
			for busy.Send(wire.Packet{Type: wire.Publish, Topic: "a", Payload: []byte("x")}) == nil {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		next := wire.Open(t, s.Addr().String(), wire.Hello{Version: wire.V5, Client: "phone", Clean: true})
		if d := busy.Get(wire.Disconnect); d.Code != 0x8e {
			t.Errorf("%s, want 0x8E", d)
		}
		close(stop)
		next.Drop()
	}
}
