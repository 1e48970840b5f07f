package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdline/broker/journal"
)

const patience = 20 * time.Second

// submit appends one entry with its own name as payload, and returns what
// becomes of it.
func submit(t *testing.T, j *Journal, topic, name string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	s := &journal.Submission{
		Entries: []journal.Entry{{Topic: topic, Payload: []byte(name), Partition: journal.NoPartition}},
		Done:    func(r journal.Result) { done <- r.Err },
	}
	if err := j.Append(t.Context(), s); err != nil {
		done <- err
	}
	return done
}

func wait(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("nothing after %v", patience)
		return nil
	}
}

// names reads the payloads of everything on the topics that match.
func names(t *testing.T, j *Journal, after uint64, filter string) []string {
	t.Helper()
	var all []string
	for after < j.Tail().Seq {
		page, err := j.Read(t.Context(), []string{filter}, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			all = append(all, string(e.Payload))
		}
		after = page.Through
	}
	return all
}

// TestFailedLogAcknowledgesNothing breaks the log at many places, in a write or
// a sync, while several write. Nothing may be acknowledged from there on, and
// all that was acknowledged is there when the journal is opened anew.
func TestFailedLogAcknowledgesNothing(t *testing.T) {
	for at := range int32(24) {
		t.Run(fmt.Sprint("operation ", at), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var on atomic.Bool
			left := atomic.Int32{}
			left.Store(at)
			broken := errors.New("broken disk")
			files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if !on.Load() || filepath.Ext(op.Path) != ".log" || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
					return nil
				}
				if left.Add(-1) < 0 {
					return broken
				}
				return nil
			}))
			j, err := Open(t.Context(), Options{Dir: "journal", fs: files, Log: logger(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := wait(t, submit(t, j, "a", "before")); err != nil {
				t.Fatal(err)
			}
			var seen atomic.Int64
			stop, err := j.Follow(0, func(entries []*journal.Entry) { seen.Add(int64(len(entries))) })
			if err != nil {
				t.Fatal(err)
			}
			defer stop()

			on.Store(true)
			var mu sync.Mutex
			acked := []string{"before"}
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						name := fmt.Sprintf("%d.%d", w, i)
						switch err := wait(t, submit(t, j, "a", name)); {
						case err == nil:
							mu.Lock()
							acked = append(acked, name)
							mu.Unlock()
						case !errors.Is(err, journal.ErrFailed):
							t.Errorf("%s: %v, want ErrFailed", name, err)
							return
						default:
							return
						}
					}
				})
			}
			wg.Wait()
			on.Store(false) // the disk is well again; the journal stays as it is
			if err := wait(t, submit(t, j, "a", "after")); !errors.Is(err, journal.ErrFailed) {
				t.Errorf("after the failure: %v, want ErrFailed", err)
			}
			if _, err := j.Renew(t.Context()); !errors.Is(err, journal.ErrFailed) {
				t.Errorf("Renew = %v, want ErrFailed", err)
			}
			if got := len(names(t, j, 0, "a")); got != len(acked) {
				t.Errorf("%d entries are to be read, %d were acknowledged", got, len(acked))
			}
			if err := j.Close(); !errors.Is(err, journal.ErrFailed) {
				t.Errorf("Close = %v, want ErrFailed", err)
			}
			if got := int(seen.Load()); got != len(acked) {
				t.Errorf("the follower saw %d entries, %d were acknowledged", got, len(acked))
			}

			j, err = Open(t.Context(), Options{Dir: "journal", fs: mem.CrashClone(vfs.CrashCloneCfg{}), Log: logger(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			found := strings.Join(names(t, j, 0, "a"), " ") + " "
			for _, name := range acked {
				if !strings.Contains(found, name+" ") {
					t.Errorf("%s was acknowledged and is not there", name)
				}
			}
			if err := wait(t, submit(t, j, "a", "anew")); err != nil {
				t.Errorf("opened anew: %v", err)
			}
		})
	}
}

