package mqtt

import (
	"errors"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
	"holdline/broker/journal/killpoint"
)

const (
	// writeBytes is about how much goes out in one write.
	writeBytes = 32 << 10
	// maxWriter bounds the buffer that an unused writer keeps.
	maxWriter = 64 << 10
	// maxOut bounds the answers that wait for the socket; then nothing more is read.
	maxOut = 32 << 10
	// A connection that ends is given this long for its last write; one that was
	// taken over less, because the same client is waiting elsewhere.
	lastWrite     = time.Second
	takenOverTime = 50 * time.Millisecond
)

// writer is what a flush needs. A connection has one only while it writes.
type writer struct {
	buf  []byte
	list []broker.Delivery
}

var writers = sync.Pool{New: func() any { return new(writer) }}

func (w *writer) release() {
	clear(w.list)
	w.list = w.list[:0]
	if cap(w.buf) <= maxWriter {
		writers.Put(w)
	}
}

// outbound is the writing side of a connection. Nothing but the flush writes
// to the socket; there is one at a time, while there is something to write.
type outbound struct {
	mu       sync.Mutex
	out      []byte // answers, in order; acknowledgements first of all
	acked    bool   // out contains a PUBACK
	flushing bool
	again    bool // something came since the flush looked
	dead     bool // nothing can be written any more
	closing  bool // final is the last thing that is written
	final    []byte
	stopped  bool // the reader is not to wait
	changed  sync.Cond
}

// Wake implements broker.Link.
func (c *conn) Wake() {
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	o.again = true
	if o.flushing || o.dead {
		return
	}
	o.flushing = true
	go c.flush()
}

// Acked implements broker.Link.
func (c *conn) Acked(acks []broker.Ack) {
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || o.closing {
		return
	}
	if o.out == nil {
		o.out = make([]byte, 0, max(64, 4*len(acks)))
	}
	for _, a := range acks {
		switch {
		case a.Err == nil:
			o.out = appendAck(o.out, a.Kind, a.ID)
		case errors.Is(a.Err, broker.ErrNoID) && c.version != 5:
			o.out = appendAck(o.out, a.Kind, a.ID) // [MQTT-4.3.3-11]
		case c.version == 5 && (broker.Final(a.Err) || errors.Is(a.Err, broker.ErrNoID) ||
			errors.Is(a.Err, broker.ErrBusy) && (a.Kind == broker.Puback || a.Kind == broker.Pubrec)):
			o.out = append(o.out, c.negative(a)...)
		case broker.Final(a.Err):
			o.out = appendAck(o.out, a.Kind, a.ID) // the inbox tells: MQTT 3.1.1 cannot say no
		default:
			// Without an acknowledgement the client sends again, on its next connection
			// [MQTT-4.4.0-1]. What comes after must not be acknowledged either.
			o.end(c.disconnect(goodbye(a.Err)))
			return
		}
	}
	o.acked = true
}

// answer queues a packet that answers the client. One that is larger than the
// client takes cannot be sent, and nothing else would be an answer [MQTT-3.1.2-24].
func (c *conn) answer(packet []byte) {
	o := &c.outbound
	o.mu.Lock()
	switch {
	case o.dead || o.closing:
	case c.largest > 0 && len(packet) > c.largest:
		o.end(nil)
	default:
		o.out = append(o.out, packet...)
	}
	o.mu.Unlock()
	c.Wake()
}

// waitOut waits while too much waits for the socket. It gives up when the
// connection ends: writes have deadlines.
func (c *conn) waitOut() {
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.out) > maxOut && !o.dead && !o.stopped {
		o.changed.Wait()
	}
}

// end makes final the last thing to be written; o.mu is held.
func (o *outbound) end(final []byte) {
	if !o.closing {
		o.closing, o.final = true, final
	}
}

