package wire

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// Client is a Conn of a test: what goes wrong ends the test. It belongs to the
// test's goroutine.
type Client struct {
	*Conn
	tb testing.TB
}

// Open connects and requires success. The socket is closed when the test ends.
func Open(tb testing.TB, addr string, h Hello) *Client {
	tb.Helper()
	c := Dialed(tb, addr)
	c.Welcome(h)
	return c
}

// Dialed opens the socket only.
func Dialed(tb testing.TB, addr string) *Client {
	tb.Helper()
	conn, err := Dial(tb.Context(), addr)
	return adopt(tb, conn, err)
}

// Narrow opens the socket with the smallest receive buffer; see DialNarrow.
func Narrow(tb testing.TB, addr string) *Client {
	tb.Helper()
	conn, err := DialNarrow(tb.Context(), addr)
	return adopt(tb, conn, err)
}

// Webbed opens a WebSocket.
func Webbed(tb testing.TB, u Upgrade) *Client {
	tb.Helper()
	conn, err := DialWebSocket(tb.Context(), u)
	return adopt(tb, conn, err)
}

func adopt(tb testing.TB, conn *Conn, err error) *Client {
	tb.Helper()
	if err != nil {
		tb.Fatalf("dial: %v", err)
	}
	tb.Cleanup(conn.Drop)
	return &Client{conn, tb}
}

// Welcome says hello and requires to be let in.
func (c *Client) Welcome(h Hello) Packet {
	c.tb.Helper()
	p, err := c.Connect(h)
	if err != nil {
		c.tb.Fatalf("CONNECT as %q: %v", h.Client, err)
	}
	if p.Code != 0 {
		c.tb.Fatalf("CONNECT as %q: %s", h.Client, p)
	}
	return p
}

// Must sends packets.
func (c *Client) Must(packets ...Packet) {
	c.tb.Helper()
	if err := c.Send(packets...); err != nil {
		c.tb.Fatalf("send %s: %v", packets[0].Type, err)
	}
}

// Get waits for the next packet of a type and keeps the others for later.
func (c *Client) Get(t Type) Packet {
	c.tb.Helper()
	p, err := c.Await(Patience, func(p Packet) bool { return p.Type == t })
	if err != nil {
		c.tb.Fatalf("waiting for a %s: %v", t, err)
	}
	return p
}

// Ask sends a packet with an id and waits for the answer to it.
func (c *Client) Ask(p Packet, answer Type) Packet {
	c.tb.Helper()
	c.Must(p)
	a, err := c.Await(Patience, func(a Packet) bool { return a.Type == answer && a.ID == p.ID })
	if err != nil {
		c.tb.Fatalf("waiting for the %s to id %d: %v", answer, p.ID, err)
	}
	return a
}

// Sub subscribes to one filter and requires that it is granted.
func (c *Client) Sub(id uint16, filter string, qos byte) {
	c.tb.Helper()
	a := c.Ask(Packet{Type: Subscribe, ID: id, Filters: []Filter{{filter, qos}}}, Suback)
	if len(a.Codes) != 1 || a.Codes[0] >= 0x80 {
		c.tb.Fatalf("subscribe %q: %s %s", filter, a, a.Properties.Str(ReasonString))
	}
}

// Pub publishes with QoS 1 and returns the PUBACK, whatever its code.
func (c *Client) Pub(id uint16, topic string, payload []byte) Packet {
	c.tb.Helper()
	return c.Ask(Packet{Type: Publish, QoS: 1, ID: id, Topic: topic, Payload: payload}, Puback)
}

// Accepted publishes with QoS 1 and requires that it is taken.
func (c *Client) Accepted(id uint16, topic string, payload []byte) {
	c.tb.Helper()
	if a := c.Pub(id, topic, payload); a.Code >= 0x80 {
		c.tb.Fatalf("publish to %q: %s", topic, a)
	}
}

// Ack acknowledges a PUBLISH of QoS 1.
func (c *Client) Ack(p Packet) {
	c.tb.Helper()
	c.Must(Packet{Type: Puback, ID: p.ID})
}

// Alive requires an answer to a ping.
func (c *Client) Alive() {
	c.tb.Helper()
	c.Must(Packet{Type: Pingreq})
	c.Get(Pingresp)
}

// Quiet requires that nothing comes for a while, and nothing is waiting to be read.
func (c *Client) Quiet(while time.Duration) {
	c.tb.Helper()
	if p, err := c.Next(while); !errors.Is(err, ErrSilent) {
		c.tb.Fatalf("expected silence, got %s, %v", p, err)
	}
}

// Closed reads until the server has closed the connection and returns the last
// DISCONNECT it sent, if any. It requires that the server does so within the time.
func (c *Client) Closed(within time.Duration) (last Packet) {
	c.tb.Helper()
	for deadline := time.Now().Add(within); ; {
		p, err := c.Next(time.Until(deadline))
		switch {
		case err == nil:
			if p.Type == Disconnect {
				last = p
			}
		case Gone(err):
			return last
		case errors.Is(err, ErrSilent):
			c.tb.Fatalf("connection still open after %s", within)
		default:
			c.tb.Fatalf("waiting for the end of the connection: %v", err)
		}
	}
}

// Gone reports whether an error says that the connection is over.
func Gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// Eventually waits until a condition that others bring about holds.
func Eventually(tb testing.TB, otherwise string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(Patience); !holds(); {
		if time.Now().After(deadline) {
			tb.Fatal(otherwise)
		}
		time.Sleep(2 * time.Millisecond) // between looks
	}
}
