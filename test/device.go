package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/wire"
)

// Said is one publish of a device: what was sent, and what was answered.
type Said struct {
	ID      chat.MessageID
	Text    string
	topic   string
	payload []byte

	// Acked and Code are the PUBACK; under the device's lock.
	acked bool
	code  byte
}

// Device is one lasting MQTT session that keeps its word: it connects again
// whenever the link is lost, sends again what was not acknowledged, in order, and records
// what comes.
type Device struct {
	Account chat.Account
	Name    string // the client id
	tb      testing.TB
	hello   wire.Hello
	filters []wire.Filter
	address func() string
	// heard is called for every fresh event, from the device's own goroutine; it must not block.
	heard func(topic string, e chat.Event)

	mu      sync.Mutex
	said    []*Said // in the order of speaking
	open    int     // said[:open] are all acknowledged
	inboxes map[string]*Inbox
	told    map[chat.MessageID]chat.EventType // what became of its own words
	answers int                               // messages of others
	replies []json.RawMessage                 // down/reply
	cancel  context.CancelFunc
	ended   chan struct{}
	online  bool
	tries   int      // connections that ended, or never began
	refused []string // CONNACKs and SUBACKs that said no
	spoken  chan struct{}
}

// keepAlive is the shortest that desks may ask for, so that a frozen one is missed soon.
const keepAlive = 15

// window is how many publishes a device has under way: less than every server
// allows that can be met here.
const window = 8

func newDevice(tb testing.TB, a chat.Account, name string, version byte, password string, address func() string, filters ...string) *Device {
	h := wire.Hello{Version: version, Client: name, User: a.Subject, Password: password, KeepAlive: keepAlive}
	if version == wire.V5 {
		h.Properties = wire.Properties{{ID: wire.SessionExpiry, Num: 86400}}
	}
	d := &Device{Account: a, Name: name, tb: tb, hello: h, address: address, inboxes: map[string]*Inbox{}, told: map[chat.MessageID]chat.EventType{}, spoken: make(chan struct{}, 1)}
	for _, f := range filters {
		d.filters = append(d.filters, wire.Filter{Topic: f, Options: 1})
	}
	return d
}

func (d *Device) String() string { return d.Account.Subject + "/" + d.Name }

// On begins to be connected, until Off, Vanish or the end of the test.
func (d *Device) On() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.ended = cancel, make(chan struct{})
	ended := d.ended
	go func() {
		defer close(ended)
		d.live(ctx)
	}()
	d.tb.Cleanup(d.Off)
}

// Off drops the link and stays away. It returns when the device is silent.
func (d *Device) Off() {
	d.mu.Lock()
	cancel, ended := d.cancel, d.ended
	d.cancel = nil
	d.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

// Online reports whether the device is connected and subscribed.
func (d *Device) Online() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.online
}

// AwaitOnline waits until the device is connected and subscribed.
func (d *Device) AwaitOnline() {
	d.tb.Helper()
	Eventually(d.tb, Patience, func() string {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.online {
			return ""
		}
		return fmt.Sprintf("%s is not online; refused: %v", d, d.refused)
	})
}

// Tries is how many connections ended, or never came to be.
func (d *Device) Tries() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tries
}

// Publish queues a publish. It is sent now, or when there is a link.
func (d *Device) Publish(topic string, id chat.MessageID, text string, payload any) *Said {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err) // a test's own value
	}
	s := &Said{ID: id, Text: text, topic: topic, payload: b}
	d.mu.Lock()
	d.said = append(d.said, s)
	d.mu.Unlock()
	select {
	case d.spoken <- struct{}{}:
	default:
	}
	return s
}

// Sayings are all publishes so far, in order.
func (d *Device) Sayings() []*Said {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said[:len(d.said):len(d.said)]
}

// Unacked is the number of publishes without a PUBACK.
func (d *Device) Unacked() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.said[d.open:] {
		if !s.acked {
			n++
		}
	}
	return n
}

// Taken reports whether a publish has a PUBACK that says yes.
func (d *Device) Taken(s *Said) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.acked && s.code < 0x80
}

// Inbox is the record of a topic of numbered events.
func (d *Device) Inbox(topic string) *Inbox {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.inboxes[topic]
	if i == nil {
		i = &Inbox{name: d.String() + " " + topic}
		d.inboxes[topic] = i
	}
	return i
}

// Inboxes are all records.
func (d *Device) Inboxes() (all []*Inbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.inboxes {
		all = append(all, i)
	}
	return all
}

// Reply is the answer to a request.
func (d *Device) Reply(to chat.MessageID) (r chat.Reply, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.replies {
		if r = (chat.Reply{}); json.Unmarshal(b, &r) == nil && r.ID == to {
			return r, true
		}
	}
	return chat.Reply{}, false
}

func (d *Device) live(ctx context.Context) {
	for ctx.Err() == nil {
		_ = d.connection(ctx) // that it ended is enough to know
		d.mu.Lock()
		d.tries++
		d.online = false
		d.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(10*time.Millisecond + rand.N(90*time.Millisecond)):
		}
	}
}

