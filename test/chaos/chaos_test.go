package chaos

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is a server that sends back what it gets. ended tells how each connection ended.
type echo struct {
	listener net.Listener
	ended    chan error
	running  sync.WaitGroup
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: l, ended: make(chan error, 100)}
	e.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.running.Go(func() {
				_, err := io.Copy(c, c)
				c.Close()
				select {
				case e.ended <- err:
				default: // nobody asks
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.running.Wait()
	})
	return e
}

// through starts a proxy to an echo server.
func through(t *testing.T) (*Proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := Listen(e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, e
}

func connect(t *testing.T, p *Proxy) (net.Conn, *Link) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := p.LinkOf(ctx, c.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	return c, l
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("received %q, %v; want %q", b[:n], err, want)
	}
}

// nothing requires that nothing arrives for a while.
func nothing(t *testing.T, c net.Conn, while time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(while)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read = %d, %v; want silence", n, err)
	}
}

func over(t *testing.T, c net.Conn) error {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is still open")
	}
	return err
}

func TestBytesPassUnchangedInFairWeather(t *testing.T) {
	p, _ := through(t)
	c, l := connect(t, p)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	go func() {
		_, _ = c.Write(sent) // a fault shows in what comes back
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("came back: %d bytes, %v; want %d, the same", len(got), err, len(sent))
	}
	if u, d := l.Passed(Up), l.Passed(Down); u != int64(len(sent)) || d != u {
		t.Errorf("Passed = %d up, %d down; want %d", u, d, len(sent))
	}
	<-l.Done()
}

func TestLatencyDelaysAndKeepsTheOrder(t *testing.T) {
	p, _ := through(t)
	p.Weather(Weather{Latency: 30 * time.Millisecond, Jitter: 20 * time.Millisecond})
	c, _ := connect(t, p)
	began := time.Now()
	send(t, c, "a")
	receive(t, c, "a")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("round trip took %s, want at least two latencies", took)
	}
	var want string
	for i := range 50 {
		s := string(rune('A' + i%26))
		send(t, c, s)
		want += s
	}
	receive(t, c, want)
}

func TestBandwidthIsBounded(t *testing.T) {
	p, _ := through(t)
	c, l := connect(t, p)
	l.Weather(Weather{BytesPerSecond: 100_000})
	began := time.Now()
	send(t, c, string(make([]byte, 20_000)))
	receive(t, c, string(make([]byte, 20_000)))
	if took := time.Since(began); took < 180*time.Millisecond {
		t.Errorf("20 kB took %s at 100 kB/s", took)
	}
}

func TestAFrozenLinkHoldsEverythingUntilThaw(t *testing.T) {
	p, e := through(t)
	c, l := connect(t, p)
	send(t, c, "a")
	receive(t, c, "a")
	l.Freeze(Both)
	send(t, c, "b")
	nothing(t, c, 50*time.Millisecond)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-e.ended:
		t.Fatalf("the end of the connection passed a frozen link: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.Thaw()
	receive(t, c, "b")
	if err := <-e.ended; err != nil {
		t.Errorf("server's connection ended with %v", err)
	}
}

func TestOneDirectionCanBeDeaf(t *testing.T) {
	p, _ := through(t)
	c, l := connect(t, p)
	l.Swallow(Down)
	send(t, c, "lost")
	for l.Passed(Up) < 4 { // the server has it, and has answered or will
		time.Sleep(time.Millisecond)
	}
	nothing(t, c, 50*time.Millisecond)
	l.Cut()
	if err := over(t, c); err != nil {
		t.Errorf("after Cut: %v, want an orderly end", err)
	}
}

func TestCutInTheMiddle(t *testing.T) {
	p, e := through(t)
	c, l := connect(t, p)
	l.CutAfter(Up, 3)
	send(t, c, "abcdef")
	if err := <-e.ended; err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("server's connection ended with %v", err)
	}
	<-l.Done()
	if n := l.Passed(Up); n != 3 {
		t.Errorf("%d bytes passed, want 3", n)
	}
	_ = over(t, c) // an orderly end or a reset: there were bytes on their way
}

func TestResetIsSeenAsReset(t *testing.T) {
	p, e := through(t)
	c, l := connect(t, p)
	send(t, c, "a")
	receive(t, c, "a")
	l.Reset()
	if err := over(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client sees %v, want a reset", err)
	}
	if err := <-e.ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("server sees %v, want a reset", err)
	}
}

func TestRetargetMovesNewConnectionsOnly(t *testing.T) {
	p, _ := through(t)
	old, _ := connect(t, p)
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	p.Retarget(elsewhere.Addr().String())
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := elsewhere.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send(t, s, "new")
	receive(t, c, "new")
	send(t, old, "old")
	receive(t, old, "old")
}

func TestADeadTargetEndsTheConnection(t *testing.T) {
	p, e := through(t)
	e.listener.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := over(t, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v", err)
	}
}

// TestAStormLeavesNothing also shows that Close waits for every goroutine.
func TestAStormLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	e := newEcho(t)
	p, err := Listen(e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", p.Addr())
				if err != nil {
					return
				}
				b := make([]byte, 100)
				for err == nil && ctx.Err() == nil {
					_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
					if _, err = c.Write(b); err == nil {
						_, err = io.ReadFull(c, b)
					}
				}
				c.Close()
			}
		})
	}
	var all Tally
	for seed := uint64(1); all.Cuts == 0 || all.Resets == 0 || all.MidPacket == 0 || all.Freezes == 0 || all.Deaf == 0; seed++ {
		if seed > 100 {
			t.Fatalf("faults of a hundred storms: %+v; want every kind", all)
		}
		while, over := context.WithTimeout(ctx, 200*time.Millisecond)
		tally := p.Storm(while, Storm{Seed: seed, Every: 2 * time.Millisecond, Silence: 20 * time.Millisecond})
		over()
		all = Tally{all.Cuts + tally.Cuts, all.Resets + tally.Resets, all.MidPacket + tally.MidPacket, all.Freezes + tally.Freezes, all.Deaf + tally.Deaf}
	}
	cancel()
	clients.Wait()
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := len(p.Links()); n != 0 {
		t.Errorf("%d links are left", n)
	}
	e.listener.Close()
	e.running.Wait()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
