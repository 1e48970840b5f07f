package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// writeTimeout is how long a write may go without the peer taking a byte.
	writeTimeout = 10 * time.Second
	// drainTime is how long a connection that was told goodbye is read on, so that
	// what it sent meanwhile does not make the kernel throw the goodbye away.
	drainTime = 250 * time.Millisecond
)

// stream is a socket whose writes end: each by writeTimeout without progress,
// and all of them soon after Poison.
type stream struct {
	net.Conn
	// resumable tells that a write which timed out half-way can go on: a plain
	// TCP socket, not a framed one.
	resumable bool

	waiter

	mu    sync.Mutex
	until time.Time // after Poison: no write deadline is later than this
}

// awaitByte waits with one byte of its own, for sockets that can do no better.
func (s *stream) awaitByte() (buf *[readBytes]byte, n int, err error) {
	if s.one == nil {
		s.one = new([1]byte)
	}
	if n, err = s.Conn.Read(s.one[:]); n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return nil, 0, err
	}
	buf = readers.Get().(*[readBytes]byte)
	buf[0] = s.one[0]
	return buf, 1, nil
}

// Write writes all of p. A slow peer is given time as long as it takes something.
func (s *stream) Write(p []byte) (n int, err error) {
	for {
		if err := s.allow(writeTimeout); err != nil {
			return n, err
		}
		m, err := s.Conn.Write(p[n:])
		n += m
		if err == nil || m == 0 || !s.resumable || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

func (s *stream) allow(d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(d)
	if !s.until.IsZero() {
		if time.Now().After(s.until) {
			return os.ErrDeadlineExceeded
		}
		at = s.until
	}
	return s.SetWriteDeadline(at)
}

// Poison gives writes, the one under way included, so much time and no more.
func (s *stream) Poison(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := time.Now().Add(d); s.until.IsZero() || at.Before(s.until) {
		s.until = at
	}
	if c, ok := s.Conn.(interface{ Poison(time.Duration) }); ok {
		c.Poison(d)
		return
	}
	_ = s.SetWriteDeadline(s.until) // a closed socket needs no deadline
}

// finish says that nothing more will be written, and leaves the peer drainTime
// to hang up.
func (s *stream) finish() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // the peer may be gone already
	}
	_ = s.SetReadDeadline(time.Now().Add(drainTime))
}
