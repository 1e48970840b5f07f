package jetstream

import (
	"context"
	"slices"
	"time"

	"holdline/broker/journal"
)

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
	page, behind, err := j.read(ctx, newMatcher(filters), filters, after, limit)
	if err == nil && behind {
		// Retain announces what it removes before it removes it, so this is asked last.
		err = j.askState(ctx)
	}
	if err == nil && after+1 < j.oldest.Load() {
		err = journal.ErrTruncated
	}
	if err != nil {
		return journal.Page{Through: after}, err
	}
	return page, nil
}

// read reads from the ring, or behind it from the stream.
func (j *Journal) read(ctx context.Context, m *matcher, filters []journal.Filter, after uint64, limit int) (page journal.Page, behind bool, err error) {
	page.Through = after
	tail := j.ring.last().Seq
	if limit <= 0 || after >= tail || after+1 < j.oldest.Load() {
		return page, false, nil
	}
	var ok bool
	if page.Entries, page.Through, ok = j.ring.look(nil, after, limit, m.match); ok {
		return page, false, nil
	}
	j.engineReads.Add(1)
	subjects := j.subjects(filters)
	if len(subjects) == 0 {
		return journal.Page{Through: tail}, true, nil
	}
	// Each filter is asked for its first entries. Together they are complete up to
	// the least place where one of them has more.
	var found []*journal.Entry
	through := tail
	for _, subject := range subjects {
		some, end, err := j.readSubject(ctx, subject, after, tail, limit, m.match)
		if err != nil {
			return page, true, err
		}
		found = append(found, some...)
		through = min(through, end)
	}
	slices.SortFunc(found, func(a, b *journal.Entry) int { return int(int64(a.Seq - b.Seq)) })
	found = slices.CompactFunc(found, func(a, b *journal.Entry) bool { return a.Seq == b.Seq })
	for len(found) > 0 && found[len(found)-1].Seq > through {
		found = found[:len(found)-1]
	}
	if len(found) > limit {
		found = found[:limit]
		through = found[limit-1].Seq
	}
	return journal.Page{Entries: found, Through: through}, true, nil
}

// manyFilters is how many filters are asked for one by one; more are looked for
// in all entries.
const manyFilters = 8

// subjects are the filters as subjects, each once.
func (j *Journal) subjects(filters []journal.Filter) []string {
	var all []string
	for _, f := range filters {
		subject, _ := j.names.filter(f)
		all = append(all, subject)
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > manyFilters {
		return []string{j.names.entries()}
	}
	return all
}

// readSubject returns entries on a subject filter that match, and how far it looked.
func (j *Journal) readSubject(ctx context.Context, subject string, after, end uint64, limit int, match func(*journal.Entry) bool) (found []*journal.Entry, through uint64, err error) {
	ask := min(max(limit, 16), pageMessages)
	stored, err := j.fetch.next(ctx, subject, after+1, end, ask)
	if err != nil {
		return nil, after, err
	}
	if len(stored) == 0 {
		return nil, end, nil
	}
	at := int64(0)
	for n := range stored {
		s := &stored[n]
		through = s.seq
		at = max(at, s.at.UnixMicro())
		s.entry.Seq, s.entry.At = s.seq, time.UnixMicro(at).UTC()
		if e := &s.entry; match(e) && !j.erased.cover(e) {
			if e := j.ring.get(e.Seq); e != nil {
				found = append(found, e)
			} else {
				found = append(found, &s.entry)
			}
			if len(found) == limit {
				return found, through, nil
			}
		}
	}
	if len(stored) < ask { // is that the end?
		if none, err := j.fetch.none(ctx, subject, through+1, end); err == nil && none {
			through = end // an error shows again in the next call
		}
	}
	return found, through, nil
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
	found, behind, err := j.readPartition(ctx, partition, after, limit)
	if err == nil && behind {
		err = j.askState(ctx)
	}
	if err == nil && after+1 < j.oldest.Load() && after < j.kept.get(partition) {
		err = journal.ErrTruncated
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (j *Journal) readPartition(ctx context.Context, partition int, after uint64, limit int) (found []*journal.Entry, behind bool, err error) {
	match := func(e *journal.Entry) bool { return e.Partition == partition }
	for {
		tail := j.ring.last().Seq
		if limit <= 0 || after >= tail {
			return nil, behind, nil
		}
		var ok bool
		if found, after, ok = j.ring.look(nil, after, limit, match); !ok {
			behind = true
			j.engineReads.Add(1)
			found, after, err = j.readSubject(ctx, j.names.partition(partition), after, tail, limit, match)
		}
		if err != nil || len(found) > 0 {
			return found, behind, err
		}
	}
}
