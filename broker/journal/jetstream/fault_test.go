package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/journal"
)

// A fault test may take as long as the cluster needs to notice and to elect.
const faultPatience = 90 * time.Second

// witness is one process on the stream: writers, and a follower that remembers.
type witness struct {
	name string
	j    *Journal

	mu       sync.Mutex
	acked    map[uint64]string // by sequence number
	versions map[string]uint64 // of records, the newest acknowledged
	acks     int
	followed []string
	enough   chan struct{} // closed when acks reaches want
	want     int
}

func (w *witness) follow(t *testing.T) {
	after := uint64(0)
	seen := func(e *journal.Entry) { w.followed = append(w.followed, fmt.Sprint(e.Seq, " ", string(e.Payload))) }
	for {
		_, err := w.j.Follow(after, func(entries []*journal.Entry) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range entries {
				seen(e)
			}
		})
		if err == nil {
			return
		}
		page, err := w.j.Read(t.Context(), []string{"#"}, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			seen(e)
		}
		after = page.Through
	}
}

// write appends until ctx ends: one to three entries, an inbox's next number and a
// record's next version in each submission, each from a goroutine that waits for Done.
func (w *witness) write(ctx context.Context, t *testing.T, writers int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			key := fmt.Sprint(w.name, n)
			version := uint64(0)
			for i := 1; ctx.Err() == nil; i++ {
				s := &journal.Submission{Puts: []journal.Put{{Key: key, Value: []byte(strconv.Itoa(i)), If: version}}}
				for k := range 1 + i%3 {
					s.Entries = append(s.Entries, journal.Entry{Topic: "w/" + key, Payload: fmt.Appendf(nil, "%s.%d.%d/%d", key, i, k, 1+i%3), Partition: n % 16})
				}
				s.Entries = append(s.Entries, journal.Entry{Topic: "in/" + key, Payload: fmt.Appendf(nil, "%s.%d.in", key, i), Partition: journal.NoPartition, Inbox: key, Event: uint64(i)})
				done := make(chan journal.Result, 1)
				s.Done = func(r journal.Result) { done <- r }
				if err := w.j.Append(ctx, s); err != nil {
					if ctx.Err() == nil {
						t.Errorf("%s: Append = %v", key, err)
					}
					return
				}
				r := <-done
				if r.Err != nil {
					t.Errorf("%s: submission %d: %v", key, i, r.Err)
					return
				}
				version = r.Version
				w.mu.Lock()
				for _, e := range s.Entries {
					if was := w.acked[e.Seq]; was != "" || e.Seq == 0 {
						t.Errorf("%s has the number %d of %s", e.Payload, e.Seq, was)
					}
					w.acked[e.Seq] = string(e.Payload)
				}
				w.versions[key] = version
				if w.acks++; w.acks == w.want {
					close(w.enough)
				}
				w.mu.Unlock()
			}
		})
	}
	return &wg
}

// more waits for so many acknowledgements from now on.
func (w *witness) more(t *testing.T, n int) {
	t.Helper()
	w.mu.Lock()
	w.want, w.enough = w.acks+n, make(chan struct{})
	enough := w.enough
	w.mu.Unlock()
	select {
	case <-enough:
	case <-time.After(faultPatience):
		t.Fatalf("%s: %d more acknowledgements did not come in %v", w.name, n, faultPatience)
	}
}

func newWitness(t *testing.T, name string, o Options) *witness {
	t.Helper()
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: name, j: j, acked: map[uint64]string{}, versions: map[string]uint64{}}
	w.follow(t)
	return w
}

