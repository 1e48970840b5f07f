package mqtt

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout ends a connection whose data the peer has not acknowledged
// for so long. setUnsent bounds what the kernel takes before it is sent, so that
// what is said last is not behind what is stuck.
//
// Both are set on the accepted socket: on a listener they would be lost.
func setUserTimeout(c *net.TCPConn, d time.Duration) error {
	return option(c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

func setUnsent(c *net.TCPConn, bytes int) error {
	return option(c, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
}

func option(c *net.TCPConn, level, name, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, name, value) }); err != nil {
		return err
	}
	return set
}
