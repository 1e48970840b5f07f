package pebble

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

// indexFrom is how far behind the tail a reader of few topics is better served
// by the index than by looking through the ring.
const indexFrom = lookBound

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, filters []journal.Filter, after uint64, limit int) (journal.Page, error) {
	page := journal.Page{Through: after}
	if err := ctx.Err(); err != nil {
		return page, err
	}
	if err := j.gate.enter(); err != nil {
		return page, err
	}
	defer j.gate.leave()
	page, err := j.read(ctx, newMatcher(filters), after, limit)
	// Retain announces what it removes before it removes it, so this is asked last.
	if err == nil && after+1 < j.oldest.Load() {
		return journal.Page{Through: after}, journal.ErrTruncated
	}
	return page, err
}

func (j *Journal) read(ctx context.Context, m *matcher, after uint64, limit int) (page journal.Page, err error) {
	page.Through = after
	end := j.ring.last()
	if limit <= 0 || after >= end.Seq || after+1 < j.oldest.Load() {
		return page, nil
	}
	ok := false
	if !m.indexed() || end.Seq-after <= indexFrom {
		if page.Entries, page.Through, ok = j.ring.look(nil, after, limit, m.match); ok {
			return page, nil
		}
	}
	if !j.ring.holds(after) {
		j.engineReads.Add(1)
	}
	if m.indexed() {
		if page, ok, err = j.readIndex(ctx, m, after, limit, end); ok || err != nil {
			return page, err
		}
		// Too many topics for the index.
		if page.Entries, page.Through, ok = j.ring.look(nil, after, limit, m.match); ok {
			return page, nil
		}
	}
	return j.scan(ctx, m, after, limit, end)
}

// ReadPartition implements journal.Journal.
func (j *Journal) ReadPartition(ctx context.Context, partition int, after uint64, limit int) ([]*journal.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := j.gate.enter(); err != nil {
		return nil, err
	}
	defer j.gate.leave()
	found, err := j.readPartition(ctx, partition, after, limit)
	if err == nil && after+1 < j.oldest.Load() && after < j.kept.get(partition) {
		return nil, journal.ErrTruncated
	}
	return found, err
}

func (j *Journal) readPartition(ctx context.Context, partition int, after uint64, limit int) (found []*journal.Entry, err error) {
	end := j.ring.last()
	if limit <= 0 || after >= end.Seq {
		return nil, nil
	}
	if end.Seq-after <= indexFrom {
		match := func(e *journal.Entry) bool { return e.Partition == partition }
		found, through, _ := j.ring.look(nil, after, limit, match)
		if through >= end.Seq || len(found) == limit {
			return found, nil
		}
	}
	if !j.ring.holds(after) {
		j.engineReads.Add(1)
	}
	it, err := j.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: partitionKey(partition, after+1),
		UpperBound: partitionKey(partition, end.Seq+1),
	})
	if err != nil {
		return nil, err
	}
	var seqs []uint64
	for ok := it.First(); ok && len(seqs) < limit; ok = it.Next() {
		seqs = append(seqs, seqOf(it.Key()))
	}
	if err := it.Close(); err != nil {
		return nil, err
	}
	return j.get(ctx, seqs)
}

// get returns entries by number, in order; those that are gone are left out.
func (j *Journal) get(ctx context.Context, seqs []uint64) (found []*journal.Entry, err error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	found = make([]*journal.Entry, 0, len(seqs))
	var it *pebble.Iterator
	defer func() {
		if it != nil {
			err = errors.Join(err, it.Close())
		}
	}()
	var key [entryKeyBytes]byte
	for _, seq := range seqs {
		if e := j.ring.get(seq); e != nil {
			found = append(found, e)
			continue
		}
		if it == nil {
			it, err = j.db.NewIterWithContext(ctx, &pebble.IterOptions{
				LowerBound: entryKey(seq),
				UpperBound: entryKey(seqs[len(seqs)-1] + 1),
			})
			if err != nil {
				return nil, err
			}
		}
		putEntryKey(key[:], seq)
		if !it.SeekGE(key[:]) {
			if err := it.Error(); err != nil {
				return nil, err
			}
			break
		}
		if seqOf(it.Key()) != seq {
			continue
		}
		e, err := decodeEntry(seq, append([]byte(nil), it.Value()...))
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, nil
}

// firstAfter returns the number and time of the first entry after a place, up
// to the place end; ok is false when there is none.
func (j *Journal) firstAfter(ctx context.Context, seq, end uint64) (first uint64, at int64, ok bool, err error) {
	it, err := j.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: entryKey(seq + 1),
		UpperBound: entryKey(end + 1),
	})
	if err != nil {
		return 0, 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return 0, 0, false, nil
	}
	t, err := decodeAt(it.Value())
	return seqOf(it.Key()), t.UnixMicro(), err == nil, err
}
