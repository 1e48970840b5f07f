package memory

import (
	"sync"

	"holdline/broker/journal"
)

// follower is one Follow.
type follower struct {
	after uint64
	fn    func([]*journal.Entry)
	calls sync.WaitGroup // of fn; only added to while the follower is in the list
}

// Follow implements journal.Journal. Everything that is kept is "in memory" here.
func (j *Journal) Follow(after uint64, fn func([]*journal.Entry)) (stop func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return nil, journal.ErrClosed
	}
	if after+1 < j.disk.oldest {
		return nil, journal.ErrTruncated
	}
	f := &follower{after: after, fn: fn}
	j.followers = append(j.followers, f)
	j.poke()
	return func() {
		j.mu.Lock()
		for i, g := range j.followers {
			if g == f {
				j.followers = append(append([]*follower(nil), j.followers[:i]...), j.followers[i+1:]...)
				break
			}
		}
		j.mu.Unlock()
		f.calls.Wait()
	}, nil
}

// greet brings every follower to the tail.
func (j *Journal) greet() {
	type call struct {
		*follower
		entries []*journal.Entry
	}
	var calls []call
	j.mu.Lock()
	for _, f := range j.followers {
		if entries := j.disk.after(f.after); len(entries) > 0 {
			f.after = j.disk.seq
			f.calls.Add(1)
			calls = append(calls, call{f, entries})
		}
	}
	j.mu.Unlock()
	for _, c := range calls {
		c.fn(c.entries)
		c.calls.Done()
	}
}
