package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"holdline/chat"
)

// fake is a server that does what a test tells it, packet by packet, over pipes:
// inside a synctest bubble an hour passes at once.
type fake struct {
	t     *testing.T
	conns chan net.Conn
}

func newFake(t *testing.T) *fake { return &fake{t: t, conns: make(chan net.Conn, 100)} }

// dial is the client's Dial.
func (f *fake) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	f.conns <- theirs
	return ours, nil
}

// peer is the server's end of one connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   chan *packets.ControlPacket
	// hello is the CONNECT that came.
	hello *packets.Connect
}

// accept waits for the next connection and its CONNECT.
func (f *fake) accept() *peer {
	f.t.Helper()
	var p *peer
	select {
	case c := <-f.conns:
		p = &peer{t: f.t, conn: c, in: make(chan *packets.ControlPacket, 1000)}
	case <-time.After(24 * time.Hour):
		f.t.Fatal("no connection in a day")
	}
	go p.read()
	p.hello = p.expect(packets.CONNECT).Content.(*packets.Connect)
	return p
}

// read keeps the pipe from filling: a client's write never hangs because the test looks elsewhere.
func (p *peer) read() {
	defer close(p.in)
	for r := bufio.NewReader(p.conn); ; {
		c, err := packets.ReadPacket(r)
		if err != nil {
			return
		}
		p.in <- c
	}
}

// welcome answers CONNECT and SUBSCRIBE.
func (p *peer) welcome(sessionPresent bool) *peer {
	p.t.Helper()
	p.send(&packets.Connack{SessionPresent: sessionPresent, Properties: &packets.Properties{}})
	p.granted()
	return p
}

// granted answers a SUBSCRIBE and returns its filters.
func (p *peer) granted() (filters []string) {
	p.t.Helper()
	s := p.expect(packets.SUBSCRIBE).Content.(*packets.Subscribe)
	reasons := make([]byte, len(s.Subscriptions))
	for i, f := range s.Subscriptions {
		reasons[i] = f.QoS
		filters = append(filters, f.Topic)
	}
	p.send(&packets.Suback{PacketID: s.PacketID, Reasons: reasons, Properties: &packets.Properties{}})
	return filters
}

// synced answers the sync that every first connection asks for, with no news.
func (p *peer) synced(last chat.EventID) *peer {
	p.t.Helper()
	r := p.request()
	p.reply(chat.Reply{ID: r.ID, Last: last})
	return p
}

func (p *peer) send(c packets.Packet) {
	p.t.Helper()
	if _, err := c.WriteTo(p.conn); err != nil {
		p.t.Logf("server writes to a closed connection: %v", err)
	}
}

// patience is more than any timer under test.
const patience = 10 * time.Minute

// next is the next packet of any type; nil when the client closed the connection.
func (p *peer) next() *packets.ControlPacket {
	p.t.Helper()
	select {
	case c := <-p.in:
		return c
	case <-time.After(patience):
		p.t.Fatal("no packet came")
		return nil
	}
}

func (p *peer) expect(kind byte) *packets.ControlPacket {
	p.t.Helper()
	c := p.next()
	if c == nil {
		p.t.Fatalf("connection closed, want packet type %d", kind)
	}
	if c.Type != kind {
		p.t.Fatalf("got %s, want packet type %d", c, kind)
	}
	return c
}

// closed waits for the client to close the connection.
func (p *peer) closed() {
	p.t.Helper()
	if c := p.next(); c != nil {
		p.t.Fatalf("got %s, want the connection closed", c)
	}
}

// quiet requires that nothing comes for d.
func (p *peer) quiet(d time.Duration) {
	p.t.Helper()
	select {
	case c := <-p.in:
		p.t.Fatalf("got %v, want nothing", c)
	case <-time.After(d):
	}
}

func (p *peer) published() *packets.Publish {
	p.t.Helper()
	return p.expect(packets.PUBLISH).Content.(*packets.Publish)
}

// said is the next message, acknowledged when code is 0.
func (p *peer) said() (chat.Say, *packets.Publish) {
	p.t.Helper()
	pub := p.published()
	if pub.Topic != "up/message" {
		p.t.Fatalf("got a publish on %s, want up/message", pub.Topic)
	}
	s, err := chat.ParseSay(pub.Payload)
	if err != nil {
		p.t.Fatal(err)
	}
	return s, pub
}

