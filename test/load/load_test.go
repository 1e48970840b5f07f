//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLedgerTellsWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    []uint64
		dup  bool // of the last
		want string
	}{
		{"all in order", []uint64{1, 2, 3}, false, ""},
		{"again, and it says so", []uint64{1, 2, 3, 2}, true, ""},
		{"the last again, unmarked", []uint64{1, 2, 3, 3}, false, "1 messages there twice"},
		{"an old one, unmarked", []uint64{1, 2, 3, 1}, false, "1 messages out of order"},
		{"a gap", []uint64{1, 3}, false, "1 messages lost"},
		{"the end is missing", []uint64{1, 2}, false, "1 messages lost"},
		{"nothing came", nil, false, "3 messages lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger()
			for i, n := range tt.n {
				l.see(stamp{from: 7, n: n, dup: tt.dup && i == len(tt.n)-1})
			}
			got := ""
			if err := l.settle(map[uint32]uint64{7: 3}); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("settle after %v = %q, want %q", tt.n, got, tt.want)
			}
		})
	}
}

func TestPublishReadsBack(t *testing.T) {
	tm := newTemplate("load/1", 9, payloadBytes)
	b := tm.appendTo(nil, 513, 70_000, time.Second)
	size, k := binary.Uvarint(b[1:])
	if int(size) != len(b)-1-k {
		t.Fatalf("remaining length %d of a packet of %d bytes", size, len(b))
	}
	got, ok := readPublish(b[0]|duplicateFlag, b[1+k:])
	if want := (stamp{from: 9, n: 70_000, at: time.Second, id: 513, dup: true}); !ok || got != want {
		t.Errorf("readPublish = %+v, %t, want %+v", got, ok, want)
	}
	if _, ok := readPublish(publishQoS1, b[1+k:1+k+20]); ok {
		t.Error("readPublish took a packet without a stamp")
	}
}

func TestMedianAndPercentile(t *testing.T) {
	for _, tt := range []struct {
		runs []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		var f []figures
		for _, v := range tt.runs {
			f = append(f, figures{"x": v})
		}
		if got, ok := median(f, "x"); !ok || got != tt.want {
			t.Errorf("median(%v) = %v, %t, want %v", tt.runs, got, ok, tt.want)
		}
	}
	if _, ok := median(nil, "x"); ok {
		t.Error("there is a median of nothing")
	}
	var v []time.Duration
	for i := range 200 {
		v = append(v, time.Duration(200-i))
	}
	if got := percentile(v, 99); got != 198 {
		t.Errorf("p99 of 1 to 200 = %d, want 198", got)
	}
	if got := percentile(v, 50); got != 100 {
		t.Errorf("p50 of 1 to 200 = %d, want 100", got)
	}
}

func TestTableComparesWithTarget(t *testing.T) {
	tb := newTable()
	sc := scenario{rows: []row{
		{"rate", "fast", perSecond, "≥ 2×", timesTheirs(2)},
		{"time", "late", seconds, "≤ 1 s", atMost(1)},
	}}
	tb.add(sc, []figures{{"rate": 5000, "time": 1.5}}, []figures{{"rate": 2000, "time": 1}})
	var b bytes.Buffer
	tb.print(&b)
	for _, want := range []string{
		"| fast | 5.0 k/s | 2.0 k/s | 2.50× | ≥ 2× | met |\n",
		"| late | 1.50 s | 1.00 s | 1.50× | ≤ 1 s | missed |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
}

// TestFaultsOfABrokerAreFound has a broker that forwards to one reader and does
// something to its 50th message.
func TestFaultsOfABrokerAreFound(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(forward func([]byte), packet []byte)
		want string
	}{
		{"nothing", func(forward func([]byte), p []byte) { forward(p) }, ""},
		{"drop", func(func([]byte), []byte) {}, "1 messages lost"},
		{"twice", func(forward func([]byte), p []byte) { forward(p); forward(p) }, "1 messages there twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := fakeBroker(t, tt.do)
			f, err := newFlow(&run{b: &child{addr: addr}})
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			if err := f.connect(1, 1); err != nil {
				t.Fatal(err)
			}
			p := f.publishers[0]
			p.limit = 200
			p.fill()
			if err := f.run("publishing", time.Minute, func() bool { return p.acked == p.limit }); err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := f.drain(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("drain = %q, want %q", got, tt.want)
			}
		})
	}
}

// fakeBroker knows one reader and any publishers.
func fakeBroker(t *testing.T, fiftieth func(forward func([]byte), packet []byte)) unix.SockaddrInet4 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		reader  net.Conn
		n       int
	)
	forward := func(p []byte) { _, _ = reader.Write(p) }
	serve := func(c net.Conn) {
		defer c.Close()
		for r := bufio.NewReader(c); ; {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			mu.Lock()
			switch p[0] & 0xf0 {
			case 0x10:
				_, _ = c.Write([]byte{connackHead, 2, 0, 0})
			case 0x80:
				reader = c
				_, _ = c.Write([]byte{subackHead, 3, 0, 1, 1})
			case publishHead:
				if n++; n == 50 {
					fiftieth(forward, p)
				} else {
					forward(p)
				}
				_, k := binary.Uvarint(p[1:])
				body := p[1+k:]
				at := 2 + binary.BigEndian.Uint16(body)
				_, _ = c.Write([]byte{pubackHead, 2, body[at], body[at+1]})
			}
			mu.Unlock()
		}
	}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
}

func readPacket(r *bufio.Reader) ([]byte, error) {
	head, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	body := make([]byte, size)
	_, err = io.ReadFull(r, body)
	return packet(head, body), err
}
