//go:build !linux

package mqtt

import (
	"net"
	"time"
)

// Elsewhere the write timeout alone finds dead peers, a little later.

func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }

func setUnsent(*net.TCPConn, int) error { return nil }

// waiter is what await needs between calls.
type waiter struct {
	one *[1]byte
}

func (s *stream) await() (buf *[readBytes]byte, n int, err error) { return s.awaitByte() }
