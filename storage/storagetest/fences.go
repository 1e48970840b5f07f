package storagetest

import (
	"math"
	"time"

	"holdline/storage"
)

var fences = map[string]func(*fixture){
	"a stale lease writes nothing":                     staleLease,
	"a position that has moved writes nothing":         movedPosition,
	"one stale advance among good ones writes nothing": oneStaleAdvance,
	"a yielded lease is fenced":                        yieldedIsFenced,
	"the fence comes before decide":                    fenceBeforeDecide,
	"a position and its lease are of one partition":    foreignLease,
	"positions keep every bit":                         positionBits,
}

func (f *fixture) lease(name, holder string) storage.Lease {
	f.Helper()
	l, err := f.Claim(f.ctx, name, holder, 0, noon, time.Minute)
	f.must(err)
	return l
}

func staleLease(f *fixture) {
	old := f.lease("input/03", "n1")
	now := f.lease("input/03", "n1") // a restart: the same holder, a new life
	if now.Epoch <= old.Epoch {
		f.Fatalf("epochs are %d and %d", old.Epoch, now.Epoch)
	}
	f.unchanged("Transact under a stale lease", storage.Scope{
		Advance: []storage.Advance{{Partition: 3, Lease: old, To: storage.Position{Journal: 1, Seq: 5}}}}, storage.ErrFenced)
	f.unchanged("Transact with a stale lease in its scope", storage.Scope{Leases: []storage.Lease{old}}, storage.ErrFenced)
	p, err := f.Position(f.ctx, 3)
	f.must(err)
	f.want("position", p, storage.Position{})

	f.transact(storage.Scope{Leases: []storage.Lease{now}, Advance: []storage.Advance{{Partition: 3, Lease: now, To: storage.Position{Journal: 1, Seq: 5}}}},
		func(*storage.Unit) error { return nil })
	if p, err = f.Position(f.ctx, 3); err != nil {
		f.Fatal(err)
	}
	f.want("position", p, storage.Position{Journal: 1, Seq: 5})

	// A life to come has the position of the one before, and an epoch made up is no lease.
	made := now
	made.Epoch += 7
	f.unchanged("Transact under an epoch nobody has", storage.Scope{
		Advance: []storage.Advance{{Partition: 3, Lease: made, From: storage.Position{Journal: 1, Seq: 5}, To: storage.Position{Journal: 1, Seq: 6}}}}, storage.ErrFenced)
	f.lease("input/03", "n1")
	if p, err = f.Position(f.ctx, 3); err != nil {
		f.Fatal(err)
	}
	f.want("position after another claim", p, storage.Position{Journal: 1, Seq: 5})
}

func movedPosition(f *fixture) {
	l := f.lease("input/00", "n1")
	five := storage.Position{Journal: 7, Seq: 5}
	f.transact(storage.Scope{Advance: []storage.Advance{{Partition: 0, Lease: l, To: five}}}, func(*storage.Unit) error { return nil })
	for what, from := range map[string]storage.Position{
		"from the beginning": {}, "from behind": {Journal: 7, Seq: 4}, "from ahead": {Journal: 7, Seq: 6}, "from another journal": {Journal: 8, Seq: 5},
	} {
		f.unchanged("Transact "+what, storage.Scope{Advance: []storage.Advance{{Partition: 0, Lease: l, From: from, To: storage.Position{Journal: 7, Seq: 9}}}}, storage.ErrFenced)
	}
	p, err := f.Position(f.ctx, 0)
	f.must(err)
	f.want("position", p, five)
	// A new journal starts over: the position may go back when the caller says so.
	f.transact(storage.Scope{Advance: []storage.Advance{{Partition: 0, Lease: l, From: five, To: storage.Position{Journal: 8, Seq: 1}}}}, func(*storage.Unit) error { return nil })
}

func oneStaleAdvance(f *fixture) {
	good, stale := f.lease("input/01", "n1"), f.lease("input/02", "n1")
	f.lease("input/02", "n1")
	f.unchanged("Transact with one stale lease", storage.Scope{Advance: []storage.Advance{
		{Partition: 1, Lease: good, To: storage.Position{Journal: 1, Seq: 1}},
		{Partition: 2, Lease: stale, To: storage.Position{Journal: 1, Seq: 1}},
	}}, storage.ErrFenced)
	p, err := f.Position(f.ctx, 1)
	f.must(err)
	f.want("position of the good one", p, storage.Position{})
}

func yieldedIsFenced(f *fixture) {
	l := f.lease("input/04", "n1")
	f.must(f.Yield(f.ctx, l))
	f.unchanged("Transact after Yield", storage.Scope{Advance: []storage.Advance{{Partition: 4, Lease: l, To: storage.Position{Seq: 1}}}}, storage.ErrFenced)
	f.unchanged("Transact without any lease", storage.Scope{Advance: []storage.Advance{
		{Partition: 4, Lease: storage.Lease{Name: "input/04", Epoch: l.Epoch}, To: storage.Position{Seq: 1}}}}, storage.ErrFenced)
	f.unchanged("Transact with a lease nobody ever took", storage.Scope{Leases: []storage.Lease{{Name: "never", Holder: "n1", Epoch: 1}}}, storage.ErrFenced)
}

func fenceBeforeDecide(f *fixture) {
	l := f.lease("input/05", "n1")
	f.lease("input/05", "n1")
	err := f.Transact(f.ctx, storage.Scope{Advance: []storage.Advance{{Partition: 5, Lease: l}}}, func(*storage.Unit) error {
		f.Error("decide ran for a fenced transaction")
		return nil
	})
	f.wantErr("Transact", err, storage.ErrFenced)
}

func foreignLease(f *fixture) {
	l := f.lease("input/06", "n1")
	f.unchanged("Transact of another partition", storage.Scope{Advance: []storage.Advance{{Partition: 7, Lease: l, To: storage.Position{Seq: 1}}}}, storage.ErrFenced)
}

func positionBits(f *fixture) {
	l := f.lease("input/15", "n1")
	to := storage.Position{Journal: math.MaxUint64 - 3, Seq: math.MaxInt64}
	f.transact(storage.Scope{Advance: []storage.Advance{{Partition: 15, Lease: l, To: to}}}, func(*storage.Unit) error { return nil })
	p, err := f.Position(f.ctx, 15)
	f.must(err)
	f.want("position", p, to)
	f.transact(storage.Scope{Advance: []storage.Advance{{Partition: 15, Lease: l, From: to, To: storage.Position{Journal: 1, Seq: 1}}}}, func(*storage.Unit) error { return nil })
}
