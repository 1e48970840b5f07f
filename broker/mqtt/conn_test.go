package mqtt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/token"
)

// newServer is a server with an engine on a journal in memory, but without a listener.
func newServer(t testing.TB) *Server {
	t.Helper()
	return newServerOn(t, memory.New())
}

func newServerOn(t testing.TB, j journal.Journal) *Server {
	t.Helper()
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Node: "n1", Journal: j, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- b.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, j.Close()); err != nil {
			t.Error(err)
		}
	})
	s := NewServer(Config{Broker: b, AllowAnonymous: true})
	s.setRunning(true)
	return s
}

// script is a socket whose peer says everything at once and then hangs up.
type script struct {
	net.Conn // nil: what is not defined below is not called
	in       io.Reader
	fail     func()

	mu  sync.Mutex
	out bytes.Buffer
}

func (c *script) Read(p []byte) (int, error) {
	if c.fail != nil {
		c.fail()
	}
	return c.in.Read(p)
}

func (c *script) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (c *script) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *script) Close() error                     { return nil }
func (c *script) SetReadDeadline(time.Time) error  { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }

// play serves a connection on which the client says in.
func play(t testing.TB, s *Server, in []byte) (out []byte) {
	t.Helper()
	sock := &script{in: bytes.NewReader(in)}
	c := s.enter(t.Context(), &stream{Conn: sock}, true)
	if c == nil {
		t.Fatal("no room")
	}
	c.serve()
	return sock.out.Bytes()
}

var (
	helloV4 = []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}
	helloV5 = []byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'c'}
)

func TestAPanicEndsOneConnection(t *testing.T) {
	s := newServer(t)
	c := s.enter(t.Context(), &stream{Conn: &script{fail: func() { panic("codec") }}}, true)
	c.serve() // does not panic
	if st := s.broker.Stats(); st.Panics != 1 || st.Connections != 0 {
		t.Errorf("%d panics, %d connections; want 1 and 0", st.Panics, st.Connections)
	}
	if out := play(t, s, helloV4); !bytes.HasPrefix(out, []byte{0x20, 2, 0, 0}) {
		t.Errorf("the next connection got %x", out)
	}
}

// panicky panics when a publish comes to it.
type panicky struct{ *memory.Journal }

func (j panicky) Append(ctx context.Context, s *journal.Submission) error {
	for _, e := range s.Entries {
		if e.Topic == "a" {
			panic("append")
		}
	}
	return j.Journal.Append(ctx, s)
}

// TestAPanicAtWorkLeavesTheSessionFree: the client comes back to its session after
// a packet that nobody thought of.
func TestAPanicAtWorkLeavesTheSessionFree(t *testing.T) {
	for _, tt := range []struct {
		name      string
		publishes int
	}{
		{"when the buffered packets are submitted", 1},
		{"in the middle of them", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServerOn(t, panicky{memory.New()})
			in := bytes.Clone(helloV4)
			for id := range tt.publishes {
				in = append(in, 0x32, 6, 0, 1, 'a', 0, byte(id+1), 'x')
			}
			over := make(chan []byte)
			go func() {
				play(t, s, in)
				over <- play(t, s, helloV4)
			}()
			select {
			case out := <-over:
				if !bytes.HasPrefix(out, []byte{0x20, 2, 0, 0}) {
					t.Errorf("the next connection got %x", out)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the session is locked for ever")
			}
			if p := s.broker.Stats().Panics; p != 1 {
				t.Errorf("%d panics, want 1", p)
			}
		})
	}
}

// TestABurstIsOneSubmission has a phone send all that its window allows.
func TestABurstIsOneSubmission(t *testing.T) {
	j := memory.New()
	s := newServerOn(t, j)
	in := bytes.Clone(helloV4)
	for id := range byte(16) {
		in = append(in, 0x32, 6, 0, 1, 'a', 0, id+1, 'x')
	}
	release := j.Hold()
	defer release()
	play(t, s, append(in, 0x32, 6, 0, 1)) // the last one is cut off, and not waited for
	if got := j.Stats().Waiting; got != 1 {
		t.Errorf("%d submissions, want 1", got)
	}
	if got := s.broker.Stats(); got.Received != 16 || got.Acked != 0 {
		t.Errorf("%d received, %d acknowledged; want 16 and none", got.Received, got.Acked)
	}
}