// ledger compares what two processes were told and saw with what is there.
func ledger(t *testing.T, d *disk, all ...*witness) {
	t.Helper()
	var last uint64
	for _, w := range all {
		last = max(last, w.j.Tail().Seq)
	}
	for _, w := range all {
		if err := w.j.tail.reach(t.Context(), last); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if err := w.j.Close(); err != nil {
			t.Errorf("%s: Close = %v", w.name, err)
		}
	}
	d.ringBytes = 1
	j := d.Open(t)
	defer j.Close()
	found, times := map[uint64]string{}, map[string]int{}
	var order []string
	lastOf := map[string]int{}
	for after := uint64(0); after < j.Tail().Seq; {
		page, err := j.Read(t.Context(), []string{"#"}, after, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			p := string(e.Payload)
			found[e.Seq] = p
			times[p]++
			order = append(order, fmt.Sprint(e.Seq, " ", p))
			if e.Inbox != "" {
				if int(e.Event) != lastOf[e.Inbox]+1 {
					t.Errorf("inbox %s has %d after %d", e.Inbox, e.Event, lastOf[e.Inbox])
				}
				lastOf[e.Inbox] = int(e.Event)
			}
		}
		after = page.Through
	}
	for p, n := range times {
		if n != 1 {
			t.Errorf("%s is there %d times", p, n)
		}
		name, k, ok := strings.Cut(p, "/")
		if !ok {
			continue
		}
		count, _ := strconv.Atoi(k)
		base := name[:strings.LastIndexByte(name, '.')]
		for i := range count {
			if times[fmt.Sprintf("%s.%d/%d", base, i, count)] == 0 {
				t.Errorf("%s is there without %s.%d", p, base, i)
			}
		}
	}
	acks := 0
	for _, w := range all {
		acks += len(w.acked)
		for seq, p := range w.acked {
			if found[seq] != p {
				t.Errorf("%s was told that %s is entry %d, which is %q", w.name, p, seq, found[seq])
			}
		}
		for key, version := range w.versions {
			r, ok, err := j.Record(t.Context(), key)
			if err != nil || !ok || r.Version < version {
				t.Errorf("record %s is at %d, %v, %v; %d was acknowledged", key, r.Version, ok, err, version)
			}
			if n, _ := strconv.Atoi(string(r.Value)); n != lastOf[key] {
				t.Errorf("record %s says %d, its inbox %d: they are one submission", key, n, lastOf[key])
			}
		}
		if d := cmp.Diff(order[:min(len(w.followed), len(order))], w.followed); d != "" {
			t.Errorf("%s followed something else (-want +got):\n%.2000s", w.name, d)
		}
	}
	t.Logf("%d entries, %d acknowledged", len(order), acks)
	if acks == 0 {
		t.Error("nothing was acknowledged")
	}
}

// twoProcesses runs fault while two processes write, and then compares.
func twoProcesses(t *testing.T, c *cluster, fault func(t *testing.T, d *disk, both []*witness)) {
	d := newDisk(c)
	o := d.options()
	a := newWitness(t, "a", o)
	o.dialer = nil
	b := newWitness(t, "b", o)
	ctx, stop := context.WithCancel(t.Context())
	ends := []*sync.WaitGroup{a.write(ctx, t, 4), b.write(ctx, t, 4)}
	a.more(t, 50)
	fault(t, d, []*witness{a, b})
	a.more(t, 50)
	b.more(t, 50)
	stop()
	for _, wg := range ends {
		wg.Wait()
	}
	ledger(t, d, a, b)
}

func TestTwoProcessesShareOneOrder(t *testing.T) {
	twoProcesses(t, newCluster(t, 1), func(t *testing.T, _ *disk, both []*witness) {
		for _, w := range both {
			w.more(t, 300)
		}
	})
}