// TestPowerCutsLoseNothingSeen cuts the power at random moments, with tables so
// small that logs are changed and tables flushed all the time, and leaves a random
// part of what was not synced on the disk. What any reader saw must be there again.
func TestPowerCutsLoseNothingSeen(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewCrashableMem()
	type sight struct{ name, by string }
	seen := map[uint64]sight{} // by sequence number
	versions := map[string]uint64{}
	inboxes := map[string]uint64{}
	for life := range 12 {
		j, err := Open(t.Context(), Options{Dir: "journal", fs: mem, memTableBytes: 256 << 10, RingBytes: 50_000, Log: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		for after := j.oldest.Load() - 1; after < j.Tail().Seq; {
			page, err := j.Read(t.Context(), []string{"#"}, after, 500)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				if s, ok := seen[e.Seq]; ok && s.name != string(e.Payload[:len(s.name)]) {
					t.Errorf("life %d: entry %d is now %.20s, a %s saw %s", life, e.Seq, e.Payload, s.by, s.name)
				}
				delete(seen, e.Seq)
			}
			after = page.Through
		}
		for seq, s := range seen {
			t.Errorf("life %d: entry %d, %s, is gone; a %s saw it", life, seq, s.name, s.by)
		}
		for key, version := range versions {
			if r, _, err := j.Record(t.Context(), key); err != nil || r.Version < version {
				t.Errorf("life %d: record %s is at %d, %v; %d was seen", life, key, r.Version, err, version)
			}
		}
		for inbox, n := range inboxes {
			if last, err := j.Inbox(t.Context(), inbox); err != nil || last < n {
				t.Errorf("life %d: inbox %s is at %d, %v; %d was seen", life, inbox, last, err, n)
			}
		}
		clear(seen)

		var mu sync.Mutex
		cut := false // nothing counts any more
		see := func(by string, entries ...*journal.Entry) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				name, _, _ := strings.Cut(string(e.Payload), " ")
				if s, ok := seen[e.Seq]; ok && s.name != name {
					t.Errorf("life %d: entry %d is %s for a %s and %s for a %s", life, e.Seq, name, by, s.name, s.by)
				}
				if !cut {
					seen[e.Seq] = sight{name, by}
				}
			}
		}
		stop, err := j.Follow(j.Tail().Seq, func(entries []*journal.Entry) { see("follower", entries...) })
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		end := make(chan struct{})
		goOn := func() bool {
			select {
			case <-end:
				return false
			default:
				return true
			}
		}
		start := j.Tail().Seq
		var written atomic.Int64
		enough, reached := int64(200+random.IntN(2500)), make(chan struct{})
		for w := range 4 {
			wg.Go(func() {
				inbox := fmt.Sprint("in/", w)
				event, err := j.Inbox(t.Context(), inbox)
				if err != nil {
					t.Error(err)
					return
				}
				for i := 0; goOn(); i++ {
					event++
					done := make(chan journal.Result, 1)
					name := fmt.Sprintf("%d.%d.%d", life, w, i)
					s := &journal.Submission{
						Entries: []journal.Entry{{
							Topic: fmt.Sprint("t/", w), Payload: []byte(name + strings.Repeat(" ", 500)),
							Partition: w, Inbox: inbox, Event: event,
						}},
						Puts: []journal.Put{{Key: inbox, Value: []byte(name), If: journal.AnyVersion}},
						Done: func(r journal.Result) { done <- r },
					}
					if err := j.Append(t.Context(), s); err != nil {
						t.Error(err)
						return
					}
					if r := <-done; r.Err != nil {
						t.Error(r.Err)
						return
					}
					see("writer", &s.Entries[0])
					if written.Add(1) == enough {
						close(reached)
					}
				}
			})
		}
		for _, filters := range [][]string{{"t/+"}, {"t/1", "t/2"}} {
			wg.Go(func() {
				for after := start; goOn(); {
					page, err := j.Read(t.Context(), filters, after, 20)
					if err != nil {
						t.Error(err)
						return
					}
					see("reader", page.Entries...)
					after = page.Through
				}
			})
		}
		wg.Go(func() {
			for goOn() {
				for w := range 4 {
					key := fmt.Sprint("in/", w)
					r, _, err1 := j.Record(t.Context(), key)
					n, err2 := j.Inbox(t.Context(), key)
					if err := errors.Join(err1, err2); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if !cut {
						versions[key], inboxes[key] = r.Version, n
					}
					mu.Unlock()
				}
			}
		})
		select {
		case <-reached:
		case <-time.After(patience):
			t.Fatalf("life %d: %d entries after %v", life, written.Load(), patience)
		}
		mu.Lock()
		cut = true
		// What was seen was seen before this moment.
		next := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(3) * 50, RNG: random})
		mu.Unlock()
		close(end)
		wg.Wait()
		stop()
		if err := j.Close(); err != nil {
			t.Errorf("life %d: Close = %v", life, err)
		}
		mem = next
	}
}

// usageFS is a disk whose free space the test decides.
type usageFS struct {
	vfs.FS
	free atomic.Uint64
}

func (u *usageFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: u.free.Load()}, nil
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	files := &usageFS{FS: vfs.NewMem()}
	files.free.Store(1 << 40)
	j, err := Open(t.Context(), Options{Dir: "journal", MinFreeBytes: 1 << 30, fs: files, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := wait(t, submit(t, j, "a", "before")); err != nil {
		t.Fatal(err)
	}
	// A measurement is good for a moment; then the journal must notice.
	until := func(want error) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			err := wait(t, submit(t, j, "b", "x"))
			if errors.Is(err, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("Append = %v after %v, want %v", err, patience, want)
			}
		}
	}
	files.free.Store(1<<30 - 1)
	until(journal.ErrFull)
	if got := j.Stats().FreeBytes; got != 1<<30-1 {
		t.Errorf("FreeBytes = %d, want %d", got, 1<<30-1)
	}
	put := make(chan error, 1)
	s := &journal.Submission{Puts: []journal.Put{{Key: "k", Value: []byte("v")}}, Done: func(r journal.Result) { put <- r.Err }}
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, put); !errors.Is(err, journal.ErrFull) {
		t.Errorf("a record: %v, want ErrFull", err)
	}
	// Reading and what makes room go on.
	if got := names(t, j, 0, "a"); len(got) != 1 {
		t.Errorf("%d entries on a, want 1", len(got))
	}
	if err := j.Erase(t.Context(), []string{"a"}, nil); err != nil {
		t.Errorf("Erase = %v", err)
	}
	if err := j.Retain(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Errorf("Retain = %v", err)
	}
	files.free.Store(1 << 40)
	until(nil)
}

func TestSpaceCountsWhatItGaveSinceItMeasured(t *testing.T) {
	files := &usageFS{FS: vfs.NewMem()}
	files.free.Store(100)
	s := &space{fs: files, floor: 8 << 20, avail: 10 << 20, measured: time.Now().Add(time.Hour)}
	for i, want := range []bool{true, true, false, false} {
		if got := s.take(1 << 20); got != want {
			t.Errorf("MB %d of 2: take = %v, want %v", i+1, got, want)
		}
	}
	if !s.take(0) {
		t.Error("take(0) = false at the floor")
	}
	s.measured = time.Time{}
	if s.take(0) {
		t.Error("take(0) = true below the floor, after a new measurement")
	}
}
