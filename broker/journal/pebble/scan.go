package pebble

import (
	"context"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

const (
	// blockSeqs is how many numbers a block of the log covers.
	blockSeqs = 1024
	// scanBlocks is how many blocks one read looks through.
	scanBlocks = 8
	// blocksBytes bounds the blocks that are kept for other scans.
	blocksBytes = 16 << 20
)

// scan looks through the log itself, block by block. Scans share the blocks, so
// that many sessions that read the same stretch cost one.
func (j *Journal) scan(ctx context.Context, m *matcher, after uint64, limit int, end tail) (page journal.Page, err error) {
	page.Through = after
	for range scanBlocks {
		block := (page.Through + 1) / blockSeqs
		entries, err := j.block(ctx, block, end)
		if err != nil {
			return journal.Page{Through: after}, err
		}
		for _, e := range entries {
			if e.Seq <= page.Through || e.Seq > end.Seq {
				continue
			}
			page.Through = e.Seq
			if m.match(e) {
				if page.Entries = append(page.Entries, e); len(page.Entries) == limit {
					return page, nil
				}
			}
		}
		page.Through = min(block*blockSeqs+blockSeqs-1, end.Seq)
		if page.Through == end.Seq || j.ring.holds(page.Through) {
			break
		}
	}
	return page, nil
}

// block returns the entries of a block of the log up to end.
func (j *Journal) block(ctx context.Context, n uint64, end tail) ([]*journal.Entry, error) {
	first, last := n*blockSeqs, n*blockSeqs+blockSeqs-1
	if last > end.Seq { // still growing
		return j.load(ctx, first, end.Seq)
	}
	return j.blocks.get(ctx, n, func() ([]*journal.Entry, error) {
		// Others wait for it too: it does not end with this reader.
		return j.load(context.WithoutCancel(ctx), first, last)
	})
}

// load decodes a stretch of the log.
func (j *Journal) load(ctx context.Context, first, last uint64) ([]*journal.Entry, error) {
	it, err := j.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: entryKey(first), UpperBound: entryKey(last + 1)})
	if err != nil {
		return nil, err
	}
	var entries []*journal.Entry
	for ok := it.First(); ok; ok = it.Next() {
		e, err := decodeEntry(seqOf(it.Key()), append([]byte(nil), it.Value()...))
		if err != nil {
			_ = it.Close() // err is why it is closed
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, it.Close()
}

// blocks are decoded stretches of the log that lie behind the tail, so that
// only Erase changes them.
type blocks struct {
	mu    sync.Mutex
	all   map[uint64]*block
	order []uint64 // of all, oldest first
	bytes int64
}

type block struct {
	ready   chan struct{} // closed when what follows is there
	entries []*journal.Entry
	err     error
	bytes   int64 // guarded by blocks.mu
}

// get returns a block; one caller loads it and the others wait for that.
func (bs *blocks) get(ctx context.Context, n uint64, load func() ([]*journal.Entry, error)) ([]*journal.Entry, error) {
	bs.mu.Lock()
	b, ok := bs.all[n]
	if !ok {
		b = &block{ready: make(chan struct{})}
		if bs.all == nil {
			bs.all = map[uint64]*block{}
		}
		bs.all[n] = b
		bs.order = append(bs.order, n)
	}
	bs.mu.Unlock()
	if ok {
		select {
		case <-b.ready:
			return b.entries, b.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.entries, b.err = load()
	close(b.ready)
	bs.loaded(n, b)
	return b.entries, b.err
}

// loaded counts a block and forgets the oldest; one that failed is forgotten at once.
func (bs *blocks) loaded(n uint64, b *block) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.all[n] != b {
		return // cleared meanwhile
	}
	if b.err != nil {
		bs.forgetLocked(n)
		return
	}
	for _, e := range b.entries {
		b.bytes += cost(e)
	}
	bs.bytes += b.bytes
	for bs.bytes > blocksBytes && len(bs.order) > 1 {
		bs.forgetLocked(bs.order[0])
	}
}

func (bs *blocks) forgetLocked(n uint64) {
	for i, m := range bs.order {
		if m == n {
			bs.order = append(bs.order[:i], bs.order[i+1:]...)
			break
		}
	}
	bs.bytes -= bs.all[n].bytes
	delete(bs.all, n)
}

// clear forgets all of them.
func (bs *blocks) clear() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.all, bs.order, bs.bytes = nil, nil, 0
}