func TestServersFail(t *testing.T) {
	if os.Getenv("HOLDLINE_LONG") == "" {
		t.Skip("kills and freezes servers for minutes: make long runs it")
	}
	c := newCluster(t, 3)
	t.Run("the leader is killed and comes back", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			n := c.leader(t, d.stream)
			n.kill()
			for _, w := range both {
				w.more(t, 50)
			}
			n.start(t)
		})
	})
	c.settle(t)
	t.Run("a follower is killed and comes back", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			n := c.other(c.leader(t, d.stream))
			n.kill()
			for _, w := range both {
				w.more(t, 50)
			}
			n.start(t)
		})
	})
	c.settle(t)
	t.Run("the leader is frozen and thaws", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			n := c.leader(t, d.stream)
			n.signal(t, syscall.SIGSTOP)
			defer n.signal(t, syscall.SIGCONT)
			for _, w := range both {
				w.more(t, 50)
			}
		})
	})
	c.settle(t)
	t.Run("a follower is frozen and thaws", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			n := c.other(c.leader(t, d.stream))
			n.signal(t, syscall.SIGSTOP)
			defer n.signal(t, syscall.SIGCONT)
			for _, w := range both {
				w.more(t, 50)
			}
		})
	})
	c.settle(t)
	t.Run("the server that a batch was sent to is frozen and thaws", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			name := both[0].j.publisher.conn.ConnectedServerName()
			for _, n := range c.nodes {
				if n.settings.Name == name {
					n.signal(t, syscall.SIGSTOP)
					for _, w := range both {
						w.more(t, 50) // over another server; what this one has not read comes after it thaws
					}
					n.signal(t, syscall.SIGCONT)
				}
			}
			for _, w := range both {
				w.more(t, 200)
			}
		})
	})
	c.settle(t)
	t.Run("without a quorum nothing is acknowledged", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			leader := c.leader(t, d.stream)
			var frozen []*node
			for _, n := range c.nodes {
				if n != leader {
					n.signal(t, syscall.SIGSTOP)
					frozen = append(frozen, n)
				}
			}
			// What was on its way when they froze may still come; a new one may not.
			s := &journal.Submission{Entries: []journal.Entry{{Topic: "quorum", Payload: []byte("w.0.0/1"), Partition: journal.NoPartition}}}
			done := make(chan journal.Result, 1)
			s.Done = func(r journal.Result) { done <- r }
			if err := both[1].j.Append(t.Context(), s); err != nil {
				t.Error(err)
			}
			select {
			case r := <-done:
				t.Errorf("Done(%v) with one server of three", r.Err)
			case <-time.After(3 * time.Second): // there is no event for what does not happen
			}
			for _, n := range frozen {
				n.signal(t, syscall.SIGCONT)
			}
			select {
			case r := <-done:
				if r.Err != nil {
					t.Errorf("Done = %v when they are back", r.Err)
				}
			case <-time.After(faultPatience):
				t.Error("nothing is acknowledged when they are back")
			}
		})
	})
	c.settle(t)
	t.Run("all are killed and come back", func(t *testing.T) {
		twoProcesses(t, c, func(t *testing.T, d *disk, both []*witness) {
			for _, n := range c.nodes {
				n.kill()
			}
			for _, n := range c.nodes {
				n.start(t)
			}
		})
	})
}

func (c *cluster) other(not *node) *node {
	for _, n := range c.nodes {
		if n != not {
			return n
		}
	}
	return nil
}

// settle waits until all servers are back and take part.
func (c *cluster) settle(t *testing.T) {
	t.Helper()
	c.ready(t, len(c.nodes))
}

// Connections break at the worst moments: just before and just after a batch
// was sent, so that its answer is lost.
func TestLostAnswersAreResolved(t *testing.T) {
	c := newCluster(t, 1)
	d := newDisk(c)
	breaker := &breaker{every: 6}
	o := d.options()
	o.dialer = breaker
	a := newWitness(t, "a", o)
	o.dialer = nil
	b := newWitness(t, "b", o)
	breaker.arm()
	ctx, stop := context.WithCancel(t.Context())
	ends := []*sync.WaitGroup{a.write(ctx, t, 6), b.write(ctx, t, 2)}
	a.more(t, 150)
	stop()
	for _, wg := range ends {
		wg.Wait()
	}
	before, after := breaker.counts()
	if before == 0 || after == 0 {
		t.Errorf("%d connections broke before a batch and %d after one, want some of both", before, after)
	}
	t.Logf("%d connections broke before a batch was sent, %d after", before, after)
	ledger(t, d, a, b)
}

// breaker breaks every so manieth connection that sends a batch.
type breaker struct {
	every int

	mu            sync.Mutex
	armed         bool
	before, after int
}

func (b *breaker) arm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = true
}

func (b *breaker) counts() (before, after int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.before, b.after
}

func (b *breaker) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return nil, err
	}
	return &brittleConn{c, b}, nil
}

type brittleConn struct {
	net.Conn
	b *breaker
}

func (c *brittleConn) Write(data []byte) (int, error) {
	c.b.mu.Lock()
	breaks := c.b.armed && bytes.Contains(data, []byte("HPUB ")) && rand.IntN(c.b.every) == 0
	late := breaks && rand.IntN(2) == 0
	switch {
	case late:
		c.b.after++
	case breaks:
		c.b.before++
	}
	c.b.mu.Unlock()
	if breaks && !late {
		c.Conn.Close()
		return 0, errors.New("broken before")
	}
	n, err := c.Conn.Write(data)
	if late {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // let it arrive
		}
		c.Conn.Close()
		return n, errors.New("broken after")
	}
	return n, err
}