// connection is one connection from CONNECT to its end.
func (d *Device) connection(ctx context.Context) error {
	address := d.address()
	if address == "" {
		return errors.New("no server")
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Drop()
	defer context.AfterFunc(ctx, conn.Drop)()
	ack, err := conn.Connect(d.hello)
	if err == nil && ack.Code != 0 {
		err = fmt.Errorf("refused: %s", ack)
		d.refuse(err)
	}
	if err != nil {
		return err
	}
	if err := conn.Send(wire.Packet{Type: wire.Subscribe, ID: 1, Filters: d.filters}); err != nil {
		return err
	}
	m := &mouth{device: d, conn: conn, under: map[uint16]*Said{}, id: 1, credit: make(chan struct{}, 1)}
	var speaking sync.WaitGroup
	done, end := context.WithCancel(ctx)
	speaking.Go(func() { m.speak(done) })
	defer speaking.Wait()
	defer end()
	defer conn.Drop()
	return d.listen(conn, m)
}

// dial connects to HOST:PORT, or to http://HOST:PORT by WebSocket.
func dial(ctx context.Context, address string) (*wire.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if strings.HasPrefix(address, "http://") {
		return wire.DialWebSocket(ctx, wire.Upgrade{URL: address + "/mqtt", Origin: address, Protocol: "mqtt"})
	}
	return wire.Dial(ctx, address)
}

// listen reads until the link is lost. A link that is silent is asked, and given up when it does not answer.
func (d *Device) listen(conn *wire.Conn, m *mouth) error {
	for asked := false; ; {
		p, err := conn.Next(time.Second + rand.N(time.Second))
		switch {
		case errors.Is(err, wire.ErrSilent) && asked:
			return errors.New("the link is dead")
		case errors.Is(err, wire.ErrSilent):
			asked = true
			if err := conn.Send(wire.Packet{Type: wire.Pingreq}); err != nil {
				return err
			}
			continue
		case err != nil:
			if strings.Contains(err.Error(), "broken ") {
				d.tb.Errorf("%s: %v", d, err)
			}
			return err
		}
		asked = false
		switch p.Type {
		case wire.Publish:
			d.arrived(p)
			if p.QoS > 0 {
				if err := conn.Send(wire.Packet{Type: wire.Puback, ID: p.ID}); err != nil {
					return err
				}
			}
		case wire.Puback:
			m.acked(p)
		case wire.Suback:
			for _, c := range p.Codes {
				if c >= 0x80 {
					d.refuse(fmt.Errorf("subscription refused: %s", p))
					return errors.New("subscription refused")
				}
			}
			d.mu.Lock()
			d.online = true
			d.mu.Unlock()
		case wire.Disconnect:
			return fmt.Errorf("server: %s", p)
		}
	}
}

func (d *Device) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.refused) < 5 {
		d.refused = append(d.refused, err.Error())
	}
}

func (d *Device) arrived(p wire.Packet) {
	if p.Topic == "down/reply" {
		d.mu.Lock()
		d.replies = append(d.replies, p.Payload)
		d.mu.Unlock()
		return
	}
	e, fresh := d.Inbox(p.Topic).take(p.Payload)
	if !fresh {
		return
	}
	if p.Topic == "down/event" {
		d.mu.Lock()
		switch {
		case e.Type == chat.TypeMessage && (e.From == nil || e.From.Role != d.Account.Role || e.From.ID != d.Account.Subject):
			d.answers++
		case d.told[e.ID] == chat.TypeMessage: // a repeat is answered as done or refused: what it was the first time stands
		case e.ID != "":
			d.told[e.ID] = e.Type
		}
		d.mu.Unlock()
	}
	if d.heard != nil {
		d.heard(p.Topic, e)
	}
}

// Answers is how many messages of others arrived.
func (d *Device) Answers() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answers
}

// Told is what the device's inbox said became of something it said: a message, a refusal, done;
// "" as long as it said nothing.
func (d *Device) Told(id chat.MessageID) chat.EventType {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told[id]
}

// mouth is the sending half of one connection.
type mouth struct {
	device *Device
	conn   *wire.Conn
	credit chan struct{} // something was acknowledged

	mu    sync.Mutex
	under map[uint16]*Said // under way
	id    uint16
	next  int // in device.said
}

// speak sends what is not acknowledged, in order, until done.
func (m *mouth) speak(done context.Context) {
	for {
		for {
			p, ok := m.take()
			if !ok {
				break
			}
			if m.conn.Send(p) != nil {
				m.conn.Drop() // so that listen ends too
				return
			}
		}
		select {
		case <-done.Done():
			return
		case <-m.device.spoken:
		case <-m.credit:
		}
	}
}

func (m *mouth) take() (p wire.Packet, ok bool) {
	m.device.mu.Lock()
	defer m.device.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.under) >= window {
		return p, false
	}
	for m.next = max(m.next, m.device.open); m.next < len(m.device.said); {
		s := m.device.said[m.next]
		m.next++
		if s.acked {
			continue
		}
		for {
			if m.id++; m.id < 2 {
				m.id = 2
			}
			if m.under[m.id] == nil {
				break
			}
		}
		m.under[m.id] = s
		return wire.Packet{Type: wire.Publish, QoS: 1, ID: m.id, Topic: s.topic, Payload: s.payload}, true
	}
	return p, false
}

func (m *mouth) acked(p wire.Packet) {
	d := m.device
	d.mu.Lock()
	m.mu.Lock()
	s := m.under[p.ID]
	delete(m.under, p.ID)
	switch {
	case s == nil:
		d.tb.Errorf("%s: %s for nothing that is under way", d, p)
	case p.Code == 0x97: // not now: it is sent again on the next connection
		m.conn.Drop()
	default:
		s.acked, s.code = true, p.Code
		for d.open < len(d.said) && d.said[d.open].acked {
			d.open++
		}
	}
	m.mu.Unlock()
	d.mu.Unlock()
	select {
	case m.credit <- struct{}{}:
	default:
	}
}
