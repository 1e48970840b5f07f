package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
	"holdline/broker/topics"
)

const (
	// connectTime is how long a client may take from the socket to a whole CONNECT.
	connectTime = 5 * time.Second
	// maxConnect bounds a CONNECT.
	maxConnect = 8 << 10
	// packetTime, and a second for each KiB, is how long a packet may take from
	// its first byte to its last; see timeFor.
	packetTime = 10 * time.Second
	// readBytes is the buffer of a reader; a larger packet gets one of its own.
	readBytes = 8 << 10
	// maxDiscard is the largest packet of an MQTT 3.1.1 client that is read over so
	// that it can be refused: the client has no way to know the limit.
	maxDiscard = 1 << 20
)

// conn is one connection. Its one goroutine reads and, while nothing comes,
// holds no buffer; see outbound for the writing side.
type conn struct {
	srv    *Server
	s      *stream
	ctx    context.Context
	cancel context.CancelFunc

	// What CONNECT settles. The reader writes these before anybody else reads them.
	version   byte
	id        string
	mount     topics.Mount
	tree      bool // names go out as they are in the journal
	anonymous bool // may connect without a token
	quiet     bool // the client wants no reason strings [MQTT-3.1.2-29]
	largest   int  // the client's Maximum Packet Size; 0 for any
	limit     int  // ours
	keepAlive time.Duration
	expires   time.Time       // of the token; zero for never
	session   *broker.Session // written under outbound.mu too

	since      time.Time     // when it was known who it is
	retryAfter time.Duration // of a refused CONNECT; 0 to say nothing
	throttle   throttle

	clean  bool           // the client said goodbye
	expiry *time.Duration // and changed its session's expiry

	outbound outbound
}

var readers = sync.Pool{New: func() any { return new([readBytes]byte) }}

// errClosed ends a connection that has nothing more to say.
var errClosed = errors.New("closed")

// serve runs the connection until it ends.
func (c *conn) serve() {
	defer c.over()
	c.limit = maxConnect
	if c.s.SetReadDeadline(time.Now().Add(connectTime)) != nil {
		return
	}
	for {
		// This is where idle connections wait: without a buffer, in a small frame.
		buf, n, err := c.s.await()
		if err == nil {
			err = c.burst(buf, n)
		}
		if err != nil {
			c.lost(err)
			return
		}
		if err := c.readUntil(c.deadline(time.Now())); err != nil {
			c.lost(err)
			return
		}
	}
}

// readUntil sets the read deadline, unless the connection is ending: then there is
// one already.
func (c *conn) readUntil(at time.Time) error {
	if err := c.s.SetReadDeadline(at); err != nil {
		return err
	}
	if c.ctx.Err() != nil {
		return broker.ErrGone
	}
	return nil
}

// deadline is when silence ends the connection: one and a half times the
// keep-alive [MQTT-3.1.2-22], or the end of the token.
func (c *conn) deadline(now time.Time) time.Time {
	at := c.expires
	if c.keepAlive > 0 {
		if silent := now.Add(c.keepAlive + c.keepAlive/2); at.IsZero() || silent.Before(at) {
			at = silent
		}
	}
	return at
}

// lost ends the connection for err, telling the client what it can be told. A
// connection that is ending already has said its last word.
func (c *conn) lost(err error) {
	var timeout net.Error
	switch {
	case errors.Is(err, errClosed), errors.Is(err, io.EOF), c.version == 0:
		return
	case errors.As(err, &timeout) && timeout.Timeout():
		c.outbound.mu.Lock()
		closing := c.outbound.closing
		c.outbound.mu.Unlock()
		if closing { // it is the time to drain that is over
			return
		}
		if !c.expires.IsZero() && !time.Now().Before(c.expires) {
			err = faultf(packets.ErrNotAuthorized, "the token has expired; connect with a new one")
		} else {
			err = faultf(packets.ErrKeepAliveTimeout, "nothing came for one and a half times the keep-alive")
		}
	case errors.As(err, new(*net.OpError)):
		return // the socket is gone
	}
	code, detail := goodbye(err)
	c.srv.log.DebugContext(c.ctx, "connection ended", "device", c.id, "err", err)
	c.hangUp(c.disconnect(code, detail), lastWrite)
}

// over is the end of the connection, whatever the reason.
func (c *conn) over() {
	if p := recover(); p != nil {
		c.srv.panicked(c, p)
		if c.version == 5 {
			c.hangUp(c.disconnect(packets.ErrMalformedPacket, ""), lastWrite)
		}
	}
	c.outbound.mu.Lock()
	said := c.outbound.closing && c.outbound.final != nil
	c.outbound.end(nil)
	c.outbound.mu.Unlock()
	c.Stop()
	c.s.Poison(lastWrite)
	c.settle()
	if said {
		c.drain()
	}
	_ = c.s.Close() // its peer may have closed it first
	if c.session != nil {
		if err := c.session.End(c.ctx, c.clean, c.expiry); err != nil {
			c.srv.log.WarnContext(c.ctx, "session not written at the end of its connection", "device", c.id, "err", err)
		}
	}
	c.srv.done(c)
}

