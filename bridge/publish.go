package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strconv"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
	"holdline/chat"
	"holdline/storage"
)

const (
	publishWorkers = 4         // partitions in flight at once
	publishEvents  = 500       // events read at once
	publishBytes   = 512 << 10 // of one submission
	// markAfter is how long published events may wait to be marked. Nobody waits
	// for the mark: it spares a later publisher the work of appending again what the
	// journal has, and gathering them spares storage most of the transactions.
	markAfter = 100 * time.Millisecond
	markMost  = 250 // events that wait to be marked
)

// partitionSet has one bit for each partition.
type partitionSet uint32

const allPartitions partitionSet = 1<<chat.Partitions - 1

func (s partitionSet) has(p int) bool { return s&(1<<p) != 0 }

// hintFor is the payload of the wake-up for those inboxes: which partitions to look
// at, nil when none.
func hintFor(inboxes []chat.Inbox) []byte {
	var s partitionSet
	for _, i := range inboxes {
		s |= 1 << i.Slot().Partition()
	}
	if s == 0 {
		return nil
	}
	return fmt.Appendf(nil, "%04x", uint32(s))
}

// hintOf reads a wake-up. One that says nothing means every partition.
func hintOf(payload []byte) partitionSet {
	n, err := strconv.ParseUint(string(payload), 16, chat.Partitions)
	if err != nil || n == 0 {
		return allPartitions
	}
	return partitionSet(n)
}

// publisher appends the events of the partitions it holds to the inboxes in the
// journal, each inbox in the order of its numbers. A partition is worked on
// by one goroutine at a time; several partitions are in flight at once.
type publisher struct {
	journal journal.Journal
	store   storage.Store
	log     *slog.Logger
	now     func() time.Time
	leases  *leases
	figures *figures
	// markAfter is how long an event may be in the journal and not marked.
	markAfter time.Duration

	wake    chan struct{} // one token for a worker each
	marks   chan struct{} // holds one: something waits to be marked
	closing chan struct{} // closed when nothing more will be committed

	mu    sync.Mutex
	dirty partitionSet // to look at
	due   partitionSet // to mark
	busy  partitionSet // somebody is at it
	next  int          // where take looks first, so that each has its turn

	// streams are the partitions; the one who set the busy bit owns it.
	streams [chat.Partitions]stream

	gapMu   sync.Mutex
	renewed time.Time // when a gap last began a new incarnation
}

// stream is the publisher's place in one partition.
type stream struct {
	lease   holding
	pending []storage.Event       // in the journal, not yet marked
	sent    map[chat.Inbox]uint64 // the last number among them
	failing backoff
}

func newPublisher(c Config, l *leases, f *figures) *publisher {
	return &publisher{
		journal: c.Journal, store: c.Store, log: c.Log, now: c.Now, leases: l, figures: f, markAfter: markAfter,
		wake: make(chan struct{}, publishWorkers), marks: make(chan struct{}, 1), closing: make(chan struct{}),
	}
}

// mark asks for a look at partitions that may have something to publish.
func (p *publisher) mark(s partitionSet) {
	p.mu.Lock()
	p.dirty |= s
	p.mu.Unlock()
	p.rouse(bits.OnesCount32(uint32(s)))
}

// rouse wakes workers; a full channel means that all of them will look anyway.
func (p *publisher) rouse(workers int) {
	for range min(workers, publishWorkers) {
		select {
		case p.wake <- struct{}{}:
		default:
			return
		}
	}
}

// take gives a worker a partition nobody else is at; ok is false when there is nothing to do.
func (p *publisher) take() (partition int, look, mark, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range chat.Partitions {
		n := p.next % chat.Partitions
		p.next++
		if bit := partitionSet(1) << n; (p.dirty|p.due)&bit&^p.busy != 0 {
			look, mark = p.dirty.has(n), p.due.has(n)
			p.dirty, p.due, p.busy = p.dirty&^bit, p.due&^bit, p.busy|bit
			return n, look, mark, true
		}
	}
	return 0, false, false, false
}

// release ends what take began.
func (p *publisher) release(partition int, again bool) {
	bit := partitionSet(1) << partition
	p.mu.Lock()
	p.busy &^= bit
	if again {
		p.dirty |= bit
	}
	again = (p.dirty|p.due)&bit != 0
	p.mu.Unlock()
	if again {
		p.rouse(1)
	}
}

// work publishes until ctx ends, or until nothing is left once closing is closed.
func (p *publisher) work(ctx context.Context) error {
	for ctx.Err() == nil {
		n, look, mark, ok := p.take()
		if ok {
			again, err := p.partition(ctx, n, look, mark)
			if gone(err) {
				p.release(n, false)
				return err
			}
			if err != nil && ctx.Err() == nil {
				p.figures.failed(p.now())
				pause := p.streams[n].failing.pause()
				p.log.WarnContext(ctx, "events not published, trying again", "partition", n, "err", err, "pause", pause)
				sleep(ctx, pause)
			} else {
				p.streams[n].failing.reset()
			}
			p.release(n, again || err != nil)
			continue
		}
		if p.closed() {
			return nil // what is left, if anything, has somebody at it
		}
		select {
		case <-p.wake:
		case <-p.closing:
		case <-ctx.Done():
		}
	}
	return nil
}

