package mqtt

import (
	"io"
	"net"
	"os"
	"syscall"
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

// waiter is what await needs between calls.
type waiter struct {
	one *[1]byte // see awaitByte
	raw syscall.RawConn
	fn  func(fd uintptr) bool // tryRead, made once
	buf *[readBytes]byte
	n   int
	err error
}

// await waits until something has arrived and returns it in a buffer that was
// taken only then. It is what Read does, less the buffer while nothing comes.
func (s *stream) await() (buf *[readBytes]byte, n int, err error) {
	w := &s.waiter
	if w.raw == nil {
		t, ok := s.Conn.(*net.TCPConn)
		if !ok {
			return s.awaitByte()
		}
		if w.raw, err = t.SyscallConn(); err != nil {
			return nil, 0, err
		}
		w.fn = w.tryRead
	}
	if err = w.raw.Read(w.fn); err != nil {
		return nil, 0, err
	}
	buf, w.buf = w.buf, nil
	if err = w.err; err == nil && w.n == 0 {
		err = io.EOF
	}
	if err != nil {
		readers.Put(buf)
		return nil, 0, err
	}
	return buf, w.n, nil
}

// tryRead reads what there is; false when there is nothing.
func (w *waiter) tryRead(fd uintptr) bool {
	buf := readers.Get().(*[readBytes]byte)
	for {
		n, err := unix.Read(int(fd), buf[:])
		switch err {
		case nil:
			w.buf, w.n, w.err = buf, n, nil
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			readers.Put(buf)
			return false
		default:
			w.buf, w.n, w.err = buf, 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
			return true
		}
	}
}
