//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// What is published until the sockets of those who do not read are full: much
	// more than a narrow socket takes, less than mosquitto's queue is long.
	jamMessages = 40
	jamBytes    = 16 << 10
	jamLimit    = 30 * time.Second
)

// jam connects so many clients that stop reading, and publishes to them until
// the broker cannot write to any of them.
func (f *flow) jam(r *run, n int, clean bool) error {
	conns := make([]*conn, 0, n)
	if err := f.ramp(n, &f.ready, func(i int) {
		c := reader{topic: "jam", clean: clean, dialing: dialing{narrow: true}, ready: &f.ready, on: func(stamp) {}}.dial(f.loop, fmt.Sprint("jammed-", i))
		c.gone = func(*conn) {} // the broker may give it up, and does when it is taken over
		conns = append(conns, c)
	}); err != nil {
		return err
	}
	for _, c := range conns {
		c.stall()
	}
	var p *publisher
	if err := f.ramp(1, &f.ready, func(int) {
		p = f.newPublisher("jamming", window, &f.ready, newTemplate("jam", 1, jamBytes))
	}); err != nil {
		return err
	}
	p.limit = jamMessages
	p.fill()
	jammed, looked := 0, time.Time{}
	var err error
	if e := f.run("jamming", jamLimit, func() bool {
		if p.acked < jamMessages || time.Since(looked) < 100*time.Millisecond {
			return false
		}
		looked = time.Now()
		jammed, err = unsent(r.b.addr.Port)
		return err != nil || jammed >= n
	}); e != nil {
		return fmt.Errorf("%d of %d are jammed: %w", jammed, n, e)
	}
	return err
}

// unsent counts the connections of a local port whose peer does not take what
// was written to them.
func unsent(port int) (n int, err error) {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // number, local, remote, state, tx:rx, …
		if len(f) < 5 || f[3] != "01" {
			continue
		}
		_, p, _ := strings.Cut(f[1], ":")
		tx, _, _ := strings.Cut(f[4], ":")
		at, err1 := strconv.ParseUint(p, 16, 16)
		waiting, err2 := strconv.ParseUint(tx, 16, 32)
		if err1 == nil && err2 == nil && int(at) == port && waiting > 0 {
			n++
		}
	}
	return n, nil
}

// takeover measures, from connect to CONNACK, how long a client waits whose
// old connection is jammed.
func takeover(r *run) (figures, error) {
	const clients = 200
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.jam(r, clients, false); err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range clients {
		began := time.Now()
		if err := f.ramp(1, &f.ready, func(int) {
			first := true
			c := f.dial(connectFrame(fmt.Sprint("jammed-", i), false), dialing{}, func(c *conn, head byte, body []byte) {
				if first && f.connected(head, body) {
					took = append(took, time.Since(began))
					if body[0]&1 == 0 {
						f.fail("the session was not taken over but begun anew")
					}
					f.ready++
					c.stall() // what is delivered now is not measured
				}
				first = false
			})
			c.gone = func(*conn) {
				if first {
					f.fail("the broker closed a connection instead of taking the session over")
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	return figures{"p50": milliseconds(percentile(took, 50)), "p99": milliseconds(percentile(took, 99))}, nil
}

// stalled measures how long a publisher waits for its acknowledgements while
// most of those it publishes to do not read; one does, and must get everything.
func stalled(r *run) (figures, error) {
	const clients, perSecond = 1000, 200
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.jam(r, clients, true); err != nil {
		return nil, err
	}
	if err := f.ramp(1, &f.ready, func(int) {
		reader{topic: "jam", clean: true, ready: &f.ready, on: f.see}.dial(f.loop, "healthy")
	}); err != nil {
		return nil, err
	}
	var p *publisher
	if err := f.ramp(1, &f.ready, func(int) {
		p = f.newPublisher("publisher", window, &f.ready, newTemplate("jam", 2, payloadBytes))
	}); err != nil {
		return nil, err
	}
	p.window = latencyRing / 4 // it never waits: what is late counts
	f.publishers = append(f.publishers, p)
	var took []time.Duration
	p.onAck = func(sentAt time.Duration) { took = append(took, f.now()-sentAt) }
	began := time.Now()
	f.every(time.Second/perSecond, func() {
		p.limit = uint64(time.Since(began).Seconds() * perSecond)
		p.fill()
	})
	if err := f.pass(r.duration); err != nil {
		return nil, err
	}
	f.every(0, nil)
	if err := f.drain(); err != nil {
		return nil, err
	}
	return figures{"p50": milliseconds(percentile(took, 50)), "p99": milliseconds(percentile(took, 99))}, nil
}
