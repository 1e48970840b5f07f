package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdline/broker/journal"
)

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
	for life := range 8 {
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
		// Readers look whenever a writer did something, durable or not.
		looks := make([]chan struct{}, 3)
		for i := range looks {
			looks[i] = make(chan struct{}, 1)
		}
		look := func() {
			for _, l := range looks {
				select {
				case l <- struct{}{}:
				default:
				}
			}
		}
		next := func(looks <-chan struct{}) bool {
			select {
			case <-end:
				return false
			case <-looks:
				return true
			}
		}
		start := j.Tail().Seq
		var written atomic.Int64
		enough, reached := int64(200+random.IntN(2000)), make(chan struct{})
		for w := range 4 {
			wg.Go(func() {
				inbox := fmt.Sprint("in/", w)
				event, err := j.Inbox(t.Context(), inbox)
				if err != nil {
					t.Error(err)
					return
				}
				for i := 0; ; i++ {
					select {
					case <-end:
						return
					default:
					}
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
					look()
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
		for i, filters := range [][]string{{"t/+"}, {"t/1", "t/2"}} {
			wg.Go(func() {
				for after := start; next(looks[i]); {
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
			for next(looks[2]) {
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
		disk := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(3) * 50, RNG: random})
		mu.Unlock()
		close(end)
		wg.Wait()
		stop()
		if err := j.Close(); err != nil {
			t.Errorf("life %d: Close = %v", life, err)
		}
		mem = disk
	}
}
