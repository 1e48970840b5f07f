//go:build linux

package main

import (
	"fmt"
	"time"
)

// settled is how long a broker is left alone before its memory is read.
const settled = 3 * time.Second

// away makes sessions that are kept, each with one subscription, and leaves.
func (f *flow) away(n int) error {
	return f.ramp(n, &f.ready, func(i int) {
		first := append(connectFrame(fmt.Sprint("away-", i), false), subscribeFrame(fmt.Sprint("away/", i))...)
		f.dial(first, dialing{}, func(c *conn, head byte, body []byte) {
			if head != subackHead {
				f.connected(head, body)
				return
			}
			if len(body) != 3 || body[2] != 1 {
				f.fail("SUBACK %x", body)
			}
			f.ready++
			c.leave()
		})
	})
}

// storm measures the return of 1000 sessions with 100 messages queued for each.
func storm(r *run) (figures, error) {
	const sessions, each, publishers = 1000, 100, 10
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.away(sessions); err != nil {
		return nil, err
	}
	if err := f.ramp(publishers, &f.ready, func(p int) {
		var to []template
		for i := p; i < sessions; i += publishers {
			to = append(to, newTemplate(fmt.Sprint("away/", i), uint32(i), payloadBytes))
		}
		f.publishers = append(f.publishers, f.newPublisher(fmt.Sprint("publisher-", p), 100, &f.ready, to...))
	}); err != nil {
		return nil, err
	}
	for _, p := range f.publishers {
		p.limit = sessions / publishers * each
		p.fill()
	}
	if err := f.run("publishing", drainLimit, func() bool { _, acked := f.sent(); return acked == sessions*each }); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := f.ramp(sessions, &f.ready, func(i int) {
		reader{ready: &f.ready, on: f.see}.dial(f.loop, fmt.Sprint("away-", i))
	}); err != nil {
		return nil, err
	}
	if err := f.drain(); err != nil {
		return nil, err
	}
	return figures{"time": time.Since(began).Seconds()}, nil
}

// connects measures how fast clients get in.
func connects(r *run) (figures, error) {
	const clients = 5000
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	began := time.Now()
	if err := f.ramp(clients, &f.ready, func(i int) {
		f.dial(connectFrame(fmt.Sprint("client-", i), true), dialing{}, func(_ *conn, head byte, body []byte) {
			if f.connected(head, body) {
				f.ready++
			}
		})
	}); err != nil {
		return nil, err
	}
	return figures{"rate": clients / time.Since(began).Seconds()}, nil
}

// idle measures what a connection that does nothing costs.
func idle(r *run) (figures, error) {
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	before, err := r.b.memory()
	if err != nil {
		return nil, err
	}
	if err := f.ramp(r.connections, &f.ready, func(i int) {
		reader{topic: fmt.Sprint("idle/", i), clean: true, ready: &f.ready, on: func(stamp) {}}.dial(f.loop, fmt.Sprint("idle-", i))
	}); err != nil {
		return nil, err
	}
	if err := f.pass(settled); err != nil {
		return nil, err
	}
	after, err := r.b.memory()
	if err != nil {
		return nil, err
	}
	return figures{"bytes": (after - before) / float64(r.connections)}, nil
}

// offline measures what sessions cost whose clients are away, and how soon a
// broker that has them is there again. Ours is killed; mosquitto is stopped, since
// it would not have them otherwise.
//
// The difference that sessions make is measured between two restarts, and in brokers
// through which messages have flowed: buffers that are there with or without
// sessions are not theirs.
func offline(r *run) (figures, error) {
	if err := r.used(); err != nil {
		return nil, err
	}
	running, err := r.weigh()
	if err != nil {
		return nil, err
	}
	if _, err := r.again(); err != nil {
		return nil, err
	}
	restarted, err := r.weigh()
	if err != nil {
		return nil, err
	}
	if err := r.used(); err != nil {
		return nil, err
	}
	if err := r.away(); err != nil {
		return nil, err
	}
	runningWith, err := r.weigh()
	if err != nil {
		return nil, err
	}
	ready, err := r.again()
	if err != nil {
		return nil, err
	}
	restartedWith, err := r.weigh()
	if err != nil {
		return nil, err
	}
	if err := r.back(); err != nil {
		return nil, err
	}
	n := float64(r.sessions)
	return figures{"running": (runningWith - running) / n, "bytes": (restartedWith - restarted) / n, "ready": ready.Seconds()}, nil
}

// used lets messages flow through the broker for a while.
func (r *run) used() error {
	f, err := newFlow(r)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.connect(100, 100); err != nil {
		return err
	}
	return f.push(2 * warmUp)
}

// away makes the sessions.
func (r *run) away() error {
	f, err := newFlow(r)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.away(r.sessions); err != nil {
		return err
	}
	return f.pass(settled)
}

// back looks whether some of the sessions are still there.
func (r *run) back() error {
	f, err := newFlow(r)
	if err != nil {
		return err
	}
	defer f.close()
	const some = 100
	return f.ramp(some, &f.ready, func(i int) {
		reader{ready: &f.ready, on: f.see}.dial(f.loop, fmt.Sprint("away-", i*(r.sessions/some)))
	})
}

// weigh is the heap of ours; of mosquitto, the memory of the process.
func (r *run) weigh() (float64, error) {
	if r.b.ours {
		return r.b.heap()
	}
	return r.b.memory()
}

// again restarts the broker and returns how long it took until it was ready.
func (r *run) again() (time.Duration, error) {
	if r.b.ours {
		r.b.kill()
	} else if err := r.b.stop(); err != nil {
		return 0, err
	}
	began := time.Now()
	b, err := r.b.start(r.ctx, r.b.dir)
	if err != nil {
		return 0, err
	}
	r.b = b
	return time.Since(began), nil
}