// Close implements broker.Link.
func (c *conn) Close(r broker.Reason) {
	within := lastWrite
	if r == broker.TakenOver {
		within = takenOverTime
	}
	c.hangUp(c.disconnect(farewell(r)), within)
}

// hangUp ends the connection from our side: final is written if there is time.
func (c *conn) hangUp(final []byte, within time.Duration) {
	c.outbound.mu.Lock()
	c.outbound.end(final)
	c.outbound.mu.Unlock()
	c.Stop()
	c.s.Poison(within)
	c.Wake()
}

// Stop implements broker.Link.
func (c *conn) Stop() {
	c.cancel()
	o := &c.outbound
	o.mu.Lock()
	o.stopped = true
	o.changed.Broadcast()
	o.mu.Unlock()
}

// flush writes until there is nothing left.
func (c *conn) flush() {
	defer c.flushed()
	w := writers.Get().(*writer)
	defer w.release()
	for {
		acked, closing := c.collect(w)
		if len(w.buf) > 0 {
			if _, err := c.s.Write(w.buf); err != nil {
				c.broken()
				return
			}
			if acked {
				killpoint.At(killpoint.Acknowledged)
			}
		}
		if closing {
			c.cancel() // the reader sets no other deadline after this
			c.s.finish()
			c.outbound.mu.Lock()
			c.outbound.dead = true
			c.outbound.mu.Unlock()
			return
		}
		if len(w.buf) == 0 && c.rest() {
			return
		}
	}
}

// collect fills w with what goes out next: answers first, then deliveries.
func (c *conn) collect(w *writer) (acked, closing bool) {
	o := &c.outbound
	o.mu.Lock()
	o.again = false
	w.buf = append(w.buf[:0], o.out...)
	o.out = nil
	acked, o.acked = o.acked, false
	closing = o.closing
	if closing {
		w.buf = append(w.buf, o.final...)
	}
	session := c.session
	o.changed.Broadcast()
	o.mu.Unlock()
	if closing || session == nil {
		return acked, closing
	}
	clear(w.list)
	w.list = session.Take(w.list[:0], writeBytes-len(w.buf))
	if len(w.list) == 0 {
		return acked, false
	}
	now := time.Now()
	for i := range w.list {
		var ok bool
		if w.buf, ok = c.appendPublish(w.buf, &w.list[i], now); !ok {
			session.Drop(w.list[i])
		}
	}
	if len(w.buf) == 0 { // all were dropped: look again
		o.mu.Lock()
		o.again = true
		o.mu.Unlock()
	}
	return acked, false
}

// rest ends the flush, unless something came.
func (c *conn) rest() bool {
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.again {
		return false
	}
	o.flushing = false
	o.changed.Broadcast()
	return true
}

// broken says that the socket takes nothing more.
func (c *conn) broken() {
	c.outbound.mu.Lock()
	c.outbound.dead = true
	c.outbound.mu.Unlock()
	_ = c.s.Close() // ends the reader; the connection closes it again
}

// flushed runs when a flush ends, however it does.
func (c *conn) flushed() {
	if p := recover(); p != nil {
		c.srv.panicked(c, p)
		c.broken()
	}
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		o.flushing, o.out = false, nil
		o.changed.Broadcast()
	}
}

// settle waits until nothing writes, for the end of the connection: writes have
// deadlines by then.
func (c *conn) settle() {
	o := &c.outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.flushing {
		o.changed.Wait()
	}
	o.dead = true
}

func subackCodes(grants []broker.Grant, v5 bool) (codes []byte, detail string) {
	codes = make([]byte, len(grants))
	for i, g := range grants {
		switch {
		case g.Err == nil:
			codes[i] = g.QoS
			continue
		case v5:
			codes[i] = filterRefusal(g.Err).Code
		default:
			codes[i] = packets.ErrUnspecifiedError.Code // the one that 3.1.1 has
		}
		if detail == "" {
			detail = g.Err.Error()
		}
	}
	return codes, detail
}
