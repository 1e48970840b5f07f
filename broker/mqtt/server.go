// Package mqtt speaks MQTT 3.1.1 and 5 over TCP, TLS and WebSocket for the session
// engine in package broker.
//
// It translates and does not decide: packets become calls of a broker.Session,
// and what the session has for the client becomes packets. A connection is one goroutine
// that reads, plus one that writes while there is something to write; every write has a
// deadline, every connection runs under recover, so that neither a stuck peer nor a
// packet nobody thought of reaches beyond its own connection.
//
// mochi-mqtt is used for its packet codec and reason codes only. QoS 2, retained
// messages, wills and shared subscriptions are not available.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"golang.org/x/time/rate"

	"holdline/broker"
)

// Config is what a server needs. Broker is required.
type Config struct {
	Broker *broker.Broker
	// Addr is where to listen: host:port, port 0 for any.
	Addr string
	// AllowAnonymous lets clients without a token into the plain tree. It is for
	// development, and refused unless Addr is a loopback address.
	AllowAnonymous bool
	// Origins are the web origins, beside the server's own, that may connect over
	// WebSocket: "https://shop.example", or a pattern such as "https://*.example".
	Origins []string
	// TLS is where and how MQTT over TLS is served; not at all when its Addr is empty.
	TLS TLS
	// Admission bounds how fast clients come in and speak; the zero one bounds nothing.
	Admission Admission
	// MaxConnections bounds the open connections; 100 000 when 0. One more is
	// closed at once, without a word: its client backs off as from a lost link.
	MaxConnections int
	Log            *slog.Logger // discards when nil
}

const (
	defaultMaxConnections = 100_000
	// drainTimeout bounds how long connections may take to end at the stop.
	drainTimeout = 10 * time.Second
	// After a failed accept (no descriptors, say) the server waits, longer each time.
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Server accepts connections. Make it with NewServer, bind it with Listen,
// start it with Run.
type Server struct {
	Config
	broker *broker.Broker
	gauge  *broker.Gauge
	log    *slog.Logger
	l      net.Listener

	tls       net.Listener // nil without TLS
	secured   *secured
	admission *admission
	refusals  *rate.Limiter // of lines in the log about who was turned away

	mu      sync.Mutex // guards what follows
	conns   map[*conn]struct{}
	running bool
	idle    chan struct{} // closed when the last connection ends; nil when nobody waits
}

// NewServer makes a server. It starts nothing.
func NewServer(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	return &Server{
		Config: c, broker: c.Broker, gauge: c.Broker.Gauge(), log: c.Log, admission: newAdmission(c.Admission),
		refusals: rate.NewLimiter(10, 20), conns: map[*conn]struct{}{},
	}
}

// Listen binds the address. Connections wait in the kernel until Run.
func (s *Server) Listen(ctx context.Context) error {
	// TCP's own probes would wake every phone's radio; MQTT's keep-alive is enough.
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // its sockets refuse options that are needed
	l, err := lc.Listen(ctx, "tcp", s.Config.Addr)
	if err != nil {
		return fmt.Errorf("listen for MQTT: %w", err)
	}
	if s.AllowAnonymous && !loopback(l.Addr()) {
		err := fmt.Errorf("listen for MQTT: clients without a token are allowed on loopback addresses only, and %s is not one", l.Addr())
		return errors.Join(err, l.Close())
	}
	if err := s.listenTLS(ctx, &lc); err != nil {
		return errors.Join(err, l.Close())
	}
	s.l = l
	return nil
}

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.l == nil {
		return nil
	}
	return s.l.Addr()
}

// Run accepts connections until ctx ends, then tells every client and returns
// when the last connection has ended, ten seconds later at most.
func (s *Server) Run(ctx context.Context, ready func()) error {
	if s.l == nil {
		return errors.New("mqtt: Run before Listen")
	}
	s.setRunning(true)
	// When ctx ends, all stop.
	g, accepting := errgroup.WithContext(ctx)
	for _, l := range s.listeners() {
		g.Go(func() error { return s.accept(accepting, l) })
		g.Go(func() error {
			<-accepting.Done()
			_ = l.Close() // ends accept
			return nil
		})
	}
	if s.secured != nil {
		g.Go(func() error { s.secured.keep(accepting); return nil })
	}
	ready()
	err := g.Wait()
	s.setRunning(false)
	for _, c := range s.all() {
		c.Close(broker.ShuttingDown)
	}
	if left := s.wait(drainTimeout); left > 0 {
		s.log.WarnContext(ctx, "connections did not end in time", "count", left)
		for _, c := range s.all() {
			_ = c.s.Close()
		}
	}
	return err
}

func (s *Server) listeners() []net.Listener {
	if s.tls == nil {
		return []net.Listener{s.l}
	}
	return []net.Listener{s.l, s.tls}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	pause := time.Duration(0)
	for {
		s.admission.paceAccept(ctx)
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(ctx, l, c)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default:
			pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
			s.log.WarnContext(ctx, "connection not accepted", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// take starts a connection on an accepted socket.
func (s *Server) take(ctx context.Context, l net.Listener, nc net.Conn) {
	if err := tune(nc); err != nil {
		s.log.DebugContext(ctx, "socket options not set", "err", err)
	}
	st := &stream{Conn: nc, resumable: true}
	if l == s.tls {
		st = s.secured.wrap(nc)
	}
	c := s.enter(ctx, st, s.AllowAnonymous && loopback(l.Addr()))
	if c == nil {
		_ = nc.Close()
		return
	}
	if t, ok := st.Conn.(*secure); ok {
		go c.shake(t)
	} else {
		go c.serve()
	}
}

// enter makes a connection, or nil when there is no room for it.
func (s *Server) enter(ctx context.Context, st *stream, anonymous bool) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || len(s.conns) >= s.MaxConnections {
		s.gauge.Turned.Add(1)
		return nil
	}
	c := &conn{srv: s, s: st, anonymous: anonymous}
	c.outbound.changed.L = &c.outbound.mu
	// The connection ends by being closed, with a word to the client, not by ctx.
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.conns[c] = struct{}{}
	s.gauge.Connections.Add(1)
	s.gauge.Accepted.Add(1)
	return c
}

// done forgets a connection that has ended.
func (s *Server) done(c *conn) {
	s.gauge.Connections.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

func (s *Server) setRunning(r bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = r
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// wait waits until no connection is left; it returns how many are when it gives up.
func (s *Server) wait(patience time.Duration) int {
	s.mu.Lock()
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return 0
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	return len(s.all())
}

// panicked counts and logs a connection that ended in a panic.
func (s *Server) panicked(c *conn, p any) {
	s.gauge.Panics.Add(1)
	s.log.Error("connection ended in a panic", "device", c.id, "err", p, "stack", string(debug.Stack()))
}
