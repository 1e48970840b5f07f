package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ErrSilent is a peer that sent no whole packet in the time given.
var ErrSilent = errors.New("wire: nothing came")

// Patience is how long the methods wait that take no time of their own.
const Patience = 10 * time.Second

// Hello is what a CONNECT says.
type Hello struct {
	Version    byte // V5 when 0
	Client     string
	User       string
	Password   string
	Clean      bool // clean start, or clean session
	KeepAlive  uint16
	Properties Properties // MQTT 5
	Will       *Packet    // a PUBLISH
}

// Encode is the CONNECT packet.
func (h Hello) Encode() []byte {
	if h.Version == 0 {
		h.Version = V5
	}
	b := append(appendString(nil, "MQTT"), h.Version, 0)
	set := func(bits byte) { b[7] |= bits } // the connect flags, behind name and version
	if h.Clean {
		set(2)
	}
	b = binary.BigEndian.AppendUint16(b, h.KeepAlive)
	if h.Version == V5 {
		b = h.Properties.append(b)
	}
	b = appendString(b, h.Client)
	if h.Will != nil {
		set(4 | h.Will.QoS<<3)
		if h.Will.Retain {
			set(0x20)
		}
		if h.Version == V5 {
			b = h.Will.Properties.append(b)
		}
		b = appendString(appendString(b, h.Will.Topic), string(h.Will.Payload))
	}
	if h.User != "" {
		set(0x80)
		b = appendString(b, h.User)
	}
	if h.Password != "" {
		set(0x40)
		b = appendString(b, h.Password)
	}
	return frame(Connect, 0, b)
}

// Conn is one connection. Writing and reading may be done by two goroutines,
// reading by one only.
type Conn struct {
	Raw     net.Conn
	Version byte
	Connack Packet

	in      []byte   // read, not yet a whole packet
	skipped []Packet // read by Await, not yet taken by Next

	writing sync.Mutex
}

// Dial connects the socket and says nothing yet.
func Dial(ctx context.Context, addr string) (*Conn, error) { return dial(ctx, addr, 0) }

// DialNarrow is Dial with the smallest receive buffer, so that a reader who
// stops reading is felt by the server after a few kilobytes.
func DialNarrow(ctx context.Context, addr string) (*Conn, error) { return dial(ctx, addr, narrowBytes) }

const narrowBytes = 2048

func dial(ctx context.Context, addr string, receiveBuffer int) (*Conn, error) {
	d := net.Dialer{Timeout: Patience}
	if receiveBuffer > 0 {
		d.Control = func(_, _ string, c syscall.RawConn) (err error) { // before the handshake: it fixes the window
			ctlErr := c.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			})
			return errors.Join(ctlErr, err)
		}
	}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Raw: raw, Version: V5}, nil
}

// Connect says hello and waits for the CONNACK, whatever its code.
func (c *Conn) Connect(h Hello) (Packet, error) {
	if h.Version == 0 {
		h.Version = V5
	}
	c.Version = h.Version
	if err := c.Bytes(h.Encode()); err != nil {
		return Packet{}, err
	}
	p, err := c.Next(Patience)
	if err == nil && p.Type != Connack {
		err = fmt.Errorf("first packet is %s, not a CONNACK [MQTT-3.2.0-1]", p)
	}
	c.Connack = p
	return p, err
}

// Bytes sends bytes as they are.
func (c *Conn) Bytes(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.Raw.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.Raw.Write(b)
	return err
}

// Send sends packets, in one write.
func (c *Conn) Send(packets ...Packet) error {
	var b []byte
	for _, p := range packets {
		b = append(b, p.Encode(c.Version)...)
	}
	return c.Bytes(b)
}

// Next returns the next packet, those first that Await passed over. It is
// ErrSilent when none came in time; the connection stays usable then.
func (c *Conn) Next(within time.Duration) (Packet, error) {
	if len(c.skipped) > 0 {
		p := c.skipped[0]
		c.skipped = c.skipped[1:]
		return p, nil
	}
	return c.read(time.Now().Add(within))
}

// Await returns the next packet that want accepts and keeps the others for Next.
func (c *Conn) Await(within time.Duration, want func(Packet) bool) (Packet, error) {
	for i, p := range c.skipped {
		if want(p) {
			c.skipped = append(c.skipped[:i:i], c.skipped[i+1:]...)
			return p, nil
		}
	}
	for deadline := time.Now().Add(within); ; {
		p, err := c.read(deadline)
		if err != nil {
			return Packet{}, err
		}
		if want(p) {
			return p, nil
		}
		c.skipped = append(c.skipped, p)
	}
}

func (c *Conn) read(deadline time.Time) (Packet, error) {
	for {
		size, head, err := c.whole()
		if err != nil {
			return Packet{}, err
		}
		if size > 0 {
			p, err := decode(c.Version, c.in[0], c.in[head:size])
			c.in = c.in[size:]
			return p, err
		}
		if err := c.Raw.SetReadDeadline(deadline); err != nil {
			return Packet{}, err
		}
		c.in = slices.Grow(c.in, 4096)
		n, err := c.Raw.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		switch {
		case n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Packet{}, ErrSilent
		case err != nil:
			return Packet{}, err
		}
	}
}

// whole returns the size of the first packet in c.in and of its fixed header; 0 when it is not complete.
func (c *Conn) whole() (size, head int, err error) {
	length := 0
	for i := 1; i < len(c.in); i++ {
		if i > 4 {
			return 0, 0, errors.New("broken packet from the peer: remaining length has more than four bytes")
		}
		length |= int(c.in[i]&0x7f) << (7 * (i - 1))
		if c.in[i] < 0x80 {
			if total := i + 1 + length; len(c.in) >= total {
				return total, i + 1, nil
			}
			return 0, 0, nil
		}
	}
	return 0, 0, nil
}

// Drop closes the socket without a word, as a process that dies does.
func (c *Conn) Drop() { _ = c.Raw.Close() } // closing twice is fine here

// Reset closes the socket with a TCP reset.
func (c *Conn) Reset() {
	if t, ok := c.Raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // if it cannot be set, the close below is an ordinary one
	}
	c.Drop()
}

// Goodbye sends DISCONNECT and closes: the session, if it has an expiry, stays.
func (c *Conn) Goodbye() error {
	err := c.Send(Packet{Type: Disconnect})
	c.Drop()
	return err
}
