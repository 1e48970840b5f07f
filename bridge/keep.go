package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

// keepEvery bounds how often the journal is told how far input is stored.
const keepEvery = 200 * time.Millisecond

// keeper tells the journal how far each partition is stored, behind the
// committer's back: only the newest place matters, so nothing ever queues up.
type keeper struct {
	journal journal.Journal
	log     *slog.Logger
	wake    chan struct{}
	done    chan struct{} // closed when the committer has ended

	mu      sync.Mutex
	pending [chat.Partitions]uint64
}

func newKeeper(c Config) *keeper {
	return &keeper{journal: c.Journal, log: c.Log, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// stored notes a place that is committed.
func (k *keeper) stored(partition int, seq uint64) {
	k.mu.Lock()
	k.pending[partition] = seq
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// work passes places on until done is closed, and then the last ones.
func (k *keeper) work(ctx context.Context) {
	for {
		select {
		case <-k.wake:
			k.pass(ctx)
		case <-k.done:
			k.pass(ctx)
			return
		}
		select {
		case <-time.After(keepEvery):
		case <-k.done:
		}
	}
}

func (k *keeper) pass(ctx context.Context) {
	k.mu.Lock()
	pending := k.pending
	k.pending = [chat.Partitions]uint64{}
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for p, seq := range pending {
		if seq == 0 {
			continue
		}
		if err := k.journal.Keep(ctx, p, seq); err != nil {
			k.log.Warn("journal not told what is stored", "partition", p, "seq", seq, "err", err)
		}
	}
}
