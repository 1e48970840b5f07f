package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"
)

// TLS is how a server speaks MQTT over TLS, beside or instead of plain TCP.
type TLS struct {
	// Addr is where to listen: host:port, port 0 for any.
	Addr string
	// CertFile and KeyFile are PEM. When they change, the next handshakes use what
	// is new; files that do not fit together change nothing.
	CertFile, KeyFile string
	// MinVersion is tls.VersionTLS13 when 0.
	MinVersion uint16
	// TicketFile keeps the keys of session tickets, so that phones resume across a
	// restart. When empty, the keys end with the process.
	TicketFile string
}

const (
	// handshakeTime is how long a client may take from the socket to the end of the handshake.
	handshakeTime = 10 * time.Second
	// filesEvery is how often it is looked whether the certificate changed, and the age of ticket keys.
	filesEvery = 2 * time.Second
	// handshakesPerCore bounds the handshakes that are computed at once; the next waits.
	handshakesPerCore = 32
)

// secured is what serving TLS needs.
type secured struct {
	config      *tls.Config
	certificate certificate
	tickets     tickets
	slots       chan struct{}
	log         *slog.Logger
}

func newSecured(c TLS, log *slog.Logger) (*secured, error) {
	s := &secured{
		certificate: certificate{certFile: c.CertFile, keyFile: c.KeyFile},
		tickets:     tickets{file: c.TicketFile},
		slots:       make(chan struct{}, handshakesPerCore*runtime.GOMAXPROCS(0)),
		log:         log,
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	s.config = &tls.Config{
		MinVersion: c.MinVersion, NextProtos: []string{subprotocol},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.now.Load(), nil },
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, hello.Conn.(*shaking).begin(hello.Context())
		},
	}
	if _, err := s.certificate.reload(); err != nil {
		return nil, err
	}
	keys, _, err := s.tickets.renew(time.Now())
	if err != nil {
		return nil, err
	}
	s.config.SetSessionTicketKeys(keys)
	return s, nil
}

// keep watches the files until ctx ends.
func (s *secured) keep(ctx context.Context) {
	tick := time.NewTicker(filesEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := s.certificate.reload()
		switch {
		case err != nil && err.Error() != said:
			s.log.WarnContext(ctx, "new certificate cannot be used; the old one stays", "err", err)
			said = err.Error()
		case changed:
			s.log.InfoContext(ctx, "certificate replaced", "expires", s.certificate.now.Load().Leaf.NotAfter)
			said = ""
		}
		keys, changed, err := s.tickets.renew(time.Now())
		if err != nil {
			s.log.ErrorContext(ctx, "session ticket keys not kept; a restart will cost phones a full handshake", "err", err)
		}
		if changed {
			s.config.SetSessionTicketKeys(keys)
		}
	}
}

// wrap makes a stream of an accepted socket; no byte has been exchanged yet.
//
// Below TLS is a stream too: a write that timed out half-way can go on there,
// while TLS itself would be out of step with its peer.
func (s *secured) wrap(nc net.Conn) *stream {
	raw := &stream{Conn: nc, resumable: true}
	first := &shaking{Conn: raw, slots: s.slots}
	return &stream{Conn: &secure{Conn: tls.Server(first, s.config), first: first, raw: raw}}
}

// shaking is the socket under TLS. During the handshake, what has to be computed
// after the client's first word waits for its turn, so that a storm of connections
// does not slow down those that are there. Waiting for the network takes no turn:
// slow and silent clients hold up nobody.
//
// All of it happens in the goroutine of the handshake.
type shaking struct {
	net.Conn
	slots chan struct{}
	held  bool
}

func (c *shaking) begin(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		c.held = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *shaking) end() {
	if c.held {
		c.held = false
		<-c.slots
	}
}

// Read waits for the peer: the turn is over.
func (c *shaking) Read(p []byte) (int, error) {
	c.end()
	return c.Conn.Read(p)
}

// secure is a TLS connection that can be given up at once.
type secure struct {
	*tls.Conn
	first *shaking
	raw   *stream
}

// Close closes the socket. TLS's own would first say goodbye, for five seconds
// when the peer does not read.
func (c *secure) Close() error { return c.raw.Close() }

// CloseWrite says goodbye in TLS's words and then in TCP's, within what Poison leaves.
func (c *secure) CloseWrite() error {
	_ = c.Conn.CloseWrite() // there may have been no handshake
	if t, ok := c.raw.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

// Poison bounds the writes below TLS, which set deadlines of their own.
func (c *secure) Poison(d time.Duration) { c.raw.Poison(d) }

// shake does the TLS handshake and then serves the connection. The handshake
// has a goroutine of its own because it needs a large stack, which an idle connection
// should not keep.
func (c *conn) shake(t *secure) {
	ok := false
	defer func() {
		if p := recover(); p != nil {
			c.srv.panicked(c, p)
			ok = false
		}
		t.first.end()
		if ok {
			go c.serve()
			return
		}
		c.over()
	}()
	ctx, cancel := context.WithTimeout(c.ctx, handshakeTime)
	defer cancel()
	if err := t.SetReadDeadline(time.Now().Add(handshakeTime)); err != nil {
		return
	}
	if err := t.HandshakeContext(ctx); err != nil {
		reason := "tls"
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			reason = "tls-timeout"
		}
		c.srv.gauge.Reject(reason)
		c.srv.log.DebugContext(c.ctx, "no TLS connection", "reason", reason, "err", err)
		return
	}
	ok = true
}

// tcpOf is the TCP socket under a connection, if there is one.
func tcpOf(c net.Conn) (*net.TCPConn, bool) {
	if s, ok := c.(*secure); ok {
		c = s.raw.Conn
	}
	t, ok := c.(*net.TCPConn)
	return t, ok
}

// listenTLS binds the address for TLS, if there is one.
func (s *Server) listenTLS(ctx context.Context, lc *net.ListenConfig) error {
	if s.TLS.Addr == "" {
		return nil
	}
	var err error
	if s.secured, err = newSecured(s.TLS, s.log); err != nil {
		return fmt.Errorf("listen for MQTT over TLS: %w", err)
	}
	if s.tls, err = lc.Listen(ctx, "tcp", s.TLS.Addr); err != nil {
		return fmt.Errorf("listen for MQTT over TLS: %w", err)
	}
	return nil
}

// TLSAddr is where the server listens for TLS; nil when it does not.
func (s *Server) TLSAddr() net.Addr {
	if s.tls == nil {
		return nil
	}
	return s.tls.Addr()
}
