package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
	"holdline/chat"
)

// erasePage is how many entries one batch of Erase removes.
const erasePage = 512

// Erase implements journal.Journal. What was submitted before the call is
// erased; after a crash in the middle the caller must repeat it.
func (j *Journal) Erase(ctx context.Context, filters []journal.Filter, recordPrefixes []string) error {
	if err := j.do(ctx, func(a *appender) error { return a.eraseRecords(recordPrefixes) }); err != nil {
		return err
	}
	if len(filters) == 0 {
		return nil
	}
	end := j.Tail().Seq
	for place := j.oldest.Load() - 1; place < end; {
		page, err := j.Read(ctx, filters, place, erasePage)
		if errors.Is(err, journal.ErrTruncated) {
			place = j.oldest.Load() - 1
			continue
		}
		if err != nil {
			return err
		}
		place = page.Through
		if len(page.Entries) == 0 {
			continue
		}
		if err := j.do(ctx, func(a *appender) error { return a.erase(page.Entries) }); err != nil {
			return err
		}
		seqs := make([]uint64, len(page.Entries))
		for i, e := range page.Entries {
			seqs[i] = e.Seq
		}
		j.ring.remove(seqs)
		j.blocks.clear()
	}
	return nil
}

func (a *appender) eraseRecords(prefixes []string) error {
	for _, p := range prefixes {
		lower := named(keyRecord, p)
		if err := a.batch.written.DeleteRange(lower, after(lower), nil); err != nil {
			return err
		}
	}
	a.versions.clear()
	return nil
}

func (a *appender) erase(entries []*journal.Entry) error {
	b := a.batch.written
	for _, e := range entries {
		if err := b.Delete(entryKey(e.Seq), nil); err != nil {
			return err
		}
		key := make([]byte, indexKeyBytes(e.Topic))
		putIndexKey(key, dayOf(e.At.UnixMicro()), e.Topic, e.Seq)
		if err := b.Delete(key, nil); err != nil {
			return err
		}
		if e.Partition == journal.NoPartition {
			continue
		}
		if err := b.Delete(partitionKey(e.Partition, e.Seq), nil); err != nil {
			return err
		}
	}
	return nil
}

// Retain implements journal.Journal.
func (j *Journal) Retain(ctx context.Context, before time.Time) error {
	if err := j.gate.enter(); err != nil {
		return err
	}
	cut, day, err := j.cut(ctx, before)
	j.gate.leave()
	if err != nil || cut <= j.oldest.Load() {
		return err
	}
	if err := j.do(ctx, func(a *appender) error { return a.retain(cut, day) }); err != nil {
		return err
	}
	j.ring.cut(cut)
	return nil
}

// cut finds the first entry that stays, and a day before which there is none.
func (j *Journal) cut(ctx context.Context, before time.Time) (cut uint64, day uint32, err error) {
	end := j.ring.last()
	// Times never fall with the numbers, so the place can be halved towards.
	low, high := j.oldest.Load(), end.Seq+1 // the first that stays is in between
	for low < high {
		mid := low + (high-low)/2
		seq, at, ok, err := j.firstAfter(ctx, mid-1, high-1)
		switch {
		case err != nil:
			return 0, 0, err
		case !ok: // nothing from mid on
			high = mid
		case at < before.UnixMicro():
			low = seq + 1
		default:
			high = mid
		}
	}
	cut = low
	for p := range chat.Partitions {
		seq, ok, err := j.firstNotStored(ctx, p, end.Seq)
		if err != nil {
			return 0, 0, err
		}
		if ok {
			cut = min(cut, seq)
		}
	}
	_, at, ok, err := j.firstAfter(ctx, cut-1, end.Seq)
	if !ok {
		at = end.at
	}
	return cut, dayOf(at), err
}

// firstNotStored is the oldest input entry of a partition that Keep does not cover.
func (j *Journal) firstNotStored(ctx context.Context, partition int, end uint64) (seq uint64, ok bool, err error) {
	it, err := j.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: partitionKey(partition, j.kept.get(partition)+1),
		UpperBound: partitionKey(partition, end+1),
	})
	if err != nil {
		return 0, false, err
	}
	if ok = it.First(); ok {
		seq = seqOf(it.Key())
	}
	return seq, ok, it.Close()
}

// retain removes everything before cut. In the index only whole days go; what
// is left of the day of cut stands for entries that are not there.
func (a *appender) retain(cut uint64, day uint32) error {
	if cut <= a.j.oldest.Load() {
		return nil
	}
	b := a.batch.written
	if err := errors.Join(
		b.Set(metaOldest, binary.BigEndian.AppendUint64(nil, cut), nil),
		b.DeleteRange(entryKey(0), entryKey(cut), nil),
		b.DeleteRange(appendDay(nil, 0), appendDay(nil, day), nil),
	); err != nil {
		return err
	}
	for p := range chat.Partitions {
		if err := b.DeleteRange(partitionKey(p, 0), partitionKey(p, cut), nil); err != nil {
			return err
		}
	}
	a.j.oldest.Store(cut) // before it is visible: Read asks afterwards
	return nil
}

// Renew implements journal.Journal.
func (j *Journal) Renew(ctx context.Context) (journal.Cursor, error) {
	var c journal.Cursor
	err := j.do(ctx, func(a *appender) error {
		a.epoch = newEpoch(a.epoch)
		c = journal.Cursor{Epoch: a.epoch, Seq: a.state.seq}
		return a.batch.written.Set(metaEpoch, binary.BigEndian.AppendUint64(nil, a.epoch), nil)
	})
	if err != nil {
		return journal.Cursor{}, err // c may be yet to come
	}
	return c, nil
}
