package bridge

import (
	"errors"
	"sync/atomic"

	"holdline/broker/journal"
	"holdline/chat"
)

// input knows how far each partition reaches, from the journal's own tail, and
// wakes the committer. It holds no entries: those are read when they are stored.
type input struct {
	newest [chat.Partitions]atomic.Uint64 // seq of the newest entry seen
	wake   chan struct{}
}

func newInput() *input { return &input{wake: make(chan struct{}, 1)} }

// signal wakes the committer; one signal that waits stands for all.
func (i *input) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// follow watches the journal from its tail on.
func (i *input) follow(j journal.Journal) (stop func(), err error) {
	for range 10 { // the tail may run past the ring between the two calls
		stop, err = j.Follow(j.Tail().Seq, i.see)
		if !errors.Is(err, journal.ErrTruncated) {
			break
		}
	}
	return stop, err
}

func (i *input) see(entries []*journal.Entry) {
	found := false
	for _, e := range entries {
		if e.Partition >= 0 && e.Partition < chat.Partitions {
			i.newest[e.Partition].Store(e.Seq)
			found = true
		}
	}
	if found {
		i.signal()
	}
}
