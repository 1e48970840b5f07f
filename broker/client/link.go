package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"
)

const (
	// writePatience bounds one write: past it the socket is as good as dead.
	writePatience = 10 * time.Second
	// slack is how many packets beyond Receive Maximum may wait to be looked at:
	// acknowledgements and QoS 0. When it is full QoS 0 is dropped, as QoS 0 may be.
	slack = 256
)

var errFlooded = errors.New("the server sent more than Receive Maximum allows")

// inbound is one packet from the server: a PUBLISH or a PUBACK.
type inbound struct {
	publish *packets.Publish
	puback  *packets.Puback
}

// link is one connection: a socket that writes whole packets, and the session
// state of the library, which here remembers nothing but who waits for a SUBACK.
// What is published and what was acknowledged is the outbox's affair.
//
// It implements net.Conn, sync.Locker (the library holds the lock for one
// packet) and session.SessionManager.
type link struct {
	net.Conn
	in   *bufio.Reader
	beat *heartbeat
	// arrived has room for all that a server may send before we look; the reader never waits for us.
	arrived chan inbound
	dead    chan struct{} // closed when the connection is over

	once sync.Once
	why  *Ended // before dead is closed

	// turn is held by the one who writes, during the write, which has a deadline.
	turn chan struct{}
	out  bytes.Buffer

	mu      sync.Mutex
	lastID  uint16
	waiting map[uint16]chan<- packets.ControlPacket
}

var (
	_ sync.Locker            = (*link)(nil)
	_ session.SessionManager = (*link)(nil)
)

func newLink(conn net.Conn, receiveMaximum uint16) *link {
	l := &link{
		Conn: conn, in: bufio.NewReader(conn),
		arrived: make(chan inbound, int(receiveMaximum)+slack),
		dead:    make(chan struct{}),
		turn:    make(chan struct{}, 1),
		lastID:  otherIDs - 1,
		waiting: map[uint16]chan<- packets.ControlPacket{},
	}
	l.beat = newHeartbeat(func() { l.fail(broken("ping", errSilent)) })
	return l
}

// fail ends the connection. The first reason stays.
func (l *link) fail(why *Ended) {
	l.once.Do(func() {
		l.why = why
		close(l.dead)
	})
	_ = l.Conn.Close() // the reason is told; there is nothing to add
}

// Read is buffered: the library reads byte by byte.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if err != nil {
		l.fail(broken("read", err))
	}
	return n, err
}

// Lock begins a packet.
func (l *link) Lock() { l.turn <- struct{}{} }

// Write adds to the packet; Unlock sends it, so that it leaves in one piece.
func (l *link) Write(p []byte) (int, error) { return l.out.Write(p) }

// Unlock ends a packet and writes it.
func (l *link) Unlock() {
	wrote, err := l.flush()
	<-l.turn
	if err != nil {
		l.fail(broken("write", err))
	} else if wrote {
		l.beat.PacketSent()
	}
}

// flush writes what was gathered. The caller has the turn.
func (l *link) flush() (wrote bool, err error) {
	if l.out.Len() == 0 {
		return false, nil
	}
	defer l.out.Reset()
	if err := l.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return false, err
	}
	_, err = l.Conn.Write(l.out.Bytes())
	return true, err
}

// send writes packets in one piece.
func (l *link) send(ps ...io.WriterTo) {
	var b bytes.Buffer
	for _, p := range ps {
		_, _ = p.WriteTo(&b) // a buffer takes everything
	}
	l.Lock()
	defer l.Unlock()
	l.out.Write(b.Bytes())
}

// offer hands a packet to the connection's owner without waiting.
func (l *link) offer(p inbound) {
	select {
	case l.arrived <- p:
	default:
		if p.publish == nil || p.publish.QoS > 0 {
			l.fail(broken("protocol", errFlooded))
		}
	}
}

// received takes the QoS 0 publishes, which the library routes on its own way.
func (l *link) received(p paho.PublishReceived) (bool, error) {
	if p.Packet.QoS == 0 {
		l.offer(inbound{publish: p.Packet.Packet()})
	}
	return true, nil
}

// Packet ids from here up are for what is not in the outbox.
const otherIDs = 1 << 15

// itemID is the packet id of an outbox item: always the same one.
func itemID(n uint64) uint16 { return uint16(1 + n%(otherIDs-1)) }

// otherID is a packet id for a request or a SUBSCRIBE.
func (l *link) otherID() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.lastID++; l.lastID < otherIDs {
			l.lastID = otherIDs
		}
		if _, busy := l.waiting[l.lastID]; !busy {
			return l.lastID
		}
	}
}

// ConAckReceived does nothing: the outbox is sent again by its owner.
func (l *link) ConAckReceived(io.Writer, *packets.Connect, *packets.Connack) error { return nil }

// ConnectionLost notes what the server said and tells those who wait for a
// SUBACK that none will come.
func (l *link) ConnectionLost(d *packets.Disconnect) error {
	if d != nil {
		l.fail(endedBy(d.ReasonCode, d.Properties))
	}
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = map[uint16]chan<- packets.ControlPacket{}
	l.mu.Unlock()
	for _, resp := range waiting {
		resp <- packets.ControlPacket{} // has room for one: the library makes it so
	}
	return nil
}

// AddToSession gives a SUBSCRIBE its id.
func (l *link) AddToSession(_ context.Context, p session.Packet, resp chan<- packets.ControlPacket) error {
	if p.Type() == packets.PUBLISH {
		return errors.New("publishes go through the outbox")
	}
	id := l.otherID()
	p.SetIdentifier(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[id] = resp
	return nil
}

// PacketReceived takes what has a packet id.
func (l *link) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch c := p.Content.(type) {
	case *packets.Publish:
		l.offer(inbound{publish: c})
	case *packets.Puback:
		l.offer(inbound{puback: c})
	case *packets.Suback:
		l.mu.Lock()
		resp, ok := l.waiting[c.PacketID]
		delete(l.waiting, c.PacketID)
		l.mu.Unlock()
		if ok {
			resp <- *p
		}
	}
	return nil
}

// Ack is never used: we acknowledge by ourselves, when the position is on disk.
func (l *link) Ack(*packets.Publish) error { return nil }

// Close closes the socket. Why is known already, but for packets that cannot be read.
func (l *link) Close() error {
	l.fail(&Ended{Text: "connection closed"})
	return nil
}

// SetErrorLogger does nothing: we log in our own way.
func (l *link) SetErrorLogger(log.Logger) {}

// SetDebugLogger does nothing.
func (l *link) SetDebugLogger(log.Logger) {}
