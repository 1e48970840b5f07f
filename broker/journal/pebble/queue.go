package pebble

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"holdline/broker/journal"
)

const (
	// lazyWait is how long a lazy submission waits for company.
	lazyWait = time.Second
	// waitingBytes bounds what is submitted and not yet durable; Append waits for room.
	waitingBytes = 64 << 20
	// batchBytes and batchItems bound what is written at once.
	batchBytes = 4 << 20
	batchItems = 8192
	// gatherItems is how many must wait to be written while a sync is on its way.
	// Fewer gather until it has ended: they would have to wait for it anyway,
	// and one batch costs less than many. With nothing on its way nothing waits.
	gatherItems = 128
	// overhead is what a submission, entry or put counts beside its bytes.
	overhead = 256
)

// item is one thing to do in order: a submission, or an operation of our own.
type item struct {
	submission *journal.Submission
	operation  *operation
	weight     int64
	result     journal.Result
}

func (i *item) lazy() bool {
	if i.operation != nil {
		return i.operation.lazy
	}
	return i.submission.Lazy
}

// alone reports whether i needs a batch of its own.
func (i *item) alone() bool { return i.operation != nil && i.operation.write != nil }

// operation is something the appender does between submissions.
type operation struct {
	// write adds to a batch of its own, and may change what the appender knows.
	// It is nil for a mere barrier.
	write func(a *appender) error
	lazy  bool
	done  chan error // has room for the one answer; nil when nobody waits
}

// queue holds what was submitted and is not yet part of a batch, in order.
type queue struct {
	max  int64
	room *semaphore.Weighted
	wake chan struct{} // holds one: look again

	mu      sync.Mutex
	items   []item
	weight  int64
	urgent  int       // how many of items are not lazy
	since   time.Time // when the first of items came
	flying  int       // batches that were taken and are not yet durable
	stopped error     // why nothing more is taken in
	last    bool      // nothing will ever come again
}

func newQueue(bytes int64) *queue {
	return &queue{max: bytes, room: semaphore.NewWeighted(bytes), wake: make(chan struct{}, 1)}
}

// weigh is what s takes of the room, which is all of it at the most.
func (q *queue) weigh(s *journal.Submission) int64 {
	n := overhead
	for i := range s.Entries {
		e := &s.Entries[i]
		n += overhead + len(e.Topic) + len(e.Payload) + len(e.Properties) + len(e.Refused)
	}
	for i := range s.Puts {
		n += overhead + len(s.Puts[i].Key) + len(s.Puts[i].Value)
	}
	return min(int64(n), q.max)
}

// submit waits for room and puts s at the end.
func (q *queue) submit(ctx context.Context, s *journal.Submission) error {
	weight := q.weigh(s)
	if !q.room.TryAcquire(weight) {
		if err := q.state(); err != nil {
			return err
		}
		if err := q.room.Acquire(ctx, weight); err != nil {
			return err
		}
	}
	err := q.push(item{submission: s, weight: weight})
	if err != nil {
		q.room.Release(weight)
	}
	return err
}

func (q *queue) state() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stopped
}

// push puts i at the end. Operations take no room: their callers are few.
func (q *queue) push(i item) error {
	lazy := i.lazy()
	q.mu.Lock()
	if q.stopped != nil {
		defer q.mu.Unlock()
		return q.stopped
	}
	if len(q.items) == 0 {
		q.since = time.Now()
	}
	q.items = append(q.items, i)
	q.weight += i.weight
	if !lazy {
		q.urgent++
	}
	// The appender sleeps only when it saw nothing urgent: wake it for the first
	// urgent item, and for a first lazy one, to set its clock.
	wake := !lazy && (q.urgent == 1 || q.urgent == gatherItems) || len(q.items) == 1 || q.weight > batchBytes
	q.mu.Unlock()
	if wake {
		q.poke()
	}
	return nil
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// stop takes in nothing more and hurries up with what is there. With last,
// take ends when all that is done.
func (q *queue) stop(why error, last bool) {
	q.mu.Lock()
	if q.stopped == nil || last {
		q.stopped = why
	}
	q.last = q.last || last
	q.mu.Unlock()
	q.poke()
}

// landed is told of every batch that was taken, when it is durable.
func (q *queue) landed() {
	q.mu.Lock()
	q.flying--
	wake := q.flying == 0 && len(q.items) > 0
	q.mu.Unlock()
	if wake {
		q.poke()
	}
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// take waits until something must be written and returns it, in the memory of
// batch, which is empty. It returns false after the last.
func (q *queue) take(batch []item) ([]item, bool) {
	for {
		q.mu.Lock()
		var clock <-chan time.Time
		if len(q.items) > 0 {
			wait := lazyWait - time.Since(q.since)
			urgent := q.urgent > 0 && (q.flying == 0 || q.urgent >= gatherItems)
			if urgent || q.stopped != nil || q.weight > batchBytes || wait <= 0 {
				batch = q.takeLocked(batch)
				q.flying++
				q.mu.Unlock()
				return batch, true
			}
			if q.urgent == 0 {
				clock = time.After(wait)
			}
		}
		last := q.last
		q.mu.Unlock()
		if last {
			return batch, false
		}
		select {
		case <-q.wake:
		case <-clock:
		}
	}
}

func (q *queue) takeLocked(batch []item) []item {
	n, weight := 0, int64(0)
	for n < len(q.items) && n < batchItems && weight < batchBytes {
		if q.items[n].alone() && n > 0 {
			break
		}
		if !q.items[n].lazy() {
			q.urgent--
		}
		weight += q.items[n].weight
		n++
		if q.items[n-1].alone() {
			break
		}
	}
	q.weight -= weight
	if n == len(q.items) {
		batch, q.items = q.items, batch[:0]
		return batch
	}
	batch = append(batch, q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	return batch
}
