package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

// erasure is what somebody erased: the entries before a place that match.
type erasure struct {
	before uint64
	match  *matcher
}

// erasures are what was erased lately: a server that is late may still have it.
type erasures struct {
	mu   sync.RWMutex
	list []erasure
}

// erasuresKept is how many are remembered.
const erasuresKept = 256

func (es *erasures) add(e erasure) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if es.list = append(es.list, e); len(es.list) > erasuresKept {
		es.list = slices.Clone(es.list[1:])
	}
}

func (es *erasures) cover(e *journal.Entry) bool {
	es.mu.RLock()
	defer es.mu.RUnlock()
	return slices.ContainsFunc(es.list, func(was erasure) bool { return e.Seq < was.before && was.match.match(e) })
}

// forget takes what was erased out of the ring.
func (j *Journal) forget(e erasure) {
	j.erased.add(e)
	if j.ring == nil {
		return
	}
	var gone []uint64
	j.ring.mu.RLock()
	for i := range j.ring.n {
		if entry := j.ring.at(i); entry.Seq < e.before && e.match.match(entry) {
			gone = append(gone, entry.Seq)
		}
	}
	j.ring.mu.RUnlock()
	if len(gone) > 0 {
		j.ring.remove(gone)
	}
}

// Renew implements journal.Journal.
func (j *Journal) Renew(ctx context.Context) (journal.Cursor, error) {
	if err := j.gate.enter(); err != nil {
		return journal.Cursor{}, err
	}
	defer j.gate.leave()
	_, err := j.do(ctx, func(context.Context) (*message, error) {
		m := j.epochMessage(mark{}, j.Tail().Epoch)
		m.data = appendNumber(nil, fieldEpoch, newEpoch(j.Tail().Epoch))
		return m, nil
	})
	return j.Tail(), err
}

// Erase implements journal.Journal. It first writes down what is erased, so that
// every process forgets it, and then removes what was written before that.
func (j *Journal) Erase(ctx context.Context, filters []journal.Filter, recordPrefixes []string) error {
	if err := j.gate.enter(); err != nil {
		return err
	}
	defer j.gate.leave()
	if len(filters) > 0 {
		if err := j.eraseEntries(ctx, filters); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
	}
	for _, prefix := range recordPrefixes {
		if err := j.eraseRecords(ctx, prefix); err != nil {
			return fmt.Errorf("erase records: %w", err)
		}
	}
	return nil
}

