package jetstream

import (
	"slices"
	"sync"
	"unsafe"

	"holdline/broker/journal"
)

// ringEnd is the newest durable place and its time.
type ringEnd struct {
	journal.Cursor
	at int64 // Unix microseconds
}

// entryBytes is what an entry costs beside its bytes.
const entryBytes = int64(unsafe.Sizeof(journal.Entry{})) + 8

func cost(e *journal.Entry) int64 {
	return entryBytes + int64(len(e.Topic)+len(e.Payload)+len(e.Properties)+len(e.Client)+len(e.Refused)+len(e.Inbox))
}

// ring holds the newest entries and the tail, which change as one.
type ring struct {
	max int64

	mu        sync.RWMutex
	end       ringEnd
	floor     uint64           // it holds all entries after this one, up to end
	entries   []*journal.Entry // a ring: the oldest is at first
	first, n  int
	bytes     int64
	followers []*follower
}

func newRing(max int64, end ringEnd) *ring {
	return &ring{max: max, end: end, floor: end.Seq, entries: make([]*journal.Entry, 1024)}
}

func (r *ring) at(i int) *journal.Entry { return r.entries[(r.first+i)&(len(r.entries)-1)] }

// find returns the place of the first entry with a seq > after.
func (r *ring) find(after uint64) int {
	low, high := 0, r.n
	for low < high {
		mid := int(uint(low+high) >> 1)
		if r.at(mid).Seq <= after {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// last is the tail.
func (r *ring) last() ringEnd {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.end
}

func (r *ring) size() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bytes
}

// grow adds what became durable and forgets the oldest. It returns the
// followers that are to see it.
func (r *ring) grow(entries []*journal.Entry, end ringEnd, to []*follower) []*follower {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		if r.n == len(r.entries) {
			bigger := make([]*journal.Entry, 2*len(r.entries))
			for i := range r.n {
				bigger[i] = r.at(i)
			}
			r.entries, r.first = bigger, 0
		}
		r.entries[(r.first+r.n)&(len(r.entries)-1)] = e
		r.n++
		r.bytes += cost(e)
	}
	for r.bytes > r.max && r.n > 0 {
		r.dropLocked()
	}
	r.end = end
	for _, f := range r.followers {
		f.calls.Add(1)
		to = append(to, f)
	}
	return to
}

func (r *ring) dropLocked() {
	e := r.at(0)
	r.entries[r.first] = nil
	r.first = (r.first + 1) & (len(r.entries) - 1)
	r.n--
	r.bytes -= cost(e)
	r.floor = e.Seq
}

// cut forgets what is before seq.
func (r *ring) cut(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n > 0 && r.at(0).Seq < seq {
		r.dropLocked()
	}
	r.floor = max(r.floor, seq-1)
}

// remove takes out entries; seqs are sorted.
func (r *ring) remove(seqs []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := make([]*journal.Entry, len(r.entries))
	n, bytes := 0, int64(0)
	for i := range r.n {
		e := r.at(i)
		if _, gone := slices.BinarySearch(seqs, e.Seq); !gone {
			kept[n] = e
			bytes += cost(e)
			n++
		}
	}
	r.entries, r.first, r.n, r.bytes = kept, 0, n, bytes
}

// holds reports whether it holds everything after a place.
func (r *ring) holds(after uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return after >= r.floor
}

// get returns one entry, or nil.
func (r *ring) get(seq uint64) *journal.Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if i := r.find(seq - 1); i < r.n && r.at(i).Seq == seq {
		return r.at(i)
	}
	return nil
}

const (
	// lookBound is how many entries one read looks at.
	lookBound = 4096
	// lookHold is how many of them it looks at while it holds the ring.
	lookHold = 256
)

// look appends to found the entries after a place that match, at most limit. It
// returns how far it looked. ok is false when the ring begins later.
func (r *ring) look(found []*journal.Entry, after uint64, limit int, match func(*journal.Entry) bool) (_ []*journal.Entry, through uint64, ok bool) {
	through, ok = after, true
	for looked := 0; ok && looked < lookBound && len(found) < limit; looked += lookHold {
		place := through
		if found, through, ok = r.lookSome(found, place, limit, match); through == place {
			break
		}
	}
	return found, through, ok || through > after
}

func (r *ring) lookSome(found []*journal.Entry, after uint64, limit int, match func(*journal.Entry) bool) (_ []*journal.Entry, through uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if after < r.floor {
		return found, after, false
	}
	through = after
	i := r.find(after)
	for end := min(r.n, i+lookHold); i < end; i++ {
		if len(found) >= limit {
			return found, through, true
		}
		e := r.at(i)
		through = e.Seq
		if match(e) {
			found = append(found, e)
		}
	}
	if i == r.n {
		through = max(after, r.end.Seq)
	}
	return found, through, true
}
