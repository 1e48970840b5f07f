package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"holdline/broker/topics"
	"holdline/chat"
)

const (
	// ackPatience is when a missing acknowledgement makes the link suspect;
	// stuckAfter when a link that answers pings but does not acknowledge is given up.
	ackPatience = 8 * time.Second
	stuckAfter  = 30 * time.Second
	// pauseBase and pauseCap bound the wait after "quota exceeded".
	pauseBase = time.Second
	pauseCap  = 30 * time.Second
	// commitPatience bounds the writing down of what was delivered, when Run ends meanwhile.
	commitPatience = 5 * time.Second
)

var errStuck = errors.New("no acknowledgement for 30 s on a living link")

// ownInbox is the topic of the account's own inbox.
var ownInbox = topics.CustomerEvent.Name

// flight is a publish that is not acknowledged.
type flight struct {
	id uint16
	n  uint64 // the outbox item; 0 for a request
	at time.Time
}

// unacked is a publish of the server's in the order of arrival. Acknowledgements
// leave in that order [MQTT-4.6.0-2]: one that is held holds those behind it.
type unacked struct {
	id   uint16
	done bool
}

// connection is one life of a link, driven by the goroutine of Run alone.
type connection struct {
	c    *Client
	link *link
	// What CONNACK said.
	resumed   bool
	maxPacket uint32
	maxFlight int

	flights []flight // in the order of sending
	probed  time.Time
	paused  time.Time // until then nothing of the outbox is sent
	pauses  int

	acks []unacked
	held []held // own events that cannot be delivered yet

	// acked are the items that were acknowledged here while the sync was on: the
	// server has them, whatever it forgot before.
	acked []uint64

	// What the batch changed and is not on disk yet.
	moved map[string]bool // inboxes whose place moved
	recs  []record
	// durable is true when recs must be on disk before anything is acknowledged.
	durable bool
}

// connect makes one connection and drives it to its end. up is false when it
// never came up. The error is an *Ended, unless Run is to end with it.
func (c *Client) connect(ctx context.Context, ready func()) (up bool, err error) {
	password, err := c.password(ctx)
	if err != nil {
		return false, &Ended{Text: err.Error(), Cause: err}
	}
	dialing, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	socket, err := c.dial(dialing)
	if err != nil {
		return false, broken("connect", err)
	}
	l := newLink(socket, c.cfg.ReceiveMaximum)
	p := paho.NewClient(paho.ClientConfig{
		ClientID: c.cfg.Device, Conn: l, Session: l, PingHandler: l.beat, PacketTimeout: connectPatience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){l.received},
	})
	ack, err := p.Connect(dialing, c.hello(password))
	if err != nil {
		l.fail(broken("connect", err))
		if ack != nil && ack.ReasonCode != 0 {
			return false, refusedBy(ack)
		}
		return false, broken("connect", err)
	}
	defer func() {
		l.fail(&Ended{Text: "done"})
		<-p.Done() // the socket is closed: the library's goroutines end
	}()
	n := &connection{c: c, link: l, resumed: ack.SessionPresent, maxFlight: 65535, moved: map[string]bool{}}
	if ack.Properties.MaximumPacketSize != nil {
		n.maxPacket = *ack.Properties.MaximumPacketSize
	}
	if ack.Properties.ReceiveMaximum != nil {
		n.maxFlight = int(*ack.Properties.ReceiveMaximum)
	}
	if err := n.subscribe(ctx, p); err != nil {
		return false, err
	}
	c.log.InfoContext(ctx, "connected", "resumed", n.resumed)
	c.tell(Link{Up: true, Resumed: n.resumed})
	ready()
	err = n.drive(ctx)
	if ctx.Err() != nil {
		_ = p.Disconnect(&paho.Disconnect{}) // a goodbye is a courtesy: the session stays either way
	}
	return true, err
}

// hello is the CONNECT packet.
func (c *Client) hello(password string) *paho.Connect {
	expiry, window, size := uint32(c.cfg.SessionExpiry/time.Second), c.cfg.ReceiveMaximum, uint32(maxPacketBytes)
	return &paho.Connect{
		ClientID: c.cfg.Device, KeepAlive: uint16(c.cfg.KeepAlive / time.Second),
		Username: c.cfg.Subject, UsernameFlag: c.cfg.Subject != "",
		Password: []byte(password), PasswordFlag: true,
		Properties: &paho.ConnectProperties{
			SessionExpiryInterval: &expiry, ReceiveMaximum: &window, MaximumPacketSize: &size, RequestProblemInfo: true,
		},
	}
}

