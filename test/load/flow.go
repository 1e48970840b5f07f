//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	payloadBytes = 256
	window       = 16
	// warmUp is how long messages flow before the measuring begins.
	warmUp     = 500 * time.Millisecond
	drainLimit = time.Minute
)

// flow is publishers and readers, connected, with one ledger: each publisher's
// messages have one reader.
type flow struct {
	*loop
	publishers []*publisher
	ledger     *ledger
	on         func(stamp) // also told of every delivery; may be nil
	ready      int
}

func newFlow(r *run) (*flow, error) {
	l, err := newLoop(r.b.addr)
	if err != nil {
		return nil, err
	}
	return &flow{loop: l, ledger: newLedger()}, nil
}

func (f *flow) see(s stamp) {
	f.ledger.see(s)
	if f.on != nil {
		f.on(s)
	}
}

// connect makes readers and publishers; publisher i writes to reader i mod readers.
func (f *flow) connect(readers, publishers int) error {
	topic := func(i int) string { return fmt.Sprint("load/", i%readers) }
	err := f.ramp(readers, &f.ready, func(i int) {
		reader{topic: topic(i), clean: true, ready: &f.ready, on: f.see}.dial(f.loop, fmt.Sprint("reader-", i))
	})
	if err != nil {
		return err
	}
	return f.ramp(publishers, &f.ready, func(i int) {
		f.publishers = append(f.publishers, f.newPublisher(fmt.Sprint("publisher-", i), window, &f.ready, newTemplate(topic(i), uint32(i), payloadBytes)))
	})
}

func (f *flow) sent() (sent, acked uint64) {
	for _, p := range f.publishers {
		sent += p.sent
		acked += p.acked
	}
	return sent, acked
}

// push publishes as fast as the windows allow, for so long, and waits until all
// that was acknowledged has arrived.
func (f *flow) push(d time.Duration) error {
	for _, p := range f.publishers {
		p.limit = math.MaxUint64
		p.fill()
	}
	if err := f.pass(d); err != nil {
		return err
	}
	return f.drain()
}

func (f *flow) drain() error {
	for _, p := range f.publishers {
		p.limit = p.sent
	}
	// What is broken stays so: there is no use in waiting for the rest.
	err := f.run("draining", drainLimit, func() bool {
		sent, acked := f.sent()
		return acked == sent && f.ledger.arrived >= acked || f.ledger.broken()
	})
	return errors.Join(f.settle(), err)
}

func (f *flow) settle() error {
	owed := map[uint32]uint64{}
	for _, p := range f.publishers {
		p.owed(owed)
	}
	return f.ledger.settle(owed)
}

// throughput measures messages from so many publishers to so many readers.
func throughput(publishers, readers int) func(*run) (figures, error) {
	return func(r *run) (figures, error) {
		f, err := newFlow(r)
		if err != nil {
			return nil, err
		}
		defer f.close()
		if err := f.connect(readers, publishers); err != nil {
			return nil, err
		}
		if err := f.push(warmUp); err != nil {
			return nil, err
		}
		before, began := f.ledger.arrived, time.Now()
		cpu, err := r.b.cpu()
		if err != nil {
			return nil, err
		}
		if err := f.push(r.duration); err != nil {
			return nil, err
		}
		took, n := time.Since(began), float64(f.ledger.arrived-before)
		after, err := r.b.cpu()
		if err != nil {
			return nil, err
		}
		memory, err := r.b.memory()
		if err != nil {
			return nil, err
		}
		return figures{"rate": n / took.Seconds(), "cpu": (after - cpu).Seconds() / n * 1e6, "memory": memory}, nil
	}
}

// latency measures from publish to delivery at a steady rate over 100 pairs.
func latency(r *run) (figures, error) {
	const pairs, perSecond = 100, 2000
	disk, err := syncs(r.b.dir)
	if err != nil {
		return nil, err
	}
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.connect(pairs, pairs); err != nil {
		return nil, err
	}
	// late is how long after its time a publish was written: what the machine,
	// with whatever else it does, adds to every wait.
	var took, late []time.Duration
	f.on = func(s stamp) { took = append(took, f.now()-s.at) }
	began, n := time.Now(), 0
	f.every(time.Second/perSecond, func() {
		late = append(late, time.Since(began)-time.Duration(n+1)*time.Second/perSecond)
		for due := int(time.Since(began).Seconds() * perSecond); n < due; n++ {
			p := f.publishers[n%pairs]
			p.limit = p.sent + 1
			p.fill()
		}
	})
	if err := f.pass(warmUp); err != nil {
		return nil, err
	}
	took, late = nil, nil
	if err := f.pass(r.duration); err != nil {
		return nil, err
	}
	f.every(0, nil)
	if err := f.drain(); err != nil {
		return nil, err
	}
	return figures{
		"p50": milliseconds(percentile(took, 50)), "p99": milliseconds(percentile(took, 99)),
		"late": milliseconds(percentile(late, 99)), "disk": milliseconds(percentile(disk, 99)),
	}, nil
}

// syncs measures single synced writes in dir, for as long as a second.
func syncs(dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, "syncs-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 512)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		began := time.Now()
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// fanOut measures deliveries of one publisher's messages to many readers. The
// publisher goes on when the slowest reader is at most a window behind, so that it
// is the brokers' speed that is measured and not the length of their queues.
func fanOut(r *run) (figures, error) {
	const readers = 1000
	f, err := newFlow(r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	ledgers := make([]*ledger, readers)
	behind := map[uint64]int{} // how many readers have message n
	slowest := uint64(0)       // everybody has up to here
	arrived := 0
	var p *publisher
	err = f.ramp(readers, &f.ready, func(i int) {
		mine := newLedger()
		ledgers[i] = mine
		reader{topic: "load/all", clean: true, ready: &f.ready, on: func(s stamp) {
			mine.see(s)
			arrived++
			behind[s.n]++
			for behind[slowest+1] == readers {
				delete(behind, slowest+1)
				slowest++
				if p.limit != 0 {
					p.limit = slowest + window
					p.fill()
				}
			}
		}}.dial(f.loop, fmt.Sprint("reader-", i))
	})
	if err != nil {
		return nil, err
	}
	if err := f.ramp(1, &f.ready, func(int) {
		p = f.newPublisher("publisher", window, &f.ready, newTemplate("load/all", 0, payloadBytes))
	}); err != nil {
		return nil, err
	}
	push := func(d time.Duration) error {
		p.limit = p.sent + window
		p.fill()
		if err := f.pass(d); err != nil {
			return err
		}
		p.limit = 0
		err := f.run("draining", drainLimit, func() bool { return p.acked == p.sent && slowest == p.sent })
		for _, l := range ledgers {
			if e := l.settle(map[uint32]uint64{0: p.acked}); e != nil {
				return errors.Join(e, err)
			}
		}
		return err
	}
	if err := push(warmUp); err != nil {
		return nil, err
	}
	before, began := arrived, time.Now()
	cpu, err := r.b.cpu()
	if err != nil {
		return nil, err
	}
	if err := push(r.duration); err != nil {
		return nil, err
	}
	took, n := time.Since(began), float64(arrived-before)
	after, err := r.b.cpu()
	if err != nil {
		return nil, err
	}
	return figures{"rate": n / took.Seconds(), "cpu": (after - cpu).Seconds() / n * 1e6}, nil
}
