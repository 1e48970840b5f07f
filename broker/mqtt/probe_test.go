package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/pebble"
	"holdline/broker/mqtt"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// The probes are what other brokers were seen to fail: each sends what a real
// phone on a bad network sends, over a raw socket, and looks at the answer. They
// know nothing of the broker but its address.
//
// Those on the plain tree can be run against another broker, to see that the
// probe itself is right: HOLDLINE_PROBE_PEER=127.0.0.1:1884 go test -run Probe.

// probePeer is the address of the other broker, empty in an ordinary run.
var probePeer = os.Getenv("HOLDLINE_PROBE_PEER")

// probeOrigin is a web page that may connect, beside the server's own.
const probeOrigin = "https://desk.example"

var probeVersions = []byte{wire.V311, wire.V5}

// probeBroker is a broker with a journal of its own.
type probeBroker struct {
	Addr    string
	Web     string // URL of MQTT over WebSocket
	Keys    *token.Keys
	Journal journal.Journal // nil when it is a peer

	t         testing.TB
	dir       string
	anonymous bool
	stop      func()
}

// startProbe starts a broker for one test, which ends it.
func startProbe(t testing.TB) *probeBroker {
	t.Helper()
	if probePeer != "" {
		return &probeBroker{Addr: probePeer, t: t}
	}
	return startOwn(t)
}