func (p *peer) request() chat.Request {
	p.t.Helper()
	pub := p.published()
	r, err := chat.ParseRequest(pub.Payload)
	if pub.Topic != "up/request" || err != nil {
		p.t.Fatalf("got %s %s (%v), want a request", pub.Topic, pub.Payload, err)
	}
	p.ack(pub, 0)
	return r
}

func (p *peer) ack(pub *packets.Publish, code byte) {
	p.t.Helper()
	p.send(&packets.Puback{PacketID: pub.PacketID, ReasonCode: code, Properties: &packets.Properties{}})
}

// acked expects the acknowledgements of these packets, in this order.
func (p *peer) acked(ids ...uint16) {
	p.t.Helper()
	for _, id := range ids {
		if a := p.expect(packets.PUBACK).Content.(*packets.Puback); a.PacketID != id {
			p.t.Fatalf("PUBACK of packet %d, want %d", a.PacketID, id)
		}
	}
}

func (p *peer) publish(topic string, qos byte, id uint16, payload any) {
	p.t.Helper()
	b, ok := payload.([]byte)
	if !ok {
		b = encode(payload)
	}
	p.send(&packets.Publish{Topic: topic, QoS: qos, PacketID: id, Payload: b, Properties: &packets.Properties{}})
}

// event delivers event n of incarnation k under packet id n.
func (p *peer) event(n uint64) { p.publish("down/event", 1, uint16(n), eventOf("k", n)) }

func (p *peer) reply(r chat.Reply) { p.publish("down/reply", 0, 0, r) }

func eventOf(incarnation string, n uint64) chat.Event {
	return chat.Event{
		Event: chat.NewEventID(incarnation, n), Type: chat.TypeMessage, Conversation: "c", Seq: n,
		ID: chat.MessageID(fmt.Sprintf("m%d", n)), From: &chat.Person{Role: chat.AgentRole, ID: "bob"}, Text: fmt.Sprint(n),
	}
}

func raws(incarnation string, from, to uint64) (out []json.RawMessage) {
	for n := from; n <= to; n++ {
		out = append(out, encode(eventOf(incarnation, n)))
	}
	return out
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// notes collects what the callbacks were told.
type notes struct {
	mu       sync.Mutex
	events   []chat.EventID
	receipts []string
	links    []Link
	resyncs  int
}

func (n *notes) add(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *notes) seen() []chat.EventID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]chat.EventID(nil), n.events...)
}

func (n *notes) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.receipts...)
}

// testConfig is a customer's phone that notes everything.
func testConfig(f *fake) (Config, *notes) {
	n := &notes{}
	return Config{
		Dial: f.dial, Device: "phone-1", Subject: "ada",
		Token:     func(context.Context) (string, error) { return "token", nil },
		OnEvent:   func(e chat.Event) error { n.add(func() { n.events = append(n.events, e.Event) }); return nil },
		OnResync:  func() error { n.add(func() { n.resyncs++ }); return nil },
		OnReceipt: func(r Receipt) { n.add(func() { n.receipts = append(n.receipts, string(r.ID)+" "+string(r.Status)) }) },
		OnLink:    func(l Link) { n.add(func() { n.links = append(n.links, l) }) },
		Log:       slog.New(slog.DiscardHandler),
		rand:      func() float64 { return 0.5 },
	}, n
}

// running is a client whose Run is on its way.
type running struct {
	*Client
	stop func() error // ends Run and tells its error
	over chan struct{}
	err  error // after over
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return startClient(t, c)
}

func startClient(t *testing.T, c *Client) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Client: c, over: make(chan struct{})}
	go func() {
		defer close(r.over)
		r.err = c.Run(ctx, nil)
	}()
	r.stop = func() error {
		cancel()
		<-r.over
		return errors.Join(r.err, c.Close())
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil && t.Failed() {
			t.Logf("Run: %v", err)
		}
	})
	return r
}

func send(t *testing.T, c *Client, text string) chat.MessageID {
	t.Helper()
	id, err := c.Send(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
