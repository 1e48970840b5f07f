package pebble

import (
	"sync"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
)

// release makes batches durable in order, until the appender ends: it waits
// for the sync, moves the tail, and tells everybody.
func (j *Journal) release() {
	defer close(j.released)
	var followers []*follower
	for {
		select {
		case b, ok := <-j.batches:
			if !ok {
				return
			}
			if b.syncing {
				if err := b.written.SyncWait(); err != nil {
					j.fail(err)
				}
			}
			if err := j.failed(); err != nil { // nothing is acknowledged any more, whatever this batch says
				j.refuse(b, err)
				continue
			}
			followers = j.publish(b, followers[:0])
		case <-j.arrived:
			followers = j.ring.grow(nil, j.ring.last(), followers[:0])
			for _, f := range followers {
				f.see(nil)
			}
		}
		clear(followers)
	}
}

// publish tells of a durable batch: first the tail and the readers, then
// those who wait, then the followers.
func (j *Journal) publish(b *batch, followers []*follower) []*follower {
	if b.syncing {
		killpoint.At(killpoint.Synced)
		j.syncs.Add(1)
	}
	if b.view != nil {
		j.views.show(b.view)
	}
	j.entries.Add(uint64(len(b.entries)))
	j.bytes.Add(b.bytes)
	followers = j.ring.grow(b.entries, b.tail, followers)
	if b.written != nil {
		_ = b.written.Close() // never fails
	}
	j.answer(b)
	for _, f := range followers {
		f.see(b.entries)
	}
	b.recycle()
	return followers
}

// refuse tells everybody that waits for the batch why it will never be durable.
func (j *Journal) refuse(b *batch, err error) {
	if b.view != nil {
		j.views.let(b.view)
	}
	for n := range b.items {
		b.items[n].result = journal.Result{Err: err}
	}
	j.answer(b)
}

func (j *Journal) answer(b *batch) {
	j.inFlight.Add(-int64(len(b.items)))
	j.queue.landed()
	j.queue.room.Release(b.weight)
	for n := range b.items {
		i := &b.items[n]
		switch {
		case i.operation != nil:
			if i.operation.done != nil {
				i.operation.done <- i.result.Err
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
