package jetstream

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"holdline/broker/journal"
	"holdline/chat"
)

const (
	// lazyWait is how long a lazy submission waits for company.
	lazyWait = time.Second
	// waitingBytes bounds what is submitted and not yet durable; Append waits for room.
	waitingBytes = 64 << 20
	// batchBytes bounds what is written at once.
	batchBytes = 4 << 20
	// batchMessages is how many messages a server takes as one batch, less those
	// that a batch may need for itself: the fence and what Keep was told.
	batchMessages = 1000 - 1 - chat.Partitions
	// overhead is what a submission, entry or put counts beside its bytes.
	overhead = 256
)

// item is one thing to do in order: a submission, or an operation of our own.
type item struct {
	submission *journal.Submission
	operation  *operation
	weight     int64
	messages   int
	firstPut   int // the place of its first put in the batch, from 1; 0 when it has none
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
	// write returns the one message to write, or nil when there is nothing to do.
	// It is asked again when somebody else was faster. It is nil for a mere barrier.
	write func(ctx context.Context) (*message, error)
	lazy  bool
	done  chan written // has room for the one answer; nil when nobody waits
}

// written is the answer to an operation.
type written struct {
	seq uint64 // 0 when there was nothing to do
	err error
}

// queue holds what was submitted and is not yet part of a batch, in order.
type queue struct {
	room *semaphore.Weighted
	wake chan struct{} // holds one: look again

	mu      sync.Mutex
	items   []item
	weight  int64
	urgent  int       // how many of items are not lazy
	since   time.Time // when the first of items came
	stopped error     // why nothing more is taken in
	last    bool      // nothing will ever come again
}

func newQueue() *queue {
	return &queue{room: semaphore.NewWeighted(waitingBytes), wake: make(chan struct{}, 1)}
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
	return min(int64(n), waitingBytes)
}

// submit waits for room and puts s at the end.
func (q *queue) submit(ctx context.Context, s *journal.Submission) error {
	weight := weigh(s)
	if !q.room.TryAcquire(weight) {
		if err := q.state(); err != nil {
			return err
		}
		if err := q.room.Acquire(ctx, weight); err != nil {
			return err
		}
	}
	err := q.push(item{submission: s, weight: weight, messages: len(s.Entries) + len(s.Puts)})
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
	if !i.lazy() {
		q.urgent++
	}
	q.mu.Unlock()
	q.poke()
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

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// take waits until something must be written and returns it. It returns false
// after the last.
func (q *queue) take() ([]item, bool) {
	for {
		q.mu.Lock()
		var clock <-chan time.Time
		if len(q.items) > 0 {
			wait := lazyWait - time.Since(q.since)
			if q.urgent > 0 || q.stopped != nil || q.weight > batchBytes || wait <= 0 {
				batch := q.takeLocked()
				q.mu.Unlock()
				return batch, true
			}
			clock = time.After(wait)
		}
		last := q.last && len(q.items) == 0
		q.mu.Unlock()
		if last {
			return nil, false
		}
		select {
		case <-q.wake:
		case <-clock:
		}
	}
}

// takeLocked takes what is one batch: the first item, and what fits beside it.
func (q *queue) takeLocked() []item {
	n, weight, messages := 0, int64(0), 0
	for n < len(q.items) {
		i := &q.items[n]
		if n > 0 && (i.alone() || messages+i.messages > batchMessages || weight+i.weight > batchBytes) {
			break
		}
		if !i.lazy() {
			q.urgent--
		}
		weight += i.weight
		messages += i.messages
		n++
		if i.alone() {
			break
		}
	}
	batch := append([]item(nil), q.items[:n]...)
	q.weight -= weight
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	return batch
}
