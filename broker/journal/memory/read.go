package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// lookBound is how many entries one Read looks at: few, so that tests meet
// pages that end before the journal does.
const lookBound = 500

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, filters []journal.Filter, after uint64, limit int) (journal.Page, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.readable(ctx); err != nil {
		return journal.Page{}, err
	}
	if after+1 < j.disk.oldest {
		return journal.Page{}, journal.ErrTruncated
	}
	page := journal.Page{Through: after}
	if limit <= 0 {
		return page, nil
	}
	for looked, e := range j.disk.after(after) {
		if len(page.Entries) == limit || looked == lookBound {
			return page, nil
		}
		page.Through = e.Seq
		if slices.ContainsFunc(filters, func(f string) bool { return topics.Match(f, e.Topic) }) {
			page.Entries = append(page.Entries, e)
		}
	}
	page.Through = max(after, j.disk.seq)
	return page, nil
}

// ReadPartition implements journal.Journal.
func (j *Journal) ReadPartition(ctx context.Context, partition int, after uint64, limit int) ([]*journal.Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.readable(ctx); err != nil {
		return nil, err
	}
	if after+1 < j.disk.oldest && after < j.disk.kept[partition] {
		return nil, journal.ErrTruncated
	}
	var found []*journal.Entry
	for _, e := range j.disk.after(after) {
		if len(found) >= limit {
			break
		}
		if e.Partition == partition {
			found = append(found, e)
		}
	}
	return found, nil
}

func (j *Journal) readable(ctx context.Context) error {
	if j.closing {
		return journal.ErrClosed
	}
	return ctx.Err()
}

// Inbox implements journal.Journal.
func (j *Journal) Inbox(ctx context.Context, inbox string) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.disk.inboxes[inbox], j.readable(ctx)
}

// Record implements journal.Journal.
func (j *Journal) Record(ctx context.Context, key string) (r journal.Record, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.readable(ctx); err != nil {
		return r, false, err
	}
	r, ok = j.disk.records[key]
	r.Value = slices.Clone(r.Value)
	return r, ok, nil
}

// Records implements journal.Journal.
func (j *Journal) Records(ctx context.Context, prefix string, fn func(journal.Record) error) error {
	j.mu.Lock()
	err := j.readable(ctx)
	records := maps.Clone(j.disk.records)
	j.mu.Unlock()
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		r := records[key]
		r.Value = slices.Clone(r.Value)
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Keep implements journal.Journal.
func (j *Journal) Keep(ctx context.Context, partition int, seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.stateLocked(); err != nil {
		return err
	}
	switch {
	case partition < 0 || partition >= chat.Partitions:
		return fmt.Errorf("keep: there is no partition %d", partition)
	case seq > j.disk.seq:
		return fmt.Errorf("keep partition %d: %d is past the tail %d", partition, seq, j.disk.seq)
	}
	j.disk.kept[partition] = max(seq, j.disk.kept[partition])
	return ctx.Err()
}

// Kept implements journal.Journal.
func (j *Journal) Kept(ctx context.Context, partition int) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.disk.kept[partition], j.readable(ctx)
}

// Erase implements journal.Journal.
func (j *Journal) Erase(ctx context.Context, filters []journal.Filter, recordPrefixes []string) error {
	return j.do(ctx, func() error {
		j.disk.entries = slices.DeleteFunc(slices.Clone(j.disk.entries), func(e *journal.Entry) bool {
			return slices.ContainsFunc(filters, func(f string) bool { return topics.Match(f, e.Topic) })
		})
		maps.DeleteFunc(j.disk.records, func(key string, _ journal.Record) bool {
			return slices.ContainsFunc(recordPrefixes, func(p string) bool { return strings.HasPrefix(key, p) })
		})
		return nil
	})
}

// Retain implements journal.Journal.
func (j *Journal) Retain(ctx context.Context, before time.Time) error {
	return j.do(ctx, func() error {
		d := j.disk
		n := slices.IndexFunc(d.entries, func(e *journal.Entry) bool {
			return !e.At.Before(before) || e.Partition != journal.NoPartition && e.Seq > d.kept[e.Partition]
		})
		oldest := d.seq + 1
		if n >= 0 {
			oldest = d.entries[n].Seq
			d.entries = slices.Clone(d.entries[n:])
		} else {
			d.entries = nil
		}
		d.oldest = max(d.oldest, oldest)
		return nil
	})
}
