package pebble

import (
	"context"
	"fmt"
	"sync"

	"holdline/chat"
)

// keptPlaces is how far each partition has been stored.
type keptPlaces struct {
	mu      sync.Mutex
	places  [chat.Partitions]uint64
	fresh   [chat.Partitions]bool // not yet part of a batch
	waiting bool                  // something will make the appender look
}

// restore reads the places that were written.
func (k *keptPlaces) restore(j *Journal) (err error) {
	for p := range k.places {
		if k.places[p], err = j.number(keptKey(p)); err != nil {
			return err
		}
	}
	return nil
}

func (k *keptPlaces) get(partition int) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.places[partition]
}

// set moves a place forward. It reports whether the appender must be told.
func (k *keptPlaces) set(partition int, seq uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if seq <= k.places[partition] {
		return false
	}
	k.places[partition], k.fresh[partition] = seq, true
	tell := !k.waiting
	k.waiting = true
	return tell
}

// take calls write for every place that is not yet part of a batch.
func (k *keptPlaces) take(write func(partition int, seq uint64) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.waiting {
		return nil
	}
	for p, fresh := range k.fresh {
		if !fresh {
			continue
		}
		if err := write(p, k.places[p]); err != nil {
			return err
		}
		k.fresh[p] = false
	}
	k.waiting = false
	return nil
}

// Keep implements journal.Journal.
func (j *Journal) Keep(ctx context.Context, partition int, seq uint64) error {
	if err := j.queue.state(); err != nil {
		return err
	}
	if partition < 0 || partition >= chat.Partitions {
		return fmt.Errorf("keep: there is no partition %d", partition)
	}
	if tail := j.Tail().Seq; seq > tail {
		return fmt.Errorf("keep partition %d: %d is past the tail %d", partition, seq, tail)
	}
	if j.kept.set(partition, seq) {
		return j.queue.push(item{operation: &operation{lazy: true}})
	}
	return ctx.Err()
}

// Kept implements journal.Journal.
func (j *Journal) Kept(ctx context.Context, partition int) (uint64, error) {
	if partition < 0 || partition >= chat.Partitions {
		return 0, fmt.Errorf("kept: there is no partition %d", partition)
	}
	if err := j.gate.enter(); err != nil {
		return 0, err
	}
	defer j.gate.leave()
	return j.kept.get(partition), ctx.Err()
}
