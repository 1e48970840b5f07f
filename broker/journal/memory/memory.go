// Package memory is the journal fake for tests.
//
// It keeps the whole contract, journaltest included, in maps and slices: what
// is "durable" lives in a disk that outlives the Journal, so that Reopen and
// Crash give the next life of the same journal, and Hold stops the disk, so that
// a test can look at what was submitted but is not yet durable.
//
// It writes nothing down and forgets nothing: no ring, no bound on what it keeps.
package memory

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"holdline/broker/journal"
)

const (
	// lazyWait is how long a lazy submission waits for company.
	lazyWait = time.Second
	// waitingBytes bounds what is submitted and not yet durable.
	waitingBytes = 16 << 20
	// overhead is what a submission, entry or put counts beside its bytes.
	overhead = 256
)

// Journal is a journal in memory. Make it with New.
type Journal struct {
	disk *disk
	room *semaphore.Weighted
	tail atomic.Pointer[journal.Cursor]
	wake chan struct{} // holds one: there is something new for run
	done chan struct{} // closed when run has returned
	air  air

	mu        sync.Mutex // guards what follows, and disk
	queue     []*item
	followers []*follower
	held      int
	closing   bool
	crashed   bool
	failed    error
	appended  uint64
	bytes     uint64
	syncs     uint64
}

// item is one thing to do in order: a submission, or an operation of our own.
type item struct {
	submission *journal.Submission
	operation  func() error // runs under mu
	result     chan error   // of the operation; has room for it
	at         time.Time
	weight     int64
}

func (i *item) lazy() bool { return i.submission != nil && i.submission.Lazy }

// New makes an empty journal and starts its goroutine, which Close ends.
func New() *Journal { return open(newDisk()) }

