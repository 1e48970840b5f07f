// Package chaos is a TCP proxy that treats connections as a bad mobile network
// does: late, narrow, frozen with the socket left open, deaf in one direction, cut in
// the middle of a packet, reset.
//
// A Proxy listens on a loopback port of its own and passes each connection on to
// its target over a Link, whose two directions can be spoiled apart. What passes at
// all passes in order and unchanged, as TCP promises. Every buffer is bounded: a direction that
// is held up holds up its sender. Close ends every link and waits for every goroutine.
//
// It works on the bytes of one connection: it cannot lose or reorder IP packets,
// and until its buffers are full a sender to a frozen link sees its bytes taken.
package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Proxy passes connections on to a target. Its methods may be called from any goroutine.
type Proxy struct {
	listener *net.TCPListener
	running  sync.WaitGroup

	mu      sync.Mutex
	target  string
	weather Weather
	closed  bool
	count   uint64
	links   []*Link // open ones, oldest first
}

// Weather is how a link is while nothing worse happens to it. The zero Weather changes nothing.
type Weather struct {
	Latency time.Duration // of each direction
	Jitter  time.Duration // added to Latency, up to this much; order is kept
	// BytesPerSecond bounds each direction; 0 is no bound.
	BytesPerSecond int
}

// Listen starts a proxy to target on a free loopback port.
func Listen(target string) (*Proxy, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Retarget sends the connections to come elsewhere. Those that are open stay where they are.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Weather sets the weather of all links, the open ones and those to come.
func (p *Proxy) Weather(w Weather) {
	p.mu.Lock()
	p.weather = w
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, l := range links {
		l.Weather(w)
	}
}

// Links are the open links, oldest first.
func (p *Proxy) Links() []*Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.links)
}

// LinkOf returns the open link of a client's socket, by the socket's local
// address. It waits for the link until ctx ends, because a client may be
// connected before the proxy has accepted it.
func (p *Proxy) LinkOf(ctx context.Context, client net.Addr) (*Link, error) {
	for {
		for _, l := range p.Links() {
			if l.client.RemoteAddr().String() == client.String() {
				return l, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// Close ends the proxy and all links, and waits until nothing of it is left.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	links := slices.Clone(p.links)
	p.mu.Unlock()
	err := p.listener.Close()
	for _, l := range links {
		l.Cut()
	}
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, say: the client sees a connection that nobody serves
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	defer client.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	conn, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return // the client sees the end, as it would of a server that is down
	}
	server := conn.(*net.TCPConn) // "tcp" was dialled
	defer server.Close()

	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.count++
	l := newLink(client, server, p.weather, rand.New(rand.NewPCG(p.count, 0)))
	p.links = append(p.links, l)
	p.mu.Unlock()

	l.run()

	p.mu.Lock()
	p.links = slices.DeleteFunc(p.links, func(o *Link) bool { return o == l })
	p.mu.Unlock()
}