func (j *Journal) eraseEntries(ctx context.Context, filters []journal.Filter) error {
	id := strconv.FormatUint(newEpoch(0), 36)
	before, err := j.do(ctx, func(ctx context.Context) (*message, error) {
		data := appendNumber(nil, fieldTail, j.known.Load())
		for _, f := range filters {
			data = appendBytes(data, fieldFilter, f)
		}
		return &message{subject: j.names.erased(id), data: data, ttl: tombstone}, nil
	})
	if err != nil {
		return err
	}
	if err := j.holdTail(ctx); err != nil {
		return err
	}
	for _, f := range filters {
		subject, exact := j.names.filter(f)
		if exact {
			if err := j.fetch.purge(ctx, subject, before); err != nil {
				return err
			}
			continue
		}
		m := newMatcher([]journal.Filter{f})
		for after := uint64(0); after < before; {
			found, err := j.fetch.next(ctx, subject, after+1, before, pageMessages)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				break
			}
			for n := range found {
				s := &found[n]
				if after = s.seq; m.match(&s.entry) {
					if err := j.fetch.remove(ctx, s.seq); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// holdTail writes down how far the journal reached, so that its numbers do not
// seem to go back when the newest entries are removed.
func (j *Journal) holdTail(ctx context.Context) error {
	_, err := j.changeState(ctx, func(oldest uint64) uint64 { return oldest })
	return err
}

// changeState writes the journal's state: the oldest entry kept, which only grows.
func (j *Journal) changeState(ctx context.Context, oldest func(uint64) uint64) (uint64, error) {
	return j.do(ctx, func(ctx context.Context) (*message, error) {
		found, err := j.fetch.last(ctx, j.known.Load(), []string{j.names.state()})
		if err != nil {
			return nil, err
		}
		is, seq := uint64(1), uint64(0)
		for _, s := range found {
			if s.subject == j.names.state() {
				is, seq = s.oldest, s.seq
			}
		}
		next := max(is, oldest(is))
		data := appendNumber(nil, fieldOldest, next)
		data = appendNumber(data, fieldTail, j.Tail().Seq)
		return &message{subject: j.names.state(), data: data, rollup: true, conditional: true, expect: seq}, nil
	})
}

// learnState takes in the journal's state.
func (j *Journal) learnState(b *body) {
	for {
		was := j.oldest.Load()
		if b.oldest <= was {
			return
		}
		if j.oldest.CompareAndSwap(was, b.oldest) {
			break
		}
	}
	if j.ring != nil {
		j.ring.cut(b.oldest)
	}
}

// askState takes in the journal's state as it is in the stream.
func (j *Journal) askState(ctx context.Context) error {
	found, err := j.fetch.last(ctx, j.known.Load(), []string{j.names.state()})
	for _, s := range found {
		if s.subject == j.names.state() && s.oldest > j.oldest.Load() {
			j.learnState(s.body)
		}
	}
	return err
}

func (j *Journal) eraseRecords(ctx context.Context, prefix string) error {
	all, err := j.records(ctx, prefix)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(all, 500) {
		done := make(chan error, 1)
		s := &journal.Submission{Done: func(r journal.Result) { done <- r.Err }}
		for _, r := range some {
			s.Puts = append(s.Puts, journal.Put{Key: r.Key, If: journal.AnyVersion})
		}
		if err := j.queue.submit(ctx, s); err != nil {
			return err
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Retain implements journal.Journal.
func (j *Journal) Retain(ctx context.Context, before time.Time) error {
	if err := j.gate.enter(); err != nil {
		return err
	}
	defer j.gate.leave()
	cut, err := j.cut(ctx, before)
	if err != nil {
		return fmt.Errorf("retain: %w", err)
	}
	// Nothing is older than the first entry that there is.
	first, err := j.fetch.next(ctx, j.names.entries(), 1, cut-1, 1)
	if err != nil {
		return fmt.Errorf("retain: %w", err)
	}
	if len(first) == 0 {
		return nil
	}
	_, err = j.changeState(ctx, func(uint64) uint64 { return cut })
	full := errors.Is(err, journal.ErrFull)
	if err != nil && !full {
		return fmt.Errorf("retain: %w", err)
	}
	if err := j.fetch.purge(ctx, j.names.entries(), cut); err != nil {
		return fmt.Errorf("retain: %w", err)
	}
	if full { // there was no room to say so before
		if _, err := j.changeState(ctx, func(uint64) uint64 { return cut }); err != nil {
			return fmt.Errorf("retain: %w", err)
		}
	}
	return nil
}

// cut is the place before which everything may go: it is old, and Keep does
// not protect it.
func (j *Journal) cut(ctx context.Context, before time.Time) (uint64, error) {
	last, err := j.fetch.leaderLast(ctx, j.names.entries())
	if err != nil {
		return 0, err
	}
	if err := j.tail.reach(ctx, last); err != nil {
		return 0, err
	}
	cut := j.Tail().Seq + 1
	young, ok, err := j.fetch.since(ctx, before)
	if err != nil {
		return 0, err
	}
	if ok {
		cut = min(cut, young)
	} else if last > 0 {
		// All is old, or the server that said so is late.
		found, err := j.fetch.next(ctx, j.names.entries(), last, last, 1)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 && !found[0].at.Before(before) {
			return 0, errors.New("a server is behind; try again")
		}
	}
	for p := range chat.Partitions {
		input, err := j.fetch.next(ctx, j.names.partition(p), j.kept.get(p)+1, cut-1, 1)
		if err != nil {
			return 0, err
		}
		if len(input) > 0 {
			cut = min(cut, input[0].seq)
		}
	}
	return cut, nil
}
