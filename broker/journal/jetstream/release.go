package jetstream

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
)

// event is what the releaser is told; one field is set.
type event struct {
	begin   *attempt // it may be in the stream from now on
	done    *batch   // it was written, or not
	barrier *barrier
}

// barrier asks for everything up to a place that the tail has received.
type barrier struct {
	place uint64
	dealt chan struct{} // closed when all that is made known
}

// heldMessages is how much may be received and not made known before the
// releaser receives no more.
const heldMessages = 8192

// releaser makes known what the tail has reached, in the order of the stream.
// One goroutine owns it.
type releaser struct {
	j        *Journal
	current  *attempt // the last that was begun, while its outcome is open
	began    map[uint64]*attempt
	waiting  []*batch // done, and not yet told
	held     []stored // received, and not yet made known
	passed   uint64   // the tail has passed everything up to it
	at       int64    // the newest time, Unix microseconds
	barriers []*barrier
	fresh    []*journal.Entry // made known, and not yet shown
	to       []*follower
}

// run deals with events until the appender has ended and all is told.
func (r *releaser) run() {
	defer close(r.j.released)
	r.began = map[uint64]*attempt{}
	appended, failing := r.j.appended, r.j.failing
	var patience <-chan time.Time
	for {
		messages := r.j.tail.messages
		if len(r.held) >= heldMessages {
			messages = nil
		}
		select {
		case m := <-messages:
			r.receive(m)
			r.drain()
		case e := <-r.j.events:
			r.take(e)
		case <-r.j.arrived:
			r.show(r.j.ring.last())
			continue
		case <-failing:
			failing = nil
		case <-appended:
			appended, patience = nil, time.After(r.j.patience)
		case <-patience:
			r.j.fail(errors.New("the tail does not reach what was written"))
		}
		r.flush()
		if appended == nil && len(r.waiting) == 0 {
			return
		}
	}
}

// drain receives what is there.
func (r *releaser) drain() {
	for n := len(r.j.tail.messages); n > 0; n-- {
		r.receive(<-r.j.tail.messages)
	}
}

func (r *releaser) take(e event) {
	switch {
	case e.begin != nil:
		if r.current != nil {
			delete(r.began, r.current.number) // it was not written, and never will be
		}
		r.current = e.begin
		r.began[e.begin.number] = e.begin
	case e.done != nil:
		if r.current != nil && r.current != e.done.attempt {
			delete(r.began, r.current.number)
		}
		r.current = nil
		r.waiting = append(r.waiting, e.done)
	case e.barrier != nil:
		r.drain()
		r.barriers = append(r.barriers, e.barrier)
	}
}

// receive takes a message from the tail.
func (r *releaser) receive(s stored) {
	r.passed = s.seq
	r.held = append(r.held, s)
}

// flush makes known what can be: everything before the first entry of our own
// whose batch is not done.
func (r *releaser) flush() {
	n := 0
	for {
		for r.tell(r.held[n:]) {
		}
		if n == len(r.held) || r.blocked(&r.held[n]) {
			break
		}
		r.know(&r.held[n])
		n++
	}
	rest := copy(r.held, r.held[n:])
	clear(r.held[rest:])
	r.held = r.held[:rest]
	r.publish()
	r.barriers = slices.DeleteFunc(r.barriers, func(b *barrier) bool {
		if len(r.held) > 0 && r.held[0].seq <= b.place {
			return false
		}
		close(b.dealt)
		return true
	})
}

// blocked reports whether a message must wait: its batch is one of ours, and
// nobody has said yet that it is durable, or one before it is not told.
func (r *releaser) blocked(s *stored) bool {
	if s.process != r.j.process {
		return false
	}
	a := r.began[s.batch]
	if a == nil || len(a.entries) == 0 {
		return false
	}
	return len(r.waiting) == 0 || r.waiting[0].attempt != a || r.passed < r.waiting[0].lastEntry()
}

// know puts a message where readers will find it.
func (r *releaser) know(s *stored) {
	if at := s.at.UnixMicro(); at > r.at {
		r.at = at
	}
	if s.entry.Topic == "" {
		r.learn(s)
		return
	}
	e := &s.entry
	e.Seq, e.At = s.seq, time.UnixMicro(r.at).UTC()
	r.fresh = append(r.fresh, e)
	if s.process == r.j.process && len(r.waiting) > 0 && r.waiting[0].attempt != nil && r.waiting[0].number == s.batch {
		a := r.waiting[0].attempt
		if n, ok := slices.BinarySearch(a.places, int(s.place)); ok {
			a.entries[n].Seq, a.entries[n].At, a.seen[n] = e.Seq, e.At, true
		}
	}
}

