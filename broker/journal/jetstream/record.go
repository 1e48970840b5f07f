package jetstream

import (
	"context"
	"slices"
	"strings"

	"holdline/broker/journal"
)

// Inbox implements journal.Journal.
func (j *Journal) Inbox(ctx context.Context, inbox string) (uint64, error) {
	if err := j.gate.enter(); err != nil {
		return 0, err
	}
	defer j.gate.leave()
	found, err := j.fetch.last(ctx, j.known.Load(), []string{j.names.inbox(inbox)})
	last, at := uint64(0), uint64(0)
	for _, s := range found {
		if s.entry.Inbox == inbox && s.seq > at {
			last, at = s.entry.Event, s.seq
		}
	}
	return last, err
}

// Record implements journal.Journal.
func (j *Journal) Record(ctx context.Context, key string) (r journal.Record, ok bool, err error) {
	if err := j.gate.enter(); err != nil {
		return r, false, err
	}
	defer j.gate.leave()
	found, err := j.fetch.last(ctx, j.known.Load(), []string{j.names.record(key)})
	if err != nil {
		return r, false, err
	}
	for _, s := range found {
		if s.key != key {
			continue
		}
		j.reached(s.seq)
		if s.process != j.process { // the stream has what its writer had seen before the record
			if err := j.tail.reach(ctx, s.seq); err != nil {
				return r, false, err
			}
		}
		if !s.deleted {
			r, ok = s.record(), true
		}
	}
	return r, ok, nil
}

func (s *stored) record() journal.Record {
	r := journal.Record{Key: s.key, Value: s.value, Version: s.seq - s.offset}
	if r.Value == nil {
		r.Value = []byte{}
	}
	return r
}

// Records implements journal.Journal. It holds all that it finds in memory.
func (j *Journal) Records(ctx context.Context, prefix string, fn func(journal.Record) error) error {
	all, err := j.records(ctx, prefix)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) records(ctx context.Context, prefix string) ([]journal.Record, error) {
	if err := j.gate.enter(); err != nil {
		return nil, err
	}
	defer j.gate.leave()
	filter := j.names.recordsUnder(prefix)
	byKey := map[string]journal.Record{}
	last := uint64(0)
	// A record that is written meanwhile moves to the end, and is found there.
	end := j.known.Load()
	if seq, err := j.fetch.leaderLast(ctx, filter); err != nil {
		return nil, err
	} else if seq > end {
		end = seq
	}
	for last < end {
		found, err := j.fetch.next(ctx, filter, last+1, ^uint64(0), pageMessages)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			break
		}
		for n := range found {
			s := &found[n]
			last = s.seq
			switch {
			case !strings.HasPrefix(s.key, prefix):
			case s.deleted:
				delete(byKey, s.key)
			default:
				byKey[s.key] = s.record()
			}
		}
	}
	j.reached(last)
	if err := j.tail.reach(ctx, last); err != nil {
		return nil, err
	}
	all := make([]journal.Record, 0, len(byKey))
	for _, r := range byKey {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b journal.Record) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}
