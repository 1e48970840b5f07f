package storagetest

import (
	"fmt"
	"time"

	"holdline/storage"
)

var leases = map[string]func(*fixture){
	"a lease is held by one":                       leaseHeldByOne,
	"a lease is renewed under its epoch":           leaseRenewed,
	"a restart takes its own lease at once":        leaseRestart,
	"a lease that ran out goes to the next":        leaseRunsOut,
	"a lease given back goes to the next at once":  leaseYielded,
	"many claim a lease at once and one gets it":   leaseRace,
	"leases are listed by the beginning of a name": leasesListed,
}

func leaseHeldByOne(f *fixture) {
	l, err := f.Claim(f.ctx, "publish/00", "n1", 0, noon, time.Minute)
	f.must(err)
	f.want("lease", l, storage.Lease{Name: "publish/00", Holder: "n1", Epoch: 1, Until: noon.Add(time.Minute)})
	for _, known := range []uint64{0, l.Epoch, l.Epoch + 1} {
		_, err = f.Claim(f.ctx, "publish/00", "n2", known, noon.Add(time.Minute-time.Millisecond), time.Minute)
		f.wantErr("Claim by another", err, storage.ErrFenced)
	}
	other, err := f.Claim(f.ctx, "publish/01", "n2", 0, noon, time.Minute)
	f.must(err)
	f.want("another lease", other.Holder, "n2")
}

func leaseRenewed(f *fixture) {
	l, err := f.Claim(f.ctx, "x", "n1", 0, noon, time.Minute)
	f.must(err)
	again, err := f.Claim(f.ctx, "x", "n1", l.Epoch, noon.Add(30*time.Second), time.Minute)
	f.must(err)
	f.want("lease", again, storage.Lease{Name: "x", Holder: "n1", Epoch: l.Epoch, Until: noon.Add(90 * time.Second)})
	_, err = f.Claim(f.ctx, "x", "n2", 0, noon.Add(89*time.Second), time.Minute)
	f.wantErr("Claim by another", err, storage.ErrFenced)
	f.transact(storage.Scope{Leases: []storage.Lease{l, again}}, func(*storage.Unit) error { return nil })
}

func leaseRestart(f *fixture) {
	old, err := f.Claim(f.ctx, "x", "n1", 0, noon, time.Minute)
	f.must(err)
	l, err := f.Claim(f.ctx, "x", "n1", 0, noon.Add(time.Second), time.Minute)
	f.must(err)
	if l.Epoch <= old.Epoch {
		f.Errorf("epoch %d after %d, want a higher one", l.Epoch, old.Epoch)
	}
	_, err = f.Claim(f.ctx, "x", "n1", old.Epoch, noon.Add(2*time.Second), time.Minute)
	f.wantErr("renewal by the former life", err, storage.ErrFenced)
	_, err = f.Claim(f.ctx, "x", "n1", l.Epoch, noon.Add(2*time.Second), time.Minute)
	f.must(err)
}

func leaseRunsOut(f *fixture) {
	old, err := f.Claim(f.ctx, "x", "n1", 0, noon, time.Minute)
	f.must(err)
	// Nobody took it: it fences as before.
	f.transact(storage.Scope{Leases: []storage.Lease{old}}, func(*storage.Unit) error { return nil })
	l, err := f.Claim(f.ctx, "x", "n2", 0, noon.Add(time.Minute), time.Minute)
	f.must(err)
	if l.Epoch <= old.Epoch || l.Holder != "n2" {
		f.Errorf("lease = %v after %v", l, old)
	}
	_, err = f.Claim(f.ctx, "x", "n1", old.Epoch, noon.Add(61*time.Second), time.Minute)
	f.wantErr("renewal of a lost lease", err, storage.ErrFenced)
	err = f.Transact(f.ctx, storage.Scope{Leases: []storage.Lease{old}}, func(*storage.Unit) error { return nil })
	f.wantErr("Transact under a lost lease", err, storage.ErrFenced)
	f.wantErr("Published under a lost lease", f.Published(f.ctx, old, nil), storage.ErrFenced)
	// One's own that ran out is a new one as well.
	own, err := f.Claim(f.ctx, "x", "n2", l.Epoch, noon.Add(time.Hour), time.Minute)
	f.must(err)
	if own.Epoch <= l.Epoch {
		f.Errorf("epoch %d after %d ran out, want a higher one", own.Epoch, l.Epoch)
	}
}

func leaseYielded(f *fixture) {
	old, err := f.Claim(f.ctx, "x", "n1", 0, noon, time.Minute)
	f.must(err)
	f.must(f.Yield(f.ctx, old))
	f.must(f.Yield(f.ctx, old))
	list, err := f.Leases(f.ctx, "x")
	f.must(err)
	f.want("leases", list, []storage.Lease{})
	l, err := f.Claim(f.ctx, "x", "n2", 0, noon.Add(time.Second), time.Minute)
	f.must(err)
	if l.Epoch <= old.Epoch {
		f.Errorf("epoch %d after %d, want a higher one", l.Epoch, old.Epoch)
	}
	f.must(f.Yield(f.ctx, old)) // not the present one: stays
	f.transact(storage.Scope{Leases: []storage.Lease{l}}, func(*storage.Unit) error { return nil })
}

func leaseRace(f *fixture) {
	got := make([]storage.Lease, 20)
	errs := together(len(got), func(i int) (err error) {
		got[i], err = f.Claim(f.ctx, "x", fmt.Sprintf("n%d", i), 0, noon, time.Minute)
		return err
	})
	winners := 0
	for i, err := range errs {
		if err == nil {
			winners++
			f.want("epoch", got[i].Epoch, uint64(1))
		} else {
			f.wantErr("Claim", err, storage.ErrFenced)
		}
	}
	f.want("winners", winners, 1)
}

func leasesListed(f *fixture) {
	for _, name := range []string{"bridge/b", "bridge/B", "bridge/a", "bridges", "input/00", "bridge_x"} {
		f.lease(name, "holder of "+name)
	}
	list, err := f.Leases(f.ctx, "bridge/")
	f.must(err)
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
		f.want("lease", l, storage.Lease{Name: l.Name, Holder: "holder of " + l.Name, Epoch: 1, Until: noon.Add(time.Minute)})
	}
	f.want("names", names, []string{"bridge/B", "bridge/a", "bridge/b"})
	list, err = f.Leases(f.ctx, "")
	f.must(err)
	f.want("all", len(list), 6)
}