func refusedBy(a *paho.Connack) *Ended {
	p := packets.Properties{}
	if a.Properties != nil {
		p.ReasonString = a.Properties.ReasonString
		p.User = a.Properties.User.ToPacketProperties()
	}
	return endedBy(a.ReasonCode, &p)
}

// subscribe asks for everything, each time: a session may be there without its
// subscription, when a link broke between the two. What arrives meanwhile waits.
func (n *connection) subscribe(ctx context.Context, p *paho.Client) error {
	filters := slices.Clone(n.c.cfg.Subscribe)
	if n.c.cfg.Role != chat.Service {
		filters = append(filters, topics.AllDown)
	}
	if n.c.cfg.OnQueueEvent != nil {
		filters = append(filters, topics.AllQueues)
	}
	if len(filters) == 0 {
		return nil
	}
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1, RetainHandling: packets.RetainDoNotSend})
	}
	if ack, err := p.Subscribe(ctx, s); err != nil {
		select {
		case <-n.link.dead:
			return n.link.why
		default:
		}
		if ack != nil {
			return &Ended{Text: fmt.Sprintf("subscribe to %q: the server said %#x", filters, ack.Reasons), Cause: err}
		}
		return broken("subscribe", err)
	}
	return nil
}

// drive moves everything until the connection ends or ctx does.
func (n *connection) drive(ctx context.Context) error {
	if !n.resumed {
		n.c.state.mark(func(*item) bool { return true }, false)
		n.c.sync.anew = true
	}
	n.c.sync.begin(n.c.syncs() && !n.resumed)
	for {
		n.tick(time.Now())
		if err := n.pump(ctx); err != nil {
			return err
		}
		batch, over := n.wait(ctx)
		if err := n.take(ctx, batch); err != nil {
			return err
		}
		if over != nil {
			return over
		}
	}
}

// wait blocks until something is there or due, and takes all that is there. over
// is why the connection has ended, after this batch.
func (n *connection) wait(ctx context.Context) (batch []inbound, over error) {
	due := time.NewTimer(time.Until(n.due()))
	defer due.Stop()
	select {
	case p := <-n.link.arrived:
		batch = append(batch, p)
	case <-n.c.wake:
	case <-due.C:
	case <-n.link.dead:
		over = n.link.why
	case <-ctx.Done():
		over = &Ended{Text: "asked to end", Cause: ctx.Err()}
	}
	for range cap(n.link.arrived) {
		select {
		case p := <-n.link.arrived:
			batch = append(batch, p)
		default:
			return batch, over
		}
	}
	return batch, over
}

// farAway is when nothing is due.
const farAway = time.Hour