// FuzzConnection says anything after a CONNECT. Nothing may panic, and the
// connection must end.
func FuzzConnection(f *testing.F) {
	s := newServer(f)
	for _, seed := range [][]byte{
		{0xc0, 0},
		{0x30, 5, 0, 1, 'a', 0, 'x'},
		{0x32, 7, 0, 1, 'a', 0, 1, 0, 'x'},
		{0x32, 20, 0, 1, 'a', 0, 1, 13, 2, 0, 0, 0, 9, 38, 0, 1, 'k', 0, 1, 'v', 'x'},
		{0x82, 7, 0, 1, 0, 0, 1, 'a', 1},
		{0x82, 6, 0, 1, 0, 0, 1, 'a'}, // mochi's decoder panics here
		{0xa2, 6, 0, 1, 0, 0, 1, 'a'},
		{0x40, 2, 0, 1},
		{0xe0, 2, 4, 0},
		{0xf0, 0},
		{0x10, 0xff, 0xff, 0xff, 0x7f},
	} {
		f.Add(true, seed)
		f.Add(false, seed)
	}
	f.Fuzz(func(t *testing.T, v5 bool, after []byte) {
		hello := helloV4
		if v5 {
			hello = helloV5
		}
		play(t, s, append(bytes.Clone(hello), after...))
		if p := s.broker.Stats().Panics; p != 0 {
			t.Fatalf("%d panics", p)
		}
	})
}

// FuzzHello says anything instead of a CONNECT.
func FuzzHello(f *testing.F) {
	s := newServer(f)
	f.Add(helloV4)
	f.Add(helloV5)
	f.Add([]byte{0x10, 20, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 5, 17, 0, 0, 0, 9, 0, 1, 'c'})
	f.Fuzz(func(t *testing.T, in []byte) {
		play(t, s, in)
		if p := s.broker.Stats().Panics; p != 0 {
			t.Fatalf("%d panics", p)
		}
	})
}

func TestConnectsAreJudged(t *testing.T) {
	s := newServer(t)
	connect := func(level, flags byte, props []byte, rest ...string) []byte {
		b := []byte{0, 4, 'M', 'Q', 'T', 'T', level, flags, 0, 60}
		if level == 5 {
			b = append(append(b, byte(len(props))), props...)
		}
		for _, r := range rest {
			b = binary.BigEndian.AppendUint16(b, uint16(len(r)))
			b = append(b, r...)
		}
		return append([]byte{0x10, byte(len(b))}, b...)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want []byte // the beginning of the answer; nil for none
	}{
		{"3.1.1", connect(4, 2, nil, "c"), []byte{0x20, 2, 0, 0}},
		{"3.1.1 without id, clean", connect(4, 2, nil, ""), []byte{0x20, 2, 0, 0}},
		{"3.1.1 without id, not clean", connect(4, 0, nil, ""), []byte{0x20, 2, 0, 2}},
		{"level 3", connect(3, 2, nil, "c"), []byte{0x20, 2, 0, 1}},
		{"level 6", connect(6, 2, nil, "c"), []byte{0x20, 0, 0, 0x84}},
		{"reserved flag", connect(4, 3, nil, "c"), nil},
		{"password without user name", connect(4, 0x42, nil, "c", "p"), nil},
		{"will QoS without a will", connect(4, 0x0a, nil, "c"), nil},
		{"a will", connect(4, 0x06, nil, "c", "t", "m"), []byte{0x20, 2, 0, 0}},
		{"a will on a wildcard", connect(4, 0x06, nil, "c", "t/#", "m"), []byte{0x20, 2, 0, 5}},
		{"a will that is cut off", connect(4, 0x06, nil, "c", "t"), nil},
		{"more after the end", connect(4, 2, nil, "c", "?"), nil},
		{"a property twice", connect(5, 2, []byte{33, 0, 1, 33, 0, 1}, "c"), []byte{0x20, 0, 0, 0x82}},
		{"Receive Maximum 0", connect(5, 2, []byte{33, 0, 0}, "c"), []byte{0x20, 0, 0, 0x82}},
		{"Maximum Packet Size 0", connect(5, 2, []byte{39, 0, 0, 0, 0}, "c"), []byte{0x20, 0, 0, 0x82}},
		{"problem information 2", connect(5, 2, []byte{23, 2}, "c"), []byte{0x20, 0, 0, 0x82}},
		{"a property of PUBLISH", connect(5, 2, []byte{1, 1}, "c"), []byte{0x20, 0, 0, 0x82}},
		{"an unknown property", connect(5, 2, []byte{99}, "c"), []byte{0x20, 0, 0, 0x81}},
		{"properties past their end", connect(5, 2, []byte{17, 0}, "c"), []byte{0x20, 0, 0, 0x81}},
		{"authentication method", connect(5, 2, []byte{21, 0, 1, 'x'}, "c"), []byte{0x20, 0, 0, 0x8c}},
		{"long id", connect(5, 2, nil, strings.Repeat("c", 80)), []byte{0x20, 0, 0, 0}},
		{"id not UTF-8", connect(5, 2, nil, "\xff"), []byte{0x20, 0, 0, 0x85}},
		{"not CONNECT first", []byte{0xc0, 0}, nil},
		{"another protocol", []byte("GET / HTTP/1.1\r\n\r\n"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := play(t, s, tt.in)
			if len(out) > 4 && out[0] == 0x20 && tt.in[8] >= 5 {
				out = append([]byte{0x20, 0}, out[2:]...) // whatever the length
			}
			if tt.want == nil && len(out) > 0 || !bytes.HasPrefix(out, tt.want) {
				t.Errorf("answer % x, want % x", out, tt.want)
			}
		})
	}
}

