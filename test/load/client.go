//go:build linux

package main

import (
	"encoding/binary"
	"time"
)

// rampLimit bounds how long a crowd may take to connect.
const rampLimit = 2 * time.Minute

// rampWidth is how many of a crowd are connecting at the same moment.
const rampWidth = 100

// ramp connects n clients, so many at a time. dial starts one; the client
// counts itself into ready when it is there.
func (l *loop) ramp(n int, ready *int, dial func(i int)) error {
	i, first := 0, *ready
	return l.run("connecting", rampLimit, func() bool {
		for i < n && i-(*ready-first) < rampWidth {
			dial(i)
			i++
		}
		return *ready-first == n
	})
}

// connected checks a CONNACK.
func (l *loop) connected(head byte, body []byte) bool {
	if head != connackHead || len(body) != 2 || body[1] != 0 {
		l.fail("expected CONNACK, got %x %x", head, body)
		return false
	}
	return true
}

// reader is a client that gets messages, and acknowledges each.
type reader struct {
	topic string // subscribes to it; "" goes on with its session
	clean bool
	dialing
	ready *int // counts up when it is connected and subscribed
	on    func(stamp)
}

// dial connects the reader.
func (r reader) dial(l *loop, id string) *conn {
	first := connectFrame(id, r.clean)
	if r.topic != "" {
		first = append(first, subscribeFrame(r.topic)...)
	}
	return l.dial(first, r.dialing, func(c *conn, head byte, body []byte) {
		switch head & 0xf0 {
		case publishHead:
			s, ok := readPublish(head, body)
			if !ok {
				l.fail("a delivery that nobody published: %x", body[:min(len(body), 64)])
				return
			}
			if s.id != 0 {
				c.send(pubackHead, 2, byte(s.id>>8), byte(s.id))
			}
			r.on(s)
		case connackHead:
			if !l.connected(head, body) || r.topic != "" {
				return
			}
			if body[0]&1 == 0 {
				l.fail("session of %s is gone", id)
			}
			*r.ready++
		case subackHead:
			if len(body) != 3 || body[2] != 1 {
				l.fail("SUBACK %x", body)
			}
			*r.ready++
		}
	})
}

// publisher is a client that publishes with a window, round and round its topics.
type publisher struct {
	c           *conn
	to          []template
	window      uint64
	sent, acked uint64
	limit       uint64                     // sends no more than this
	onAck       func(sentAt time.Duration) // may be nil
	at          []time.Duration            // when the last publishes were sent, when onAck is set
}

const latencyRing = 1 << 12

// newPublisher connects; it counts up ready when it is connected.
func (l *loop) newPublisher(id string, window int, ready *int, to ...template) *publisher {
	p := &publisher{to: to, window: uint64(window)}
	p.c = l.dial(connectFrame(id, true), dialing{}, func(c *conn, head byte, body []byte) {
		if head == pubackHead {
			p.ack(body)
		} else if l.connected(head, body) {
			*ready++
		}
	})
	return p
}

func (p *publisher) ack(body []byte) {
	if p.acked == p.sent || len(body) < 2 || binary.BigEndian.Uint16(body) != packetID(p.acked+1) {
		p.c.l.fail("PUBACK %x after %d of %d: not the next one", body, p.acked, p.sent)
		return
	}
	if p.onAck != nil {
		p.onAck(p.at[p.acked%latencyRing])
	}
	p.acked++
	p.fill()
}

// fill sends as much as window and limit allow.
func (p *publisher) fill() {
	if p.sent >= p.limit || p.sent-p.acked >= p.window {
		return
	}
	now := p.c.l.now()
	for p.sent < p.limit && p.sent-p.acked < p.window {
		if p.onAck != nil {
			if p.at == nil {
				p.at = make([]time.Duration, latencyRing)
			}
			p.at[p.sent%latencyRing] = now
		}
		k := uint64(len(p.to))
		p.c.out = p.to[p.sent%k].appendTo(p.c.out, packetID(p.sent+1), p.sent/k+1, now)
		p.sent++
	}
	p.c.later()
}

// owed is how many messages each topic's reader must have got.
func (p *publisher) owed(all map[uint32]uint64) {
	k := uint64(len(p.to))
	for i, t := range p.to {
		from := binary.BigEndian.Uint32(t.frame[t.at+2:])
		all[from] = (p.acked + k - 1 - uint64(i)) / k
	}
}