func open(d *disk) *Journal {
	j := &Journal{
		disk: d,
		room: semaphore.NewWeighted(waitingBytes),
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	tail := journal.Cursor{Epoch: d.epoch, Seq: d.seq}
	j.tail.Store(&tail)
	j.air.start()
	go j.run()
	return j
}

// Reopen is the next life of a closed journal.
func (j *Journal) Reopen() *Journal {
	<-j.done
	return open(j.disk)
}

// Crash ends the journal as kill -9 would: what is not durable is lost and its
// Done is never called. It returns the next life.
func (j *Journal) Crash() *Journal {
	j.mu.Lock()
	j.crashed, j.closing, j.queue = true, true, nil
	j.mu.Unlock()
	j.poke()
	<-j.done
	j.air.stop()
	return open(j.disk)
}

// Hold stops the disk until release: what is submitted meanwhile waits.
func (j *Journal) Hold() (release func()) {
	j.mu.Lock()
	j.held++
	j.mu.Unlock()
	return sync.OnceFunc(func() {
		j.mu.Lock()
		j.held--
		j.mu.Unlock()
		j.poke()
	})
}

// Fail breaks the disk: everything that waits and comes is answered with
// journal.ErrFailed. Reopen repairs it.
func (j *Journal) Fail() {
	j.mu.Lock()
	j.failed = journal.ErrFailed
	j.mu.Unlock()
	j.poke()
}

func (j *Journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Append implements journal.Journal.
func (j *Journal) Append(ctx context.Context, s *journal.Submission) error {
	if err := s.Check(); err != nil {
		return err
	}
	return j.push(ctx, &item{submission: s, weight: min(weigh(s), waitingBytes)})
}

func weigh(s *journal.Submission) int64 {
	n := overhead
	for i := range s.Entries {
		e := &s.Entries[i]
		n += overhead + len(e.Topic) + len(e.Payload) + len(e.Properties) + len(e.Refused)
	}
	for i := range s.Puts {
		n += overhead + len(s.Puts[i].Key) + len(s.Puts[i].Value)
	}
	return int64(n)
}

func (j *Journal) push(ctx context.Context, i *item) error {
	if err := j.state(); err != nil {
		return err
	}
	if err := j.room.Acquire(ctx, i.weight); err != nil {
		return err
	}
	j.mu.Lock()
	if err := j.stateLocked(); err != nil {
		j.mu.Unlock()
		j.room.Release(i.weight)
		return err
	}
	i.at = time.Now()
	j.queue = append(j.queue, i)
	j.mu.Unlock()
	j.poke()
	return nil
}

func (j *Journal) state() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stateLocked()
}

func (j *Journal) stateLocked() error {
	if j.closing {
		return journal.ErrClosed
	}
	return j.failed
}

// do runs an operation at its place in the order and waits for it.
func (j *Journal) do(ctx context.Context, operation func() error) error {
	i := &item{operation: operation, result: make(chan error, 1)}
	if err := j.push(ctx, i); err != nil {
		return err
	}
	select {
	case err := <-i.result:
		return err
	case <-j.done: // crashed, or it was the last thing done
		select {
		case err := <-i.result:
			return err
		default:
			return journal.ErrClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run makes durable what was submitted, in order, until Close.
func (j *Journal) run() {
	defer close(j.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, wait, end := j.take()
		switch {
		case len(batch) > 0:
			j.write(batch)
			continue
		case end:
			return
		case wait > 0:
			timer.Reset(wait)
		}
		j.greet()
		select {
		case <-j.wake:
		case <-timer.C:
		}
	}
}

// take returns everything that waits, when something of it is not lazy or
// has waited long enough; otherwise how long it may still wait.
func (j *Journal) take() (batch []*item, wait time.Duration, end bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held > 0 && !j.crashed {
		return nil, 0, false
	}
	if len(j.queue) == 0 {
		return nil, 0, j.closing
	}
	urgent := j.closing || j.failed != nil
	for _, i := range j.queue {
		urgent = urgent || !i.lazy()
	}
	if wait = lazyWait - time.Since(j.queue[0].at); !urgent && wait > 0 {
		return nil, wait, false
	}
	batch, j.queue = j.queue, nil
	return batch, 0, false
}

func (j *Journal) write(batch []*item) {
	results := make([]journal.Result, len(batch))
	j.mu.Lock()
	if j.crashed {
		j.mu.Unlock()
		return
	}
	before := j.disk.seq
	at := j.disk.now()
	for n, i := range batch {
		switch {
		case j.failed != nil:
			results[n].Err = j.failed
		case i.operation != nil:
			results[n].Err = i.operation()
		default:
			results[n] = j.disk.apply(i.submission, at)
		}
	}
	fresh := j.disk.after(before)
	for _, e := range fresh {
		j.appended++
		j.bytes += uint64(len(e.Payload))
	}
	j.syncs++
	j.tail.Store(&journal.Cursor{Epoch: j.disk.epoch, Seq: j.disk.seq})
	j.mu.Unlock()

	for n, i := range batch {
		j.room.Release(i.weight)
		switch {
		case i.operation != nil:
			i.result <- results[n].Err
		case i.submission.Done != nil:
			i.submission.Done(results[n])
		}
	}
	j.greet()
}

// Tail implements journal.Journal.
func (j *Journal) Tail() journal.Cursor { return *j.tail.Load() }

// Stats implements journal.Journal.
func (j *Journal) Stats() journal.Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return journal.Stats{
		Entries: j.appended, Bytes: j.bytes, Syncs: j.syncs, Waiting: len(j.queue),
		Tail: *j.tail.Load(), Oldest: j.disk.oldest, Unheard: j.air.lost(),
	}
}

// Renew implements journal.Journal.
func (j *Journal) Renew(ctx context.Context) (c journal.Cursor, err error) {
	err = j.do(ctx, func() error {
		j.disk.epoch = newEpoch(j.disk.epoch)
		c = journal.Cursor{Epoch: j.disk.epoch, Seq: j.disk.seq}
		return nil
	})
	return c, err
}

// newEpoch is at random, so that no two lives of a journal share one, and
// small enough for a JSON number.
func newEpoch(old uint64) uint64 {
	for {
		if e := 1 + rand.Uint64N(1<<53-1); e != old {
			return e
		}
	}
}

// Close implements journal.Journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return journal.ErrClosed
	}
	j.closing = true
	j.mu.Unlock()
	j.poke()
	<-j.done
	j.air.stop()
	return nil
}
