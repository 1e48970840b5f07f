package broker

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestExpiriesComeInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	x := expiries{heap: expiryHeap{at: map[string]int32{}}, wake: make(chan struct{}, 1)}
	begin := time.Unix(1_000_000, 0)
	want := map[string]time.Time{}
	for range 5000 {
		key := fmt.Sprint(r.IntN(1000))
		if r.IntN(4) == 0 {
			x.cancel(key)
			delete(want, key)
			continue
		}
		at := begin.Add(time.Duration(r.IntN(1_000_000)) * time.Millisecond)
		x.at(key, at) // again and again: the last one counts
		want[key] = at
	}
	if x.len() != len(want) {
		t.Fatalf("%d sessions, want %d", x.len(), len(want))
	}
	var ends []time.Time
	for _, at := range want {
		ends = append(ends, at)
	}
	slices.SortFunc(ends, time.Time.Compare)
	for i, at := range ends {
		if _, ok, wait := x.due(at.Add(-time.Millisecond)); ok && (i == 0 || ends[i-1] != at) || !ok && wait != time.Millisecond {
			t.Fatalf("end %d: due %t a millisecond early, wait %s", i, ok, wait)
		}
		key, ok, _ := x.due(at)
		if !ok || !want[key].Equal(at) {
			t.Fatalf("end %d: %q, %t; it ends at %s, want %s", i, key, ok, want[key], at)
		}
	}
	if _, ok, _ := x.due(begin.Add(time.Hour)); ok || x.len() != 0 {
		t.Errorf("%d sessions are left", x.len())
	}
}

// TestASessionThatIsAwayIsSmall measures what memory keeps of it.
func TestASessionThatIsAwayIsSmall(t *testing.T) {
	const sessions, most = 100_000, 400
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := expiries{heap: expiryHeap{at: map[string]int32{}}, wake: make(chan struct{}, 1)}
	for i := range sessions {
		x.at(fmt.Sprintf("%smain/customer/customer-%08d/phone-%08d", sessionPrefix, i, i), time.Unix(int64(i), 0))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / sessions
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("%d bytes each, want at most %d", each, most)
	}
	runtime.KeepAlive(&x)
}