// TestFramesAreWhatMochiReads decodes with mochi what is encoded here.
func TestFramesAreWhatMochiReads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		m := &broker.Message{
			Seq: 1 + r.Uint64N(1<<40), Topic: strings.Repeat("t", 1+r.IntN(300)), Payload: bytes.Repeat([]byte("p"), r.IntN(40_000)),
		}
		d := &broker.Delivery{Message: m, QoS: byte(r.IntN(2)), Dup: r.IntN(2) == 0}
		if d.QoS > 0 {
			d.ID = uint16(1 + r.IntN(32767))
		} else {
			d.Dup = false
		}
		c := &conn{version: byte(4 + r.IntN(2)), tree: true}
		now := time.Now()
		var left uint32
		if c.version == 5 {
			m.Properties = []byte{packets.PropUser, 0, 1, 'k', 0, 1, 'v'}
			for range r.IntN(3) {
				d.Subs = append(d.Subs, uint32(1+r.IntN(1<<28-1)))
			}
			if r.IntN(2) == 0 {
				left = uint32(1 + r.IntN(1000))
				m.Expires = now.Add(time.Duration(left) * time.Second)
			}
		}
		if r.IntN(2) == 0 {
			m.Share(2)
		}
		for range 2 { // fresh, then from the cache if there is one
			b, ok := c.appendPublish(nil, d, now)
			if !ok {
				t.Fatal("not sent")
			}
			body, size, err := header(b)
			if err != nil || size != len(b) {
				t.Fatalf("header: %d of %d, %v", size, len(b), err)
			}
			p := packets.Packet{ProtocolVersion: c.version}
			if err := p.FixedHeader.Decode(b[0]); err != nil {
				t.Fatal(err)
			}
			p.FixedHeader.Remaining = size - body
			if err := p.PublishDecode(b[body:]); err != nil {
				t.Fatal(err)
			}
			ids := p.Properties.SubscriptionIdentifier
			if p.TopicName != m.Topic || !bytes.Equal(p.Payload, m.Payload) || p.PacketID != d.ID || p.FixedHeader.Dup != d.Dup ||
				p.FixedHeader.Qos != d.QoS || p.Properties.MessageExpiryInterval != left || len(ids) != len(d.Subs) ||
				c.version == 5 && len(p.Properties.User) != 1 {
				t.Fatalf("%+v came out as %+v", d, p)
			}
			for i := range ids {
				if ids[i] != int(d.Subs[i]) {
					t.Fatalf("identifiers %v, want %v", ids, d.Subs)
				}
			}
			c.largest = len(b) - 1
			if _, ok := c.appendPublish(nil, d, now); ok {
				t.Fatalf("%d bytes were sent to a client that takes %d", len(b), c.largest)
			}
			c.largest = len(b)
		}
		m.Expires = now.Add(-1)
		if _, ok := c.appendPublish(nil, d, now); ok {
			t.Fatal("an expired message was sent")
		}
	}
}