// learn takes in what the journal says about itself.
func (r *releaser) learn(s *stored) {
	j := r.j
	partition, kept := j.names.partitionOf(s.subject)
	switch {
	case s.subject == j.names.epoch():
		r.publish()
		end := j.ring.last()
		end.Epoch = s.epoch
		r.show(end)
	case s.subject == j.names.state():
		j.learnState(s.body)
	case kept:
		p, err := strconv.Atoi(partition)
		if err == nil {
			j.kept.heard(p, s.kept)
		}
	case len(s.filters) > 0:
		r.publish()
		j.forget(erasure{before: s.seq, match: newMatcher(s.filters)})
	}
}

// tell answers the first batch that waits, when all of it is known. held is what
// is not.
func (r *releaser) tell(held []stored) bool {
	if len(r.waiting) == 0 {
		return false
	}
	b := r.waiting[0]
	if err := r.j.failed(); err != nil {
		for n := range b.items {
			b.items[n].result = journal.Result{Err: err}
		}
	} else if a := b.attempt; a != nil && len(a.entries) > 0 {
		if last := b.lastEntry(); r.passed < last || len(held) > 0 && held[0].seq <= last {
			return false
		}
		for n, e := range a.entries {
			if !a.seen[n] { // somebody has erased it already
				e.Seq, e.At = b.base()+1+uint64(a.places[n]), time.UnixMicro(r.at).UTC()
			}
		}
	}
	if b.attempt != nil {
		delete(r.began, b.number)
	}
	r.waiting = r.waiting[1:]
	r.grow()
	r.answer(b)
	r.see()
	return true
}

// publish shows what was made known and belongs to no batch of ours.
func (r *releaser) publish() {
	r.grow()
	r.see()
}

// grow moves the tail.
func (r *releaser) grow() {
	if len(r.fresh) == 0 {
		return
	}
	end := r.j.ring.last()
	end.Seq, end.at = r.fresh[len(r.fresh)-1].Seq, r.at
	r.to = r.j.ring.grow(r.fresh, end, r.to[:0])
}

// see shows the followers what the tail has moved over.
func (r *releaser) see() {
	if len(r.fresh) == 0 {
		return
	}
	for _, f := range r.to {
		f.see(r.fresh)
	}
	clear(r.to)
	r.fresh = nil
}

// show sets the tail, and shows the followers what they have not seen.
func (r *releaser) show(end ringEnd) {
	r.to = r.j.ring.grow(nil, end, r.to[:0])
	for _, f := range r.to {
		f.see(nil)
	}
	clear(r.to)
}

// answer tells everybody that waits for the batch what became of it.
func (r *releaser) answer(b *batch) {
	j := r.j
	if b.last > 0 && b.attempt != nil && j.failed() == nil {
		killpoint.At(killpoint.Synced)
		j.syncs.Add(1)
		j.entries.Add(uint64(len(b.entries)))
		for _, e := range b.entries {
			j.bytes.Add(uint64(len(e.Payload)))
		}
	}
	j.inFlight.Add(-int64(len(b.items)))
	j.queue.room.Release(b.weight)
	<-j.slots
	for n := range b.items {
		i := &b.items[n]
		switch {
		case i.operation != nil:
			if i.operation.done != nil {
				i.operation.done <- written{b.last, i.result.Err}
			}
		case i.submission.Done != nil:
			i.submission.Done(i.result)
		}
	}
}

// follower is one Follow.
type follower struct {
	fn func([]*journal.Entry)
	// backlog is what it has not seen from before it was there; from is the place
	// it wants to begin after, when that is still to come. The releaser owns both
	// once the follower is listed.
	backlog []*journal.Entry
	from    uint64
	calls   sync.WaitGroup // of fn, only added to while it is listed
}

func (f *follower) see(entries []*journal.Entry) {
	defer f.calls.Done()
	if len(f.backlog) > 0 {
		f.fn(f.backlog)
		f.backlog = nil
	}
	for len(entries) > 0 && entries[0].Seq <= f.from {
		entries = entries[1:]
	}
	if len(entries) > 0 {
		f.fn(entries)
	}
}

// Follow implements journal.Journal.
func (j *Journal) Follow(after uint64, fn func([]*journal.Entry)) (stop func(), err error) {
	if err := j.gate.enter(); err != nil {
		return nil, err
	}
	defer j.gate.leave()
	f := &follower{fn: fn, from: after}
	if !j.ring.follow(f) {
		return nil, journal.ErrTruncated
	}
	select {
	case j.arrived <- struct{}{}:
	default:
	}
	return func() {
		j.ring.unfollow(f)
		f.calls.Wait()
	}, nil
}

// follow lists f, which begins after f.from. It returns false when the ring begins later.
func (r *ring) follow(f *follower) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.from < r.floor {
		return false
	}
	for i := r.find(f.from); i < r.n; i++ {
		f.backlog = append(f.backlog, r.at(i))
	}
	r.followers = append(r.followers, f)
	return true
}

func (r *ring) unfollow(f *follower) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, g := range r.followers {
		if g == f {
			r.followers[i] = r.followers[len(r.followers)-1]
			r.followers[len(r.followers)-1] = nil
			r.followers = r.followers[:len(r.followers)-1]
			return
		}
	}
}
