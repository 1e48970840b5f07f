package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

// maxTopics is how many topics of one day a read follows through the index. For
// more, a scan is cheaper.
const maxTopics = 128

// readIndex reads by topic, day by day. ok is false when the filters stand for
// too many topics.
func (j *Journal) readIndex(ctx context.Context, m *matcher, after uint64, limit int, end tail) (page journal.Page, ok bool, err error) {
	page.Through = after
	_, at, ok, err := j.firstAfter(ctx, after, end.Seq)
	if err != nil {
		return page, false, err
	}
	if !ok { // all that came after was erased
		page.Through = end.Seq
		return page, true, nil
	}
	it, err := j.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: appendDay(nil, dayOf(at)),
		UpperBound: []byte{keyIndex + 1},
	})
	if err != nil {
		return page, false, err
	}
	x := &indexReader{it: it, after: after, through: end.Seq, limit: limit}
	var seqs []uint64
	for day := dayOf(at); day <= dayOf(end.at) && len(seqs) < limit && ctx.Err() == nil; day++ {
		if day, ok = x.next(day); !ok {
			break
		}
		x.seqs, x.topics = x.seqs[:0], 0
		for _, topic := range m.exact {
			x.topic(day, topic)
		}
		for _, prefix := range m.prefixes {
			x.topic(day, prefix)
			x.under(day, prefix+"/")
		}
		if x.topics > maxTopics {
			return page, false, errors.Join(it.Error(), it.Close())
		}
		slices.Sort(x.seqs)
		seqs = append(seqs, slices.Compact(x.seqs)...)
	}
	if err := errors.Join(ctx.Err(), it.Error(), it.Close()); err != nil {
		return page, false, err
	}
	page.Through = end.Seq
	if len(seqs) >= limit {
		seqs = seqs[:limit]
		page.Through = seqs[limit-1]
	}
	page.Entries, err = j.get(ctx, seqs)
	return page, true, err
}

// indexReader collects numbers of entries from the index.
type indexReader struct {
	it             *pebble.Iterator
	after, through uint64
	limit          int // per topic and day: no more are needed
	topics         int // that were followed, of the day
	seqs           []uint64
	key            []byte
}

// next returns the first day from day on that has entries at all.
func (x *indexReader) next(day uint32) (uint32, bool) {
	x.key = appendDay(x.key[:0], day)
	if !x.it.SeekGE(x.key) {
		return day, false
	}
	return binary.BigEndian.Uint32(x.it.Key()[1:]), true
}

// topic collects the entries of one topic on one day.
func (x *indexReader) topic(day uint32, topic string) {
	x.topics++
	x.key = append(append(appendDay(x.key[:0], day), topic...), 0)
	n := len(x.key)
	x.key = binary.BigEndian.AppendUint64(x.key, x.after+1)
	found := 0
	for ok := x.it.SeekGE(x.key); ok && found < x.limit; ok = x.it.Next() {
		key := x.it.Key()
		if len(key) != n+8 || !bytes.Equal(key[:n], x.key[:n]) {
			return
		}
		seq := seqOf(key)
		if seq > x.through {
			return
		}
		x.seqs = append(x.seqs, seq)
		found++
	}
}

// under collects the entries of every topic that begins with prefix, on one day.
func (x *indexReader) under(day uint32, prefix string) {
	next := append(appendDay(nil, day), prefix...)
	n := len(next)
	for x.topics <= maxTopics && x.it.SeekGE(next) {
		key := x.it.Key()
		if !bytes.HasPrefix(key, next[:n]) {
			return
		}
		topic := string(topicOf(key))
		x.topic(day, topic)
		next = append(append(next[:dayBytes], topic...), 1) // behind everything about it
	}
}
