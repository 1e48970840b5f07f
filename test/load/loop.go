//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// loop drives every connection of a run on one thread. Nothing of it may be
// called from elsewhere.
type loop struct {
	epoll  int
	addr   unix.SockaddrInet4
	conns  []*conn // by descriptor
	open   int
	dirty  []*conn // have something to write
	buf    []byte
	events []unix.EpollEvent
	began  time.Time
	err    error // the first thing that went wrong
	timer  int   // the descriptor that ticks; -1
	tick   func()
}

// conn is one connection. on gets every packet; body is good during the call only.
type conn struct {
	l       *loop
	fd      int
	on      func(c *conn, head byte, body []byte)
	gone    func(c *conn) // the broker closed it; a fault when nil
	rest    []byte        // the beginning of a packet that is not whole yet
	out     []byte
	queued  bool // in dirty
	full    bool // the socket takes no more: epoll tells when it does
	stalled bool // reads nothing
}

// dialing is how a socket differs from the usual one.
type dialing struct {
	// narrow makes the link small, as a phone's is: little fits into it before
	// the broker's writes stop.
	narrow bool
}

func newLoop(addr unix.SockaddrInet4) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{
		epoll: epoll, addr: addr, buf: make([]byte, 256<<10), events: make([]unix.EpollEvent, 512), began: time.Now(), timer: -1,
	}, nil
}

// now is the time since the loop began.
func (l *loop) now() time.Duration { return time.Since(l.began) }

// fail notes the first thing that went wrong; run returns it.
func (l *loop) fail(format string, a ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, a...)
	}
}

// close ends the loop and every connection.
func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			c.close()
		}
	}
	l.every(0, nil)
	unix.Close(l.epoll)
}

// dial begins a connection that writes first as soon as it can.
func (l *loop) dial(first []byte, how dialing, on func(*conn, byte, []byte)) *conn {
	c := &conn{l: l, fd: -1, on: on}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.fail("socket: %w", err)
		return c
	}
	c.fd = fd
	for fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	l.open++
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if how.narrow {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400))
	}
	if err == nil {
		err = unix.Connect(fd, &l.addr)
	}
	if err != nil && err != unix.EINPROGRESS {
		l.fail("connect: %w", err)
		return c
	}
	c.out = append(c.out, first...)
	c.full = true
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(fd)}); err != nil {
		l.fail("epoll: %w", err)
	}
	return c
}

// send writes b with whatever else goes out in this turn of the loop.
func (c *conn) send(b ...byte) {
	c.out = append(c.out, b...)
	c.later()
}

func (c *conn) later() {
	if !c.queued {
		c.queued = true
		c.l.dirty = append(c.l.dirty, c)
	}
}

// stall stops reading, for good.
func (c *conn) stall() {
	c.stalled = true
	c.watch()
}

func (c *conn) watch() {
	e := unix.EpollEvent{Fd: int32(c.fd)}
	if !c.stalled {
		e.Events |= unix.EPOLLIN
	}
	if c.full {
		e.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(c.l.epoll, unix.EPOLL_CTL_MOD, c.fd, &e); err != nil {
		c.l.fail("epoll: %w", err)
	}
}

// close ends the connection without a word.
func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	c.l.conns[c.fd] = nil
	c.l.open--
	unix.Close(c.fd)
	c.fd = -1
}

// leave says goodbye and closes.
func (c *conn) leave() {
	c.send(disconnectFrame...)
	c.write()
	c.close()
}

func (c *conn) write() {
	c.queued = false
	if c.fd < 0 || len(c.out) == 0 || c.full {
		return
	}
	n, err := unix.Write(c.fd, c.out)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		c.lost(err)
		return
	}
	if n == len(c.out) {
		c.out = c.out[:0]
		return
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	c.full = true
	c.watch()
}

func (c *conn) lost(err error) {
	c.close()
	if c.gone != nil {
		c.gone(c)
		return
	}
	c.l.fail("the broker closed a connection: %w", err)
}

// read reads once and hands over every whole packet.
func (c *conn) read() {
	l := c.l
	head := copy(l.buf, c.rest)
	n, err := unix.Read(c.fd, l.buf[head:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.lost(err)
		return
	case n == 0:
		c.lost(errors.New("end of file"))
		return
	}
	b := l.buf[:head+n]
	for len(b) >= 2 && c.fd >= 0 {
		size, k := binary.Uvarint(b[1:])
		if k <= 0 || len(b) < 1+k+int(size) {
			break
		}
		end := 1 + k + int(size)
		c.on(c, b[0], b[1+k:end])
		b = b[end:]
	}
	if len(b) == 0 {
		c.rest = nil
		return
	}
	c.rest = append(c.rest[:0], b...)
}

// every calls tick at this period while run runs; 0 ends that.
func (l *loop) every(period time.Duration, tick func()) {
	if l.timer >= 0 {
		unix.Close(l.timer)
		l.timer = -1
	}
	l.tick = tick
	if period == 0 {
		return
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		l.fail("timer: %w", err)
		return
	}
	l.timer = fd
	each := unix.NsecToTimespec(int64(period))
	err = errors.Join(
		unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: each, Value: each}, nil),
		unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
	)
	if err != nil {
		l.fail("timer: %w", err)
	}
}

// run works until done, or something fails, or the limit is over. what names
// the thing that is waited for.
func (l *loop) run(what string, limit time.Duration, done func() bool) error {
	end := time.Now().Add(limit)
	l.flush()
	for l.err == nil && !done() {
		n, err := unix.EpollWait(l.epoll, l.events, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range l.events[:max(n, 0)] {
			l.event(e)
		}
		l.flush()
		if l.err == nil && time.Now().After(end) && !done() {
			return fmt.Errorf("%s: not finished after %s", what, limit)
		}
	}
	if l.err != nil {
		return fmt.Errorf("%s: %w", what, l.err)
	}
	return nil
}

// pass runs the loop for so long.
func (l *loop) pass(d time.Duration) error {
	end := time.Now().Add(d)
	return l.run("waiting", d+time.Minute, func() bool { return !time.Now().Before(end) })
}

func (l *loop) event(e unix.EpollEvent) {
	if int(e.Fd) == l.timer {
		var b [8]byte
		_, _ = unix.Read(l.timer, b[:])
		l.tick()
		return
	}
	c := l.conns[e.Fd]
	if c == nil {
		return // closed in this turn
	}
	if e.Events&unix.EPOLLOUT != 0 && c.full {
		c.full = false
		c.later()
		c.watch()
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if c.stalled {
			c.lost(errors.New("a stalled connection was cut"))
			return
		}
		c.read()
	}
}

// flush writes what the turn left, one write for each connection.
func (l *loop) flush() {
	for i := 0; i < len(l.dirty); i++ {
		l.dirty[i].write()
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}
