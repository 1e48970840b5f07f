//go:build linux

package main

import (
	"errors"
	"fmt"
)

// ledger knows what arrived from every publisher, in which order, at one
// reader: or at all readers of a run, when each publisher has one reader.
type ledger struct {
	last                        map[uint32]uint64
	arrived                     uint64
	lost, unordered, duplicates uint64
}

func newLedger() *ledger { return &ledger{last: map[uint32]uint64{}} }

// see takes one delivery.
func (l *ledger) see(s stamp) {
	l.arrived++
	last := l.last[s.from]
	switch {
	case s.n == last+1:
	case s.n > last:
		l.lost += s.n - last - 1
	case s.dup: // the broker may, and says so
		l.arrived--
		return
	case s.n == last:
		l.duplicates++
		return
	default:
		l.unordered++
		return
	}
	l.last[s.from] = s.n
}

// broken reports whether something is wrong already.
func (l *ledger) broken() bool { return l.lost+l.unordered+l.duplicates > 0 }

// settle says what is wrong after each publisher's messages up to owed were acknowledged.
func (l *ledger) settle(owed map[uint32]uint64) error {
	lost := l.lost
	for from, n := range owed {
		if last := l.last[from]; last < n {
			lost += n - last
		}
	}
	var errs []error
	for _, f := range []struct {
		n    uint64
		what string
	}{{lost, "lost"}, {l.unordered, "out of order"}, {l.duplicates, "there twice"}} {
		if f.n > 0 {
			errs = append(errs, &fault{f.n, f.what})
		}
	}
	return errors.Join(errs...)
}

// fault is a promise that was not kept.
type fault struct {
	n    uint64
	what string
}

func (f *fault) Error() string { return fmt.Sprintf("%d messages %s", f.n, f.what) }