// tend looks at everything once a second, in case a wake-up was lost, and has
// published events marked in time.
func (p *publisher) tend(ctx context.Context) {
	net := time.NewTicker(pollEvery)
	defer net.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-net.C:
			p.mark(allPartitions)
		case <-p.marks:
			if due == nil {
				due = time.After(p.markAfter)
			}
		case <-due:
			due = nil
			p.markDue()
		case <-p.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *publisher) markDue() {
	p.mu.Lock()
	p.due = allPartitions
	p.mu.Unlock()
	p.rouse(publishWorkers)
}

// close has the workers end when everything is published and marked. Nothing
// may be committed after it.
func (p *publisher) close() {
	p.mu.Lock()
	p.dirty, p.due = allPartitions, allPartitions
	p.mu.Unlock()
	close(p.closing)
}

func (p *publisher) closed() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// partition publishes what one partition has, and marks what it published;
// again is true when there is more.
func (p *publisher) partition(ctx context.Context, n int, look, mark bool) (again bool, err error) {
	s := &p.streams[n]
	lease, ok := p.leases.get(kindPublish, n)
	if !ok || lease.Epoch != s.lease.Epoch {
		s.pending, s.sent = nil, map[chat.Inbox]uint64{} // the next holder finds in the journal what we did
	}
	if !ok {
		return false, nil
	}
	s.lease = lease
	ctx, cancel := p.leases.bound(ctx, lease)
	defer cancel()
	if look {
		again, err = p.publish(ctx, n, s)
	}
	if mark || again || len(s.pending) >= markMost || p.closed() {
		err = errors.Join(err, p.markPublished(ctx, s))
	}
	if len(s.pending) > 0 {
		select {
		case p.marks <- struct{}{}:
		default:
		}
	}
	return again, err
}

// publish appends the next events that are not in the journal yet; full is
// true when there may be more than were read.
func (p *publisher) publish(ctx context.Context, n int, s *stream) (full bool, err error) {
	events, err := p.store.Unpublished(ctx, n, publishEvents)
	if err != nil {
		return false, fmt.Errorf("unpublished: %w", err)
	}
	full = len(events) == publishEvents
	var fresh []storage.Event
	for _, e := range events {
		if e.N > s.sent[e.Inbox] {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return full, nil
	}
	// Read after the events: whoever stored them under a new incarnation began that first.
	incarnation, err := p.store.Incarnation(ctx)
	if err != nil {
		return full, fmt.Errorf("incarnation: %w", err)
	}
	appended, gaps, err := p.append(ctx, incarnation, fresh)
	for _, e := range appended {
		s.pending, s.sent[e.Inbox] = append(s.pending, e), e.N
	}
	p.figures.published.Add(uint64(len(appended)))
	if len(appended) > 0 {
		killpoint.At(killpoint.EventsAppended)
	}
	if err != nil {
		return full, fmt.Errorf("append events: %w", err)
	}
	for _, e := range gaps {
		p.log.ErrorContext(ctx, "journal and storage disagree about what an inbox was told", "inbox", e.Inbox.String(), "event", e.N)
	}
	if len(gaps) > 0 {
		return full, p.renew(ctx, incarnation)
	}
	return full, nil
}

// renew answers events that do not continue what the journal has of their inbox.
// That is so when the journal lost what it had made durable, or events were removed
// from storage before they were published; what is missing in between cannot be put in its place any more. A
// new incarnation begins every inbox anew: its readers sync, and live events go on.
// Other inboxes of the partition have been published by then.
func (p *publisher) renew(ctx context.Context, incarnation string) error {
	p.gapMu.Lock()
	recent := !p.renewed.IsZero() && time.Since(p.renewed) < time.Minute
	if !recent {
		p.renewed = time.Now()
	}
	p.gapMu.Unlock()
	if recent { // every client has to sync for it: not in a row
		return errors.New("gap in an inbox")
	}
	is, err := p.store.Renew(ctx, incarnation)
	if err != nil {
		return fmt.Errorf("renew the incarnation: %w", err)
	}
	p.log.WarnContext(ctx, "incarnation begun; clients will sync anew", "incarnation", is)
	return errors.New("gap in an inbox") // what is left is read again
}

// markPublished tells storage what is in the journal.
func (p *publisher) markPublished(ctx context.Context, s *stream) error {
	if len(s.pending) == 0 {
		return nil
	}
	switch err := p.store.Published(ctx, s.lease.Lease, s.pending); {
	case errors.Is(err, storage.ErrFenced):
		return errors.Join(err, p.leases.verify(ctx, s.lease))
	case err != nil:
		return fmt.Errorf("mark published: %w", err)
	}
	killpoint.At(killpoint.EventsMarked)
	s.pending, s.sent = nil, map[chat.Inbox]uint64{}
	return nil
}
