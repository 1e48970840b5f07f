package wire

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" // the handshake of RFC 6455 is made of it
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Upgrade is how a WebSocket is asked for.
type Upgrade struct {
	URL      string // http://HOST:PORT/PATH
	Origin   string // of a web page; empty for a client that is no browser
	Protocol string // the subprotocol: "mqtt"
	// Narrow asks for the smallest receive buffer; see DialNarrow.
	Narrow bool
}

// Refused is an answer that is no WebSocket.
type Refused struct {
	Status int
	Body   string
}

func (r *Refused) Error() string {
	return fmt.Sprintf("no WebSocket: HTTP %d: %.200s", r.Status, r.Body)
}

// DialWebSocket opens a WebSocket and says nothing in it yet. The error is
// *Refused when the server would not.
func DialWebSocket(ctx context.Context, u Upgrade) (*Conn, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return nil, err
	}
	buffer := 0
	if u.Narrow {
		buffer = narrowBytes
	}
	c, err := dial(ctx, at.Host, buffer)
	if err != nil {
		return nil, err
	}
	ws := &webSocket{Conn: c.Raw, r: bufio.NewReader(c.Raw)}
	if err := ws.upgrade(at, u); err != nil {
		c.Drop()
		return nil, err
	}
	c.Raw = ws
	return c, nil
}

// webSocket is a socket whose bytes travel in binary frames, one for each Write.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	left int // of the frame that is being read
}

// The opcodes of frames [RFC 6455, 5.2].
const (
	TextFrame   byte = 1
	BinaryFrame byte = 2
	closeFrame  byte = 8
	pingFrame   byte = 9
	pongFrame   byte = 10
)

func (w *webSocket) upgrade(at *url.URL, u Upgrade) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	h := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
		at.RequestURI(), at.Host, key)
	if u.Origin != "" {
		h += "Origin: " + u.Origin + "\r\n"
	}
	if u.Protocol != "" {
		h += "Sec-WebSocket-Protocol: " + u.Protocol + "\r\n"
	}
	if _, err := io.WriteString(w.Conn, h+"\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
		if err != nil {
			return err
		}
		return &Refused{res.StatusCode, strings.TrimSpace(string(body))}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got, want := res.Header.Get("Sec-WebSocket-Accept"), base64.StdEncoding.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("wire: Sec-WebSocket-Accept is %q, want %q", got, want)
	}
	if got := res.Header.Get("Sec-WebSocket-Protocol"); u.Protocol != "" && got != u.Protocol && got != "" {
		return fmt.Errorf("wire: subprotocol %q was not asked for", got)
	}
	return nil
}

// Frame sends one frame of any kind, for tests that do not want binary ones.
func (c *Conn) Frame(opcode byte, payload []byte) error {
	w, ok := c.Raw.(*webSocket)
	if !ok {
		return fmt.Errorf("wire: not a WebSocket")
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return w.frame(opcode, payload)
}

func (w *webSocket) frame(opcode byte, payload []byte) error {
	b := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, 0, 0, 0, 0) // a mask of zeros is a mask
	_, err := w.Conn.Write(append(b, payload...))
	return err
}

// Write sends one binary frame.
func (w *webSocket) Write(p []byte) (int, error) {
	if err := w.frame(BinaryFrame, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read reads the bytes of binary frames, answers pings, and is io.EOF after a
// close frame.
func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		head, err := w.r.Peek(2)
		if err != nil {
			return 0, err
		}
		opcode, n := head[0]&0x0f, int(head[1]&0x7f)
		size := 2
		switch n {
		case 126:
			size = 4
		case 127:
			size = 10
		}
		if head, err = w.r.Peek(size); err != nil {
			return 0, err
		}
		switch n {
		case 126:
			n = int(binary.BigEndian.Uint16(head[2:]))
		case 127:
			n = int(binary.BigEndian.Uint64(head[2:]))
		}
		if head[1]&0x80 != 0 {
			return 0, fmt.Errorf("broken frame from the peer: masked [RFC 6455, 5.1]")
		}
		switch opcode {
		case 0, BinaryFrame:
			if _, err := w.r.Discard(size); err != nil {
				return 0, err
			}
			w.left = n
		case closeFrame, pingFrame, pongFrame:
			control, err := w.r.Peek(size + n) // at most 125 bytes
			if err != nil {
				return 0, err
			}
			payload := append([]byte{}, control[size:]...)
			if _, err := w.r.Discard(size + n); err != nil {
				return 0, err
			}
			if opcode == closeFrame {
				_ = w.frame(closeFrame, payload) // the peer may not wait for it
				return 0, io.EOF
			}
			if opcode == pingFrame {
				if err := w.frame(pongFrame, payload); err != nil {
					return 0, err
				}
			}
		default:
			return 0, fmt.Errorf("broken frame from the peer: opcode %d [MQTT-6.0.0-1]", opcode)
		}
	}
	n, err := w.r.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}