// drain reads over what the client still sends, for drainTime, so that closing
// the socket does not take back what was written last.
func (c *conn) drain() {
	buf := readers.Get().(*[readBytes]byte)
	defer readers.Put(buf)
	if c.s.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	for n := 0; n < maxDiscard; {
		m, err := c.s.Read(buf[:])
		if err != nil {
			return
		}
		n += m
	}
}

// burst works on the n bytes that have arrived, and what comes meanwhile, until
// nothing is left over. It gives buf back.
//
//go:noinline
func (c *conn) burst(buf *[readBytes]byte, n int) error {
	defer readers.Put(buf)
	begun := time.Now() // of the packet at the beginning of buf
	for {
		used, need, err := c.work(buf[:n])
		if err != nil {
			return err
		}
		full := n == len(buf)
		n = copy(buf[:], buf[used:n])
		if used > 0 {
			begun = time.Now()
		}
		switch {
		case n == 0 && !full:
			return nil
		case need > len(buf):
			return c.large(buf[:n], need)
		case n == 0:
			err = c.readUntil(c.deadline(begun))
		case c.session != nil: // the CONNECT has a deadline of its own
			err = c.readUntil(begun.Add(timeFor(need)))
		}
		if err != nil {
			return err
		}
		m, err := c.s.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
	}
}

// work handles the whole packets at the beginning of b. need is the size of the
// packet that is not whole, as far as it is known.
func (c *conn) work(b []byte) (used, need int, err error) {
	entered := false
	defer func() { // also in a panic, or the session would be locked for ever
		if entered {
			if e := c.session.Leave(c.ctx); err == nil {
				err = e
			}
		}
	}()
	for err == nil {
		body, size, e := header(b[used:])
		if e != nil {
			err = e
			break
		}
		if e := c.bounded(b[used:], size); e != nil {
			err = e
			break
		}
		if size == 0 || size > len(b)-used {
			need = size
			break
		}
		packet := b[used : used+size]
		used += size
		if c.session == nil {
			err = c.connect(packet[0], packet[body:])
			continue
		}
		if !entered {
			if !c.session.Enter() {
				return used, 0, broker.ErrGone
			}
			entered = true
		}
		err = c.handle(packet[0], packet[body:])
	}
	return used, need, err
}

func timeFor(bytes int) time.Duration {
	return packetTime + time.Duration(bytes>>10)*time.Second
}

// header reads a fixed header: where the body begins and the size of the whole
// packet, 0 when b ends too soon to tell.
func header(b []byte) (body, size int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	n, k := variable(b[1:])
	if k < 0 {
		return 0, 0, malformed("remaining length")
	}
	if k == 0 {
		return 0, 0, nil
	}
	return 1 + k, 1 + k + int(n), nil
}

// bounded checks a packet before its body is read: the first one must be a
// CONNECT, and none may be too large.
func (c *conn) bounded(b []byte, size int) error {
	switch {
	case c.session == nil && (b[0] != packets.Connect<<4 || size > maxConnect):
		return errClosed // [MQTT-3.1.0-1]
	case size <= c.limit:
		return nil
	case c.version == 5:
		return faultf(packets.ErrPacketTooLarge, "packet has %d bytes, at most %d are allowed", size, c.limit)
	case b[0]>>4 != packets.Publish || size > maxDiscard:
		return errClosed
	}
	return nil
}

// large reads a packet that does not fit the reader's buffer; head is its beginning.
func (c *conn) large(head []byte, size int) error {
	if err := c.readUntil(time.Now().Add(timeFor(size))); err != nil {
		return err
	}
	if size > c.limit {
		return c.oversize(head, size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.s, b[copy(b, head):]); err != nil {
		return err
	}
	_, _, err := c.work(b)
	return err
}

// oversize reads over a publish of an MQTT 3.1.1 client and refuses it.
func (c *conn) oversize(head []byte, size int) (err error) {
	beginning := make([]byte, min(size, readBytes))
	if _, err := io.ReadFull(c.s, beginning[copy(beginning, head):]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c.s, int64(size-len(beginning))); err != nil {
		return err
	}
	body, _, err := header(beginning)
	if err != nil {
		return err
	}
	p, err := c.publishHead(beginning[0], beginning[body:])
	if err != nil {
		return err
	}
	p.Oversize = size
	if !c.session.Enter() {
		return broker.ErrGone
	}
	defer func() { err = errors.Join(err, c.session.Leave(c.ctx)) }()
	return c.session.Publish(c.ctx, &p)
}
