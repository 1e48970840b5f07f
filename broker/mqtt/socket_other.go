//go:build !linux

package mqtt

import (
	"net"
	"time"
)

// Elsewhere the write timeout alone finds dead peers, a little later.

func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }

func setUnsent(*net.TCPConn, int) error { return nil }
