package pebble

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
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
							t.Errorf("%.20s: %v, want ErrFailed", name, err)
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
					t.Errorf("%.20s was acknowledged and is not there", name)
				}
			}
			if err := wait(t, submit(t, j, "a", "anew")); err != nil {
				t.Errorf("opened anew: %v", err)
			}
		})
	}
}

// TestBrokenLogIsNotClosed lets Pebble notice that its log is broken before
// the journal does. It panics then, and keeps its locks: the journal fails, can
// still be read, and closes without it.
func TestBrokenLogIsNotClosed(t *testing.T) {
	var on atomic.Bool
	hit := make(chan struct{}, 1)
	files := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !on.Load() || filepath.Ext(op.Path) != ".log" || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		select {
		case hit <- struct{}{}:
		default:
		}
		return errors.New("broken disk")
	}))
	j, err := Open(t.Context(), Options{Dir: "journal", fs: files, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	// The releaser does not look while it is in a Done.
	inDone, goOn := make(chan struct{}), make(chan struct{})
	first := &journal.Submission{
		Entries: []journal.Entry{{Topic: "a", Payload: []byte("first"), Partition: journal.NoPartition}},
		Done:    func(journal.Result) { close(inDone); <-goOn },
	}
	if err := j.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	<-inDone
	on.Store(true)
	var results []<-chan error
	batch := func() { // enough to be written while others wait for their sync
		for range gatherItems {
			results = append(results, submit(t, j, "a", "x"))
		}
	}
	batch()
	select {
	case <-hit:
	case <-time.After(patience):
		t.Fatal("the log was not written")
	}
	until := func(ok func() bool) {
		for deadline := time.Now().Add(patience); !ok() && time.Now().Before(deadline); {
			runtime.Gosched()
		}
	}
	// One more than a block of the log, which sees the error then, and another.
	results = append(results, submit(t, j, "a", strings.Repeat("more than a block ", 3000)))
	batch()
	until(func() bool { return j.queue.waiting() < gatherItems })
	batch()
	until(j.wrecked.Load)
	close(goOn)
	for i, r := range results {
		if err := wait(t, r); !errors.Is(err, journal.ErrFailed) {
			t.Fatalf("entry %d: %v, want ErrFailed", i, err)
		}
	}
	if !j.wrecked.Load() {
		t.Error("Pebble did not notice first: the test tests nothing")
	}
	if got := names(t, j, 0, "a"); len(got) != 1 || got[0] != "first" {
		t.Errorf("%d entries are to be read, want the one that was acknowledged", len(got))
	}
	if err := j.Close(); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Close = %v, want ErrFailed", err)
	}
}

// TestTablesThatCannotBeWrittenAreWrittenLater breaks everything but the log,
// until writing stalls, and mends it again.
func TestTablesThatCannotBeWrittenAreWrittenLater(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var on atomic.Bool
	hit := make(chan struct{}, 1)
	files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !on.Load() || filepath.Ext(op.Path) != ".sst" || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		select {
		case hit <- struct{}{}:
		default:
		}
		return errors.New("no space left on device")
	}))
	j, err := Open(t.Context(), Options{Dir: "journal", fs: files, memTableBytes: 64 << 10, RingBytes: 1, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	var results []<-chan error
	for i := range 1000 {
		results = append(results, submit(t, j, "a", fmt.Sprint(i)+strings.Repeat(" ", 1000)))
	}
	select {
	case <-hit:
	case <-time.After(patience):
		t.Fatal("no table was written")
	}
	on.Store(false)
	for i, r := range results {
		if err := wait(t, r); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	disk := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(t.Context(), Options{Dir: "journal", fs: disk, Log: logger(t)}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if got := len(names(t, j, 0, "a")); got != len(results) {
		t.Errorf("%d entries, want %d", got, len(results))
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