// startOwn is startProbe for what no other broker can do: tokens, mount points, restarts.
func startOwn(t testing.TB) *probeBroker {
	t.Helper()
	if probePeer != "" {
		t.Skip("not something that HOLDLINE_PROBE_PEER does")
	}
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &probeBroker{t: t, dir: filepath.Join(t.TempDir(), "journal"), Keys: keys, anonymous: true}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

// Restart ends the broker and its journal and starts them anew from what is on disk.
func (b *probeBroker) Restart() {
	b.t.Helper()
	b.stop()
	b.start()
}

func (b *probeBroker) start() {
	b.t.Helper()
	log := slog.New(slog.NewTextHandler(probeLog{b.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	j, err := pebble.Open(b.t.Context(), pebble.Options{Dir: b.dir, Log: log})
	if err != nil {
		b.t.Fatalf("journal: %v", err)
	}
	engine, err := broker.New(broker.Config{Node: "probe", Journal: j, Keys: b.Keys, Log: log})
	if err != nil {
		b.t.Fatalf("broker: %v", err)
	}
	server := mqtt.NewServer(mqtt.Config{Broker: engine, Addr: "127.0.0.1:0", AllowAnonymous: b.anonymous, Origins: []string{probeOrigin}, Log: log})
	if err := server.Listen(b.t.Context()); err != nil {
		b.t.Fatalf("listen: %v", err)
	}
	endEngine := probeRun(b.t, "broker", engine.Run)
	endServer := probeRun(b.t, "mqtt", server.Run)
	web := httptest.NewServer(server.WebSocket())
	b.Addr, b.Web, b.Journal = server.Addr().String(), web.URL, j
	b.stop = func() {
		endServer()
		web.Close()
		endEngine()
		if err := j.Close(); err != nil {
			b.t.Errorf("journal: %v", err)
		}
	}
}

// probeRun starts a part and waits until it is ready; the returned function ends it.
func probeRun(t testing.TB, name string, run func(context.Context, func()) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // Cleanup ends it in order
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("%s did not start: %v", name, err)
	case <-time.After(wire.Patience):
		t.Fatalf("%s was not ready in %s", name, wire.Patience)
	}
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(3 * wire.Patience):
			t.Errorf("%s did not end in %s", name, 3*wire.Patience)
		}
	}
}

// probeLog writes the broker's warnings to the test's log.
type probeLog struct{ t testing.TB }

func (l probeLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// Token signs a token that is good for an hour. device may be empty.
func (b *probeBroker) Token(role chat.Role, subject, device string) string {
	b.t.Helper()
	s, err := b.Keys.Issue(token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: role, Subject: subject},
		Device:  device, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// Customer is the hello of a customer's device with a lasting session.
func (b *probeBroker) Customer(version byte, subject, device string) wire.Hello {
	h := probeLasting(version, device)
	h.User, h.Password = subject, b.Token(chat.Customer, subject, "")
	return h
}

// Service opens a service that watches the whole tree.
func (b *probeBroker) Service() *wire.Client {
	b.t.Helper()
	h := wire.Hello{Client: "watcher", Clean: true, User: "s", Password: b.Token(chat.Service, "watcher", "")}
	c := wire.Open(b.t, b.Addr, h)
	c.Sub(1, "$hl/main/#", 1)
	return c
}

// probeLasting is a hello with a session that outlives the connection.
func probeLasting(version byte, client string) wire.Hello {
	h := wire.Hello{Version: version, Client: client, KeepAlive: 300}
	if version == wire.V5 {
		h.Properties = wire.Properties{{ID: wire.SessionExpiry, Num: 3600}}
	}
	return h
}

// probeName makes topics and client ids of a test its own.
func probeName(t testing.TB, what string) string {
	return strings.NewReplacer("/", "-", "#", "-", "+", "-", " ", "-").Replace(t.Name()) + "-" + what
}

// probePublisher opens a client that only publishes.
func probePublisher(t testing.TB, b *probeBroker) *wire.Client {
	t.Helper()
	return wire.Open(t, b.Addr, wire.Hello{Client: probeName(t, "publisher"), Clean: true})
}

// probeFill publishes n numbered messages and waits for each PUBACK, keeping window under way.
func probeFill(t testing.TB, c *wire.Client, topic string, from, n, window int) {
	t.Helper()
	acked := 0
	for i := range n {
		c.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: probeID(i), Topic: topic, Payload: fmt.Appendf(nil, "%d", from+i)})
		for ; i+1-acked >= window; acked++ {
			probePuback(t, c, probeID(acked))
		}
	}
	for ; acked < n; acked++ {
		probePuback(t, c, probeID(acked))
	}
}

func probeID(i int) uint16 { return uint16(i%60000) + 1 }

// probePuback requires the next PUBACK to be the one to id: they come in the order of the publishes [MQTT-4.6.0-2].
func probePuback(t testing.TB, c *wire.Client, id uint16) {
	t.Helper()
	if a := c.Get(wire.Puback); a.ID != id || a.Code >= 0x80 {
		t.Fatalf("%s, want the PUBACK to id %d [MQTT-4.6.0-2]", a, id)
	}
}

// probeExpect reads n numbered messages from `from` on and acknowledges each.
// Order must be right; a repeat must carry DUP. It returns the number of repeats.
func probeExpect(t testing.TB, c *wire.Client, from, n int) (repeats int) {
	t.Helper()
	for next := from; next < from+n; {
		p := c.Get(wire.Publish)
		var got int
		if _, err := fmt.Sscanf(string(p.Payload), "%d", &got); err != nil {
			t.Fatalf("unexpected %s", p)
		}
		switch {
		case got == next:
			next++
		case got > next:
			t.Fatalf("got message %d, want %d: lost or out of order", got, next)
		case !p.Dup:
			t.Fatalf("message %d again without DUP", got)
		default:
			repeats++
		}
		if p.QoS > 0 {
			c.Ack(p)
		}
	}
	return repeats
}

// probeCoda publishes one last message and requires that it is the next one to
// arrive: nothing else was on its way.
func probeCoda(t testing.TB, publisher, reader *wire.Client, topic string) {
	t.Helper()
	publisher.Accepted(60001, topic, []byte("coda"))
	if p := reader.Get(wire.Publish); string(p.Payload) != "coda" {
		t.Fatalf("got %s, want the last message", p)
	} else if p.QoS > 0 {
		reader.Ack(p)
	}
}