// due is when the clock has to be looked at next.
func (n *connection) due() time.Time {
	t := time.Now().Add(farAway)
	if len(n.flights) > 0 {
		at := n.flights[0].at
		t = earlier(t, at.Add(stuckAfter))
		if n.probed.After(at) {
			at = n.probed
		}
		t = earlier(t, at.Add(ackPatience))
	}
	if n.paused.After(time.Now()) {
		t = earlier(t, n.paused)
	}
	if n.c.sync.wanted {
		t = earlier(t, n.c.sync.due)
	}
	return t
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// tick does what is due.
func (n *connection) tick(now time.Time) {
	if len(n.flights) > 0 {
		oldest := n.flights[0].at
		switch {
		case now.Sub(oldest) >= stuckAfter:
			n.link.fail(broken("waiting", errStuck))
		case now.Sub(oldest) >= ackPatience && now.Sub(n.probed) >= ackPatience:
			n.probed = now
			n.link.beat.probe()
		}
	}
	if s := &n.c.sync; s.wanted && !s.due.After(now) && len(n.flights) < n.maxFlight {
		n.ask(now)
	}
}

// pump sends what the window has room for, in order.
func (n *connection) pump(ctx context.Context) error {
	for n.items() < n.c.cfg.Window && len(n.flights) < n.maxFlight && !time.Now().Before(n.paused) {
		i := n.c.state.queued(func(number uint64) bool {
			return slices.ContainsFunc(n.flights, func(f flight) bool { return f.n == number })
		})
		if i == nil {
			return nil
		}
		id := itemID(i.N)
		if slices.ContainsFunc(n.flights, func(f flight) bool { return f.id == id }) {
			return nil // 32767 items later: wait for its acknowledgement
		}
		p := &packets.Publish{Topic: i.Topic, Payload: i.Payload, QoS: 1, PacketID: id, Duplicate: i.Again, Properties: &packets.Properties{}}
		if n.tooLarge(p) {
			n.refuse(i, chat.ReasonTooLarge, fmt.Sprintf("the server takes packets of %d bytes at most", n.maxPacket))
			if err := n.commit(ctx); err != nil {
				return err
			}
			continue
		}
		n.c.state.mark(func(o *item) bool { return o.N == i.N }, true)
		n.publish(p, i.N)
	}
	return nil
}

// items counts the outbox items in flight.
func (n *connection) items() (count int) {
	for _, f := range n.flights {
		if f.n != 0 {
			count++
		}
	}
	return count
}

// headBytes is more than the header of a PUBLISH without its topic.
const headBytes = 16

func (n *connection) tooLarge(p *packets.Publish) bool {
	return n.maxPacket > 0 && len(p.Topic)+len(p.Payload)+headBytes > int(n.maxPacket)
}

func (n *connection) publish(p *packets.Publish, item uint64) {
	n.flights = append(n.flights, flight{p.PacketID, item, time.Now()})
	n.link.send(p)
}

// take works off a batch, writes down what it changed, and only then acknowledges.
func (n *connection) take(ctx context.Context, batch []inbound) error {
	var failed error
	for _, p := range batch {
		if p.puback != nil {
			n.acknowledged(p.puback)
		} else if failed = n.arrived(p.publish); failed != nil {
			break
		}
	}
	if err := n.commit(ctx); err != nil {
		return errors.Join(failed, err)
	}
	n.acknowledge()
	return failed
}

// commit writes down what changed.
func (n *connection) commit(ctx context.Context) error {
	recs := n.recs
	for inbox := range n.moved {
		recs = append(recs, record{Inbox: inbox, Event: n.c.places[inbox].id()})
	}
	if len(recs) == 0 {
		return nil
	}
	// What the callbacks have taken must not come again because ctx ended just now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience)
	defer cancel()
	err := n.c.state.change(ctx, n.durable || len(n.moved) > 0, func() ([]record, error) { return recs, nil })
	n.recs, n.durable = nil, false
	clear(n.moved)
	return err
}

// acknowledge sends the acknowledgements that may leave.
func (n *connection) acknowledge() {
	var ps []io.WriterTo
	for len(n.acks) > 0 && n.acks[0].done {
		ps = append(ps, &packets.Puback{PacketID: n.acks[0].id})
		n.acks = n.acks[1:]
	}
	if len(ps) > 0 {
		n.link.send(ps...)
	}
}

// acknowledged takes a PUBACK.
func (n *connection) acknowledged(p *packets.Puback) {
	at := slices.IndexFunc(n.flights, func(f flight) bool { return f.id == p.PacketID })
	if at < 0 {
		return
	}
	f := n.flights[at]
	n.flights = slices.Delete(n.flights, at, at+1)
	n.probed = time.Time{}
	if f.n == 0 {
		if p.ReasonCode >= 0x80 {
			n.c.sync.later(time.Now())
		}
		return
	}
	i := n.c.state.item(f.n, "")
	if i == nil {
		return // its event was faster
	}
	switch reason, final := refusedFor(p.ReasonCode); {
	case p.ReasonCode < 0x80:
		n.pauses = 0
		if i.Final {
			n.settle(i, Receipt{ID: i.ID, Status: Acknowledged})
			return
		}
		n.recs = append(n.recs, record{Acked: i.N})
		if n.c.sync.anew {
			n.acked = append(n.acked, i.N)
		}
		n.receipt(Receipt{ID: i.ID, Status: Acknowledged})
	case final:
		n.refuse(i, reason, reasonString(p))
	default:
		// This exchange is over; the next is a new one, after a while.
		n.c.state.mark(func(o *item) bool { return o.N == i.N }, false)
		if now := time.Now(); now.Before(n.paused) {
			return // it was on its way when the first was answered
		}
		d := doubled(pauseBase, n.pauses, pauseCap)
		n.pauses++
		n.paused = time.Now().Add(d)
		n.c.log.Warn("server is busy, holding back", "code", p.ReasonCode, "wait", d)
	}
}

func reasonString(p *packets.Puback) string {
	if p.Properties != nil && p.Properties.ReasonString != "" {
		return p.Properties.ReasonString
	}
	return p.Reason()
}

// refuse settles an item that will never be taken.
func (n *connection) refuse(i *item, reason chat.Reason, detail string) {
	n.settle(i, Receipt{ID: i.ID, Status: Refused, Reason: reason, Detail: detail})
}

// settle takes an item out of the outbox.
func (n *connection) settle(i *item, r Receipt) {
	if slices.ContainsFunc(n.recs, func(r record) bool { return r.Done == i.N }) {
		return // it is settled with what is being stored: a message and the answer to its repeat came together
	}
	n.recs, n.durable = append(n.recs, record{Done: i.N}), true
	n.receipt(r)
}

func (n *connection) receipt(r Receipt) {
	if n.c.cfg.OnReceipt != nil {
		n.c.cfg.OnReceipt(r)
	}
}
