package chaos

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Direction is one of the ways of a link, or Both.
type Direction uint8

// Up is from the client to the server.
const (
	Up   Direction = 1
	Down Direction = 2
	Both Direction = Up | Down
)

// passage is what happens to the bytes of one direction.
type passage uint8

const (
	open passage = iota
	frozen
	swallowing
)

const (
	chunkBytes = 16 << 10
	chunks     = 64 // on their way in one direction; then its sender is held up
	slice      = 20 * time.Millisecond
)

// Link is one connection through a Proxy. Its methods may be called from any goroutine.
type Link struct {
	client, server *net.TCPConn

	done chan struct{} // closed when the link is over

	mu      sync.Mutex
	over    bool
	changed chan struct{} // closed and replaced when something below changes
	weather Weather
	state   [3]passage // by Direction
	left    [3]int64   // bytes until the cut; negative for no cut
	passed  [3]int64
	random  *rand.Rand
}

func newLink(client, server *net.TCPConn, w Weather, random *rand.Rand) *Link {
	return &Link{
		client: client, server: server, done: make(chan struct{}), changed: make(chan struct{}),
		weather: w, left: [3]int64{-1, -1, -1}, random: random,
	}
}

// Weather sets the weather of this link.
func (l *Link) Weather(w Weather) { l.change(func() { l.weather = w }) }

// Freeze holds a direction: nothing passes, not even the end of the connection, and
// the sockets stay open. What was sent meanwhile passes after Thaw.
func (l *Link) Freeze(d Direction) { l.set(d, frozen) }

// Swallow makes a direction deaf: what is sent, the end of the connection
// included, is taken and lost. A link that has lost bytes is of no more use: end it with Cut or Reset.
func (l *Link) Swallow(d Direction) { l.set(d, swallowing) }

// Thaw lets both directions pass again.
func (l *Link) Thaw() { l.set(Both, open) }

// CutAfter lets n more bytes of a direction pass and then cuts the link, in the
// middle of whatever they belong to.
func (l *Link) CutAfter(d Direction, n int) {
	l.change(func() {
		for _, one := range d.each() {
			l.left[one] = int64(n)
		}
	})
}

// Cut closes both sockets.
func (l *Link) Cut() { l.end(false) }

// Reset closes both sockets with a TCP reset.
func (l *Link) Reset() { l.end(true) }

// Passed is how many bytes of one direction have arrived.
func (l *Link) Passed(d Direction) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed[d]
}

// Done is closed when the link is over.
func (l *Link) Done() <-chan struct{} { return l.done }

func (d Direction) each() (list []Direction) {
	for _, one := range []Direction{Up, Down} {
		if d&one != 0 {
			list = append(list, one)
		}
	}
	return list
}

func (l *Link) set(d Direction, p passage) {
	l.change(func() {
		for _, one := range d.each() {
			l.state[one] = p
		}
	})
}

func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) end(reset bool) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over = true
	close(l.done)
	l.mu.Unlock()
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if reset {
			_ = c.SetLinger(0) // if it fails the peer sees an ordinary end: chaos enough
		}
		_ = c.Close() // the peer may have been first
	}
}

// run passes bytes until both directions have ended.
func (l *Link) run() {
	var directions sync.WaitGroup
	directions.Go(func() { l.pass(Up, l.client, l.server) })
	directions.Go(func() { l.pass(Down, l.server, l.client) })
	directions.Wait()
	l.Cut()
}

// piece is some bytes and when they may arrive; no bytes are the end of the direction.
type piece struct {
	bytes []byte
	due   time.Time
}

// pass carries one direction. Reading and writing are apart so that latency does not narrow the link.
func (l *Link) pass(d Direction, from, to *net.TCPConn) {
	queue := make(chan piece, chunks)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		var last time.Time
		for {
			b := make([]byte, chunkBytes)
			n, err := from.Read(b)
			due := l.due()
			if due.Before(last) {
				due = last // jitter does not reorder a stream
			}
			last = due
			for _, p := range []piece{{b[:n], due}, {nil, due}} {
				if n == 0 && p.bytes != nil || err == nil && p.bytes == nil {
					continue
				}
				select {
				case queue <- p:
				case <-l.done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer reading.Wait()
	for p := range queue {
		if !l.deliver(d, p, to) {
			l.Cut()
			return
		}
	}
}

// deliver writes a piece when its time has come; false when the link is over.
func (l *Link) deliver(d Direction, p piece, to *net.TCPConn) bool {
	if !l.sleep(time.Until(p.due)) {
		return false
	}
	for rest := p.bytes; ; {
		l.mu.Lock()
		over, state, changed, left, rate := l.over, l.state[d], l.changed, l.left[d], l.weather.BytesPerSecond
		l.mu.Unlock()
		switch {
		case over: // what was read may be our own closing of the socket
			return false
		case state == frozen:
			select {
			case <-changed:
				continue
			case <-l.done:
				return false
			}
		case state == swallowing:
			return true
		case left == 0:
			return false
		case len(p.bytes) == 0:
			return to.CloseWrite() == nil
		case len(rest) == 0:
			return true
		}
		now := rest
		if rate > 0 {
			now = now[:min(len(now), max(1, rate/int(time.Second/slice)))]
		}
		if left > 0 {
			now = now[:min(int64(len(now)), left)]
		}
		n, err := to.Write(now)
		rest = rest[n:]
		l.mu.Lock()
		l.passed[d] += int64(n)
		if l.left[d] > 0 {
			l.left[d] = max(0, l.left[d]-int64(n))
		}
		l.mu.Unlock()
		if err != nil || rate > 0 && !l.sleep(time.Duration(n)*time.Second/time.Duration(rate)) {
			return false
		}
	}
}

// due is when bytes that were read now may arrive.
func (l *Link) due() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.weather.Latency
	if l.weather.Jitter > 0 {
		late += time.Duration(l.random.Int64N(int64(l.weather.Jitter)))
	}
	return time.Now().Add(late)
}

// sleep waits; false when the link is over first.
func (l *Link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}
