package bridge

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"holdline/chat"
)

// Stats are figures for operators. Counters grow from the start of the process.
type Stats struct {
	Entries    uint64 // stored, whatever came of them
	Groups     uint64 // transactions they were stored in
	Refused    map[chat.Reason]uint64
	Duplicates uint64 // said before, with the same content
	Poison     uint64 // could not be stored
	Untold     uint64 // of these, could not even be refused
	Published  uint64 // events that are in the journal
	// Lag is how far each partition held is behind the journal's tail, 0 when it has all.
	Lag           map[int]uint64
	InputLeases   int
	PublishLeases int
	LastError     time.Time // the last failure that was tried again; zero for never
}

// GroupSize is how many entries one transaction stores, on average.
func (s Stats) GroupSize() float64 {
	if s.Groups == 0 {
		return 0
	}
	return float64(s.Entries) / float64(s.Groups)
}

// Stats returns the figures of now. It may be called at any time.
func (b *Bridge) Stats() Stats {
	s := b.figures.snapshot()
	s.InputLeases, s.PublishLeases = b.leases.count(kindInput), b.leases.count(kindPublish)
	tail := b.Journal.Tail().Seq
	for p := range chat.Partitions {
		if _, ok := b.leases.get(kindInput, p); !ok {
			continue
		}
		after := b.figures.after[p].Load()
		s.Lag[p] = 0
		if b.figures.behind[p].Load() || b.input.newest[p].Load() > b.figures.through[p].Load() {
			s.Lag[p] = tail - min(tail, after)
		}
	}
	return s
}

// figures are counted where the work is done.
type figures struct {
	published atomic.Uint64
	after     [chat.Partitions]atomic.Uint64
	through   [chat.Partitions]atomic.Uint64
	behind    [chat.Partitions]atomic.Bool

	mu    sync.Mutex
	stats Stats
}

func newFigures() *figures { return &figures{stats: Stats{Refused: map[chat.Reason]uint64{}}} }

func (f *figures) snapshot() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Refused, s.Lag = maps.Clone(s.Refused), map[int]uint64{}
	s.Published = f.published.Load()
	return s
}

func (f *figures) committed(entries int, d *decision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Entries += uint64(entries)
	f.stats.Groups++
	f.stats.Duplicates += d.duplicates
	for r, n := range d.refused {
		f.stats.Refused[r] += n
	}
}

func (f *figures) poisoned(first, told bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if first {
		f.stats.Poison++
	}
	if !told {
		f.stats.Untold++
	}
}

func (f *figures) failed(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.LastError = at
}

// at notes how far a partition is.
func (f *figures) at(p *partition) {
	f.after[p.id].Store(p.after)
	f.through[p.id].Store(max(p.after, p.through))
	f.behind[p.id].Store(p.behind)
}
