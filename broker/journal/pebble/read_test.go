package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdline/broker/journal"
)

// count counts the keys of one kind in the database.
func count(t *testing.T, j *Journal, kind byte) (n int) {
	t.Helper()
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDays reads and retains over many days, of which some have nothing.
func TestDays(t *testing.T) {
	clock := time.Date(2026, 11, 1, 23, 59, 59, 0, time.UTC)
	j, err := Open(t.Context(), Options{
		Dir: "journal", fs: vfs.NewMem(), RingBytes: 1, Log: logger(t),
		now: func() time.Time { return clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var all []string
	for day := range 20 {
		if day%5 == 4 {
			clock = clock.Add(24 * time.Hour)
			continue
		}
		for i := range 10 {
			name := fmt.Sprintf("%d.%d", day, i)
			if err := wait(t, submit(t, j, fmt.Sprint("t/", i%3), name)); err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
		clock = clock.Add(24 * time.Hour)
	}
	if got := names(t, j, 0, "t/#"); !slices.Equal(got, all) {
		t.Errorf("by prefix: %v, want %v", got, all)
	}
	if got := names(t, j, 0, "t/+"); !slices.Equal(got, all) {
		t.Errorf("by scan: %v, want %v", got, all)
	}
	if got, want := len(names(t, j, 0, "t/0")), 16*4; got != want {
		t.Errorf("on one topic: %d, want %d", got, want)
	}

	// Half of day 12 goes, with all before it.
	seventh := uint64(10*10 + 7) // days 4 and 9 are empty
	page, err := j.Read(t.Context(), []string{"#"}, seventh-1, 1)
	if err != nil || string(page.Entries[0].Payload) != "12.6" {
		t.Fatalf("entry %d is %v, %v", seventh, page.Entries, err)
	}
	if err := j.Retain(t.Context(), page.Entries[0].At); err != nil {
		t.Fatal(err)
	}
	if got := j.Stats().Oldest; got != seventh-6 {
		t.Errorf("oldest is %d, want %d: all of that day has one time", got, seventh-6)
	}
	if err := j.Retain(t.Context(), page.Entries[0].At.Add(time.Microsecond)); err != nil {
		t.Fatal(err)
	}
	if got := j.Stats().Oldest; got != seventh+4 {
		t.Errorf("oldest is %d, want %d", got, seventh+4)
	}
	if got, want := names(t, j, seventh+3, "t/#"), all[seventh+3:]; !slices.Equal(got, want) {
		t.Errorf("what is left: %v, want %v", got, want)
	}
	if got, want := count(t, j, keyEntry), len(all)-int(seventh)-3; got != want {
		t.Errorf("%d entries in the database, want %d", got, want)
	}
	if got, want := count(t, j, keyIndex), len(all)-int(seventh)-3; got != want {
		t.Errorf("%d index keys in the database, want %d", got, want)
	}
	if err := j.Retain(t.Context(), clock.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := count(t, j, keyEntry); got != 0 {
		t.Errorf("%d entries in the database, want none", got)
	}
	clock = clock.Add(24 * time.Hour)
	if err := wait(t, submit(t, j, "t/0", "new")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, j, uint64(len(all)), "t/0"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("what came after: %v", got)
	}
}

// TestYearsWithoutEntries reads over a gap as a clock makes it that was not
// set at first, and many topics on many days, which are few on each.
func TestYearsWithoutEntries(t *testing.T) {
	clock := time.UnixMicro(1).UTC()
	j, err := Open(t.Context(), Options{
		Dir: "journal", fs: vfs.NewMem(), RingBytes: 1, Log: logger(t),
		now: func() time.Time { return clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var all []string
	for day := range 3 {
		for i := range maxTopics / 2 {
			name := fmt.Sprintf("%d.%d", day, i)
			if err := wait(t, submit(t, j, "t/"+name, name)); err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
		clock = clock.AddDate(28, 0, 0)
	}
	m := newMatcher([]string{"t/#"})
	page, ok, err := j.readIndex(t.Context(), m, 0, 1000, j.ring.last())
	if err != nil || !ok || len(page.Entries) != len(all) || page.Through != j.Tail().Seq {
		t.Errorf("readIndex = %d entries through %d, %v, %v, want %d by the index", len(page.Entries), page.Through, ok, err, len(all))
	}
	if got := names(t, j, 0, "t/2.3"); !slices.Equal(got, []string{"2.3"}) {
		t.Errorf("on one topic: %v", got)
	}
}

// TestClockThatFalls appends with a clock that jumps back, also over a restart.
func TestClockThatFalls(t *testing.T) {
	clock := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	o := Options{Dir: "journal", fs: vfs.NewMem(), RingBytes: 1, Log: logger(t), now: func() time.Time { return clock }}
	for life := range 3 {
		j, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := wait(t, submit(t, j, "a", fmt.Sprintf("%d.%d", life, i))); err != nil {
				t.Fatal(err)
			}
			clock = clock.Add(-30 * time.Hour)
		}
		page, err := j.Read(t.Context(), []string{"a"}, 0, 100)
		if err != nil || len(page.Entries) != 3*(life+1) {
			t.Fatalf("life %d: %d entries, %v", life, len(page.Entries), err)
		}
		for i, e := range page.Entries {
			if i > 0 && e.At.Before(page.Entries[i-1].At) {
				t.Errorf("life %d: %s is at %v, the one before at %v", life, e.Payload, e.At, page.Entries[i-1].At)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRingServesWhatIsNew counts the reads that go to the database.
func TestRingServesWhatIsNew(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: "journal", fs: vfs.NewMem(), RingBytes: 100_000, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range 500 {
		if err := wait(t, submit(t, j, "a", fmt.Sprint(i)+strings.Repeat(".", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	s := j.Stats()
	if s.RingBytes > 100_000 || s.RingBytes < 90_000 {
		t.Errorf("the ring holds %d bytes, want up to 100000", s.RingBytes)
	}
	tail := j.Tail().Seq
	for _, filter := range []string{"a", "#", "a/#"} {
		names(t, j, tail-50, filter)
	}
	if _, err := j.ReadPartition(t.Context(), 3, tail-50, 10); err != nil {
		t.Fatal(err)
	}
	if got := j.Stats().EngineReads; got != 0 {
		t.Errorf("%d reads went to the database for the newest entries", got)
	}
	if got := len(names(t, j, tail-300, "#")); got != 300 {
		t.Errorf("%d entries, want 300", got)
	}
	if got := j.Stats().EngineReads; got == 0 {
		t.Error("no read went to the database for old entries")
	}
	if _, err := j.Follow(tail-300, func([]*journal.Entry) {}); !errors.Is(err, journal.ErrTruncated) {
		t.Errorf("Follow behind the ring = %v, want ErrTruncated", err)
	}
}

// TestScansShareBlocks reads the same stretch twice, erases part of it, and
// reads again.
func TestScansShareBlocks(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: "journal", fs: vfs.NewMem(), RingBytes: 1, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for range 5 {
		done := make(chan error, 1)
		s := &journal.Submission{Done: func(r journal.Result) { done <- r.Err }}
		for i := range 1000 {
			s.Entries = append(s.Entries, journal.Entry{Topic: fmt.Sprint("t/", i%2), Partition: journal.NoPartition})
		}
		if err := j.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := wait(t, done); err != nil {
			t.Fatal(err)
		}
	}
	one := func() *journal.Entry {
		t.Helper()
		page, err := j.Read(t.Context(), []string{"+/0"}, 10, 1)
		if err != nil || len(page.Entries) != 1 {
			t.Fatalf("Read = %v, %v", page, err)
		}
		return page.Entries[0]
	}
	if one() != one() {
		t.Error("two scans decoded the same entry")
	}
	if got := len(names(t, j, 0, "+/0")); got != 2500 {
		t.Errorf("%d entries, want 2500", got)
	}
	if err := j.Erase(t.Context(), []string{"t/0"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := len(names(t, j, 0, "+/0")); got != 0 {
		t.Errorf("%d erased entries are found", got)
	}
	if got := len(names(t, j, 0, "+/1")); got != 2500 {
		t.Errorf("%d entries stay, want 2500", got)
	}
	if got := count(t, j, keyIndex); got != 2500 {
		t.Errorf("%d index keys, want 2500", got)
	}
}

// TestBlocksAreBounded fills more blocks than are kept.
func TestBlocksAreBounded(t *testing.T) {
	var bs blocks
	big := []*journal.Entry{{Payload: make([]byte, blocksBytes/4)}}
	for n := range uint64(20) {
		if _, err := bs.get(t.Context(), n, func() ([]*journal.Entry, error) { return big, nil }); err != nil {
			t.Fatal(err)
		}
		if bs.bytes > blocksBytes {
			t.Fatalf("%d bytes are kept, want %d at most", bs.bytes, blocksBytes)
		}
	}
	broken := errors.New("broken")
	for range 2 {
		if _, err := bs.get(t.Context(), 99, func() ([]*journal.Entry, error) { return nil, broken }); err != broken {
			t.Errorf("a block that cannot be read: %v", err)
		}
	}
	if len(bs.all) != len(bs.order) || bs.all[99] != nil {
		t.Errorf("%d blocks and %d in order; 99 is %v", len(bs.all), len(bs.order), bs.all[99])
	}
}

// TestGreatSubmission writes more at once than a memory table holds.
func TestGreatSubmission(t *testing.T) {
	o := Options{Dir: "journal", fs: vfs.NewMem(), memTableBytes: 1 << 20, RingBytes: 1, Log: logger(t)}
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	great := bytes.Repeat([]byte("great "), 1<<20)
	done := make(chan error, 1)
	s := &journal.Submission{Done: func(r journal.Result) { done <- r.Err }}
	for range 3 {
		s.Entries = append(s.Entries, journal.Entry{Topic: "a", Payload: great, Partition: 1})
	}
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, done); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		page, err := j.Read(t.Context(), []string{"a"}, 0, 10)
		if err != nil || len(page.Entries) != 3 {
			t.Fatalf("Read = %d entries, %v", len(page.Entries), err)
		}
		for _, e := range page.Entries {
			if !bytes.Equal(e.Payload, great) {
				t.Errorf("entry %d is %d bytes of something else", e.Seq, len(e.Payload))
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if j, err = Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
