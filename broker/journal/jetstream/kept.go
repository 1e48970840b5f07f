package jetstream

import (
	"context"
	"fmt"
	"sync"

	"holdline/broker/journal"
	"holdline/chat"
)

// keptPlaces is how far each partition has been stored, by this process or another.
type keptPlaces struct {
	mu     sync.Mutex
	places [chat.Partitions]uint64
	fresh  [chat.Partitions]bool // not yet written
	told   bool                  // something will make the appender look
}

func (k *keptPlaces) get(partition int) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.places[partition]
}

// set moves a place forward that is to be written. It reports whether the appender
// must be told.
func (k *keptPlaces) set(partition int, seq uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if seq <= k.places[partition] {
		return false
	}
	k.places[partition], k.fresh[partition] = seq, true
	tell := !k.told
	k.told = true
	return tell
}

// heard moves a place forward that was found in the stream.
func (k *keptPlaces) heard(partition int, seq uint64) {
	if partition < 0 || partition >= chat.Partitions {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if seq >= k.places[partition] {
		k.places[partition], k.fresh[partition] = seq, false
	}
}

// waiting returns the places to be written.
func (k *keptPlaces) waiting() map[int]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.told {
		return nil
	}
	all := map[int]uint64{}
	for p, fresh := range k.fresh {
		if fresh {
			all[p] = k.places[p]
		}
	}
	k.told = len(all) > 0
	return all
}

// written says that a place needs no writing any more.
func (k *keptPlaces) written(partition int, seq uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.places[partition] <= seq {
		k.fresh[partition] = false
	}
	k.told = false
	for _, fresh := range k.fresh {
		k.told = k.told || fresh
	}
}

// Keep implements journal.Journal.
func (j *Journal) Keep(ctx context.Context, partition int, seq uint64) error {
	if err := j.queue.state(); err != nil {
		return err
	}
	if partition < 0 || partition >= chat.Partitions {
		return fmt.Errorf("keep: there is no partition %d", partition)
	}
	if seq > j.Tail().Seq {
		// Somebody else may have read further than this process.
		if err := j.catchUp(ctx); err != nil {
			return fmt.Errorf("keep partition %d: %w", partition, err)
		}
		if tail := j.Tail().Seq; seq > tail {
			return fmt.Errorf("keep partition %d: %d is past the tail %d", partition, seq, tail)
		}
	}
	if j.kept.set(partition, seq) {
		return j.queue.push(item{operation: &operation{lazy: true}})
	}
	return ctx.Err()
}

// Kept implements journal.Journal. When it returns, the tail of this process has
// reached all that was durable when it was called, in whatever process.
func (j *Journal) Kept(ctx context.Context, partition int) (uint64, error) {
	if partition < 0 || partition >= chat.Partitions {
		return 0, fmt.Errorf("kept: there is no partition %d", partition)
	}
	if err := j.gate.enter(); err != nil {
		return 0, err
	}
	defer j.gate.leave()
	if err := j.catchUp(ctx); err != nil {
		return 0, fmt.Errorf("kept: %w", err)
	}
	return j.kept.get(partition), nil
}

// catchUp waits until the tail has reached all that is durable now.
func (j *Journal) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, j.patience)
	defer cancel()
	seq, err := j.fetch.leaderLast(ctx, j.names.entries())
	if err != nil {
		return err
	}
	return j.tail.reach(ctx, seq)
}

var _ journal.Journal = (*Journal)(nil)