func TestPublishPropertiesAreForwardedAsTheyStand(t *testing.T) {
	user := []byte{packets.PropUser, 0, 1, 'k', 0, 1, 'v'}
	kind := []byte{packets.PropContentType, 0, 4, 't', 'e', 'x', 't'}
	expiry := []byte{packets.PropMessageExpiryInterval, 0, 0, 0, 9}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name    string
		in, out []byte
		expiry  time.Duration
		ok      bool
	}{
		{"nothing of ours", join(user, kind, user), join(user, kind, user), 0, true},
		{"expiry in the middle", join(user, expiry, kind), join(user, kind), 9 * time.Second, true},
		{"expiry alone", expiry, nil, 9 * time.Second, true},
		{"twice", join(kind, kind), nil, 0, false},
		{"alias", []byte{packets.PropTopicAlias, 0, 1}, nil, 0, false},
		{"subscription identifier", []byte{packets.PropSubscriptionIdentifier, 1}, nil, 0, false},
		{"wildcard in response topic", []byte{packets.PropResponseTopic, 0, 1, '#'}, nil, 0, false},
		{"cut off", kind[:5], nil, 0, false},
		{"not UTF-8", []byte{packets.PropContentType, 0, 1, 0xff}, nil, 0, false},
		{"U+0000", []byte{packets.PropContentType, 0, 1, 0}, nil, 0, false},
		{"payload format 2", []byte{packets.PropPayloadFormat, 2}, nil, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, expiry, err := publishProperties(tt.in)
			if tt.ok != (err == nil) {
				t.Fatalf("%v, want ok %t", err, tt.ok)
			}
			if err == nil && (!bytes.Equal(out, tt.out) || expiry != tt.expiry) {
				t.Errorf("% x, %s; want % x, %s", out, expiry, tt.out, tt.expiry)
			}
		})
	}
}

func TestKeepAliveIsClamped(t *testing.T) {
	s := time.Second
	phone, plain := broker.LimitsOf("customer"), broker.LimitsOf("")
	for _, tt := range []struct {
		asked time.Duration
		l     broker.Limits
		v5    bool
		want  time.Duration
	}{
		{0, phone, true, 540 * s}, {5 * s, phone, true, 60 * s}, {240 * s, phone, true, 240 * s}, {65535 * s, phone, true, 540 * s},
		{0, phone, false, 0}, {5 * s, phone, false, 5 * s}, {65535 * s, phone, false, 540 * s},
		{0, plain, true, 0}, {65535 * s, plain, false, 65535 * s},
	} {
		if got := keepAliveFor(tt.asked, tt.l, tt.v5); got != tt.want {
			t.Errorf("asked for %s (MQTT 5: %t): %s, want %s", tt.asked, tt.v5, got, tt.want)
		}
	}
	c := conn{keepAlive: 65535 * s}
	now := time.Now()
	if got := c.deadline(now).Sub(now); got != 98302*s+500*time.Millisecond {
		t.Errorf("deadline after %s, want one and a half times 65535 s", got)
	}
}

// halting takes a few bytes of each write until its deadline.
type halting struct {
	net.Conn
	writes, taken int
}

func (h *halting) Write(p []byte) (int, error) {
	h.writes++
	n := min(len(p), 10)
	h.taken += n
	if n < len(p) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}
func (h *halting) SetWriteDeadline(time.Time) error { return nil }

func TestASlowPeerIsGivenTimeAsLongAsItTakesSomething(t *testing.T) {
	h := &halting{}
	s := &stream{Conn: h, resumable: true}
	if n, err := s.Write(make([]byte, 95)); n != 95 || err != nil || h.writes != 10 {
		t.Errorf("%d bytes in %d writes, %v; want 95 in 10", n, h.writes, err)
	}
	framed := &stream{Conn: &halting{}}
	if n, err := framed.Write(make([]byte, 95)); n != 10 || err == nil {
		t.Errorf("a framed socket went on after half a write: %d, %v", n, err)
	}
	s.Poison(-time.Second)
	if _, err := s.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write after the poison took effect: %v", err)
	}
}
