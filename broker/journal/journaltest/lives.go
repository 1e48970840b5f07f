package journaltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdline/broker/journal"
)

func restart(t *testing.T, d Disk) {
	j := open(t, d)
	all := write(t, j, plain("a", "1"), numbered("i", 4), input(3, "b/c", "3"))
	all = append(all, write(t, j, numbered("i", 5))...)
	version := put(t, j, journal.Put{Key: "k", Value: []byte("v")})
	keep(t, j, 3, all[2].Seq)
	lazy := &journal.Submission{Entries: []journal.Entry{plain("a", "lazy")}, Lazy: true}
	waits := submit(t, j, lazy)
	tail := j.Tail()
	closeNow(t, j)
	if r := receive(t, "Done", waits); r.Err != nil {
		t.Fatalf("a lazy submission before Close: %v", r.Err)
	}
	all = append(all, lazy.Entries...)

	for life := range 3 {
		j = open(t, d)
		if got := j.Tail(); got.Epoch != tail.Epoch || got.Seq < all[len(all)-1].Seq {
			t.Errorf("life %d: tail %+v, want epoch %d and seq %d", life, got, tail.Epoch, all[len(all)-1].Seq)
		}
		if d := diff(all, readAll(t, j, 0, 3, "#")); d != "" {
			t.Errorf("life %d (-want +got):\n%s", life, d)
		}
		if d := diff(all[2:3], readAll(t, j, 0, 3, "b/#")); d != "" {
			t.Errorf("life %d, by prefix (-want +got):\n%s", life, d)
		}
		if d := diff(all[2:3], readPartition(t, j, 3, 0, 10)); d != "" {
			t.Errorf("life %d, the partition (-want +got):\n%s", life, d)
		}
		if got := record(t, j, "k"); string(got.Value) != "v" || got.Version != version {
			t.Errorf("life %d: k is %s at %d, want v at %d", life, got.Value, got.Version, version)
		}
		if got := kept(t, j, 3); got != all[2].Seq {
			t.Errorf("life %d: Kept = %d, want %d", life, got, all[2].Seq)
		}
		if n := inboxLast(t, j, "i"); n != uint64(5+life) {
			t.Errorf("life %d: the inbox is at %d, want %d", life, n, 5+life)
		}
		s := &journal.Submission{Entries: []journal.Entry{numbered("i", uint64(5+life)), numbered("i", uint64(6+life))}}
		if r := try(t, j, s); r.Err != nil || s.Entries[0].Seq != 0 || s.Entries[1].Seq <= all[len(all)-1].Seq {
			t.Errorf("life %d: %v with %d and %d, want the first dropped and the second after %d",
				life, r.Err, s.Entries[0].Seq, s.Entries[1].Seq, all[len(all)-1].Seq)
		}
		all = append(all, s.Entries[1])
		next := put(t, j, journal.Put{Key: "k", Value: []byte("v"), If: version})
		if next <= version {
			t.Errorf("life %d: version %d after %d", life, next, version)
		}
		version = next
		closeNow(t, j)
	}
}

// crash cuts the power while many write, a few times, and compares what is
// there with what was acknowledged.
func crash(t *testing.T, d Disk) {
	acked := map[uint64]string{}
	counter := map[int]uint64{} // last acknowledged version of each writer's record
	var mu sync.Mutex
	for life := range 4 {
		j := d.Open(t)
		tail := j.Tail().Seq
		mu.Lock()
		found := map[uint64]string{}
		for _, e := range readAll(t, j, 0, 500, "w/#") {
			found[e.Seq] = string(e.Payload)
		}
		for seq, payload := range acked {
			if found[seq] != payload || seq > tail {
				t.Errorf("life %d: entry %d is %q, %q was acknowledged; the tail is %d", life, seq, found[seq], payload, tail)
			}
		}
		for seq := range found {
			pair := found[seq][:len(found[seq])-1]
			if found[seq] == pair+"a" && found[seq+1] != pair+"b" {
				t.Errorf("life %d: %sa is there without %sb", life, pair, pair)
			}
		}
		for w, version := range counter {
			if r := record(t, j, fmt.Sprint("w/", w)); r.Version < version {
				t.Errorf("life %d: record %d is at %d, %d was acknowledged", life, w, r.Version, version)
			}
		}
		mu.Unlock()
		if life == 3 {
			closeNow(t, j)
			return
		}
		ctx, stop := context.WithCancel(t.Context())
		enough := make(chan struct{})
		n := 0
		var wg sync.WaitGroup
		for w := range 5 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					done := make(chan journal.Result, 1)
					topic, name := fmt.Sprint("w/", w), fmt.Sprintf("%d.%d.%d.", life, w, i)
					s := &journal.Submission{
						Entries: []journal.Entry{plain(topic, name+"a"), plain(topic, name+"b")},
						Puts:    []journal.Put{{Key: topic, Value: []byte(name), If: journal.AnyVersion}},
						Done:    func(r journal.Result) { done <- r },
					}
					if err := j.Append(ctx, s); err != nil {
						return
					}
					select {
					case r := <-done:
						if r.Err != nil {
							return
						}
						mu.Lock()
						if ctx.Err() == nil { // what is told after the power cut counts for nothing
							for _, e := range s.Entries {
								if was := acked[e.Seq]; was != "" {
									t.Errorf("life %d: %s has the number %d of %s", life, e.Payload, e.Seq, was)
								}
								acked[e.Seq] = string(e.Payload)
							}
							counter[w] = r.Version
							if n++; n == 100 {
								close(enough)
							}
						}
						mu.Unlock()
					case <-ctx.Done():
					}
				}
			})
		}
		receive(t, "100 acknowledgements", enough)
		mu.Lock()
		stop()
		mu.Unlock()
		d.Crash(t)
		wg.Wait()
	}
}

func crashWhileHeld(t *testing.T, d Disk) {
	j := d.Open(t)
	first := write(t, j, plain("a", "1"), numbered("i", 1))
	version := put(t, j, journal.Put{Key: "k", Value: []byte("v")})
	waiting, release := d.Hold(t)
	lost := &journal.Submission{
		Entries: []journal.Entry{plain("a", "lost"), numbered("i", 2)},
		Puts:    []journal.Put{{Key: "k", Value: []byte("lost"), If: version}},
		Done:    func(journal.Result) {},
	}
	if err := j.Append(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	waiting()
	d.Crash(t)
	release()

	j = open(t, d)
	if d := diff(first, readAll(t, j, 0, 10, "#")); d != "" {
		t.Errorf("after the crash (-want +got):\n%s", d)
	}
	if got := record(t, j, "k"); string(got.Value) != "v" || got.Version != version {
		t.Errorf("k is %s at %d, want v at %d", got.Value, got.Version, version)
	}
	if n := inboxLast(t, j, "i"); n != 1 {
		t.Errorf("the inbox is at %d, want 1", n)
	}
	if again := write(t, j, numbered("i", 2)); again[0].Seq == 0 {
		t.Error("the number that was lost is taken for a repeat")
	}
}

func closeWaits(t *testing.T, d Disk) {
	j := open(t, d)
	const n = 200
	results := make(chan error, n)
	for i := range n {
		s := &journal.Submission{Entries: []journal.Entry{plain("a", fmt.Sprint(i))}, Lazy: i%2 == 0}
		s.Done = func(r journal.Result) { results <- r.Err }
		if err := j.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	closeNow(t, j)
	if took := time.Since(begin); took > patience {
		t.Errorf("Close took %v", took)
	}
	if len(results) != n {
		t.Fatalf("%d Dones before Close returned, want %d", len(results), n)
	}
	for range n {
		if err := <-results; err != nil {
			t.Fatalf("Done = %v", err)
		}
	}
	j = open(t, d)
	if got := len(readAll(t, j, 0, 1000, "a")); got != n {
		t.Errorf("%d entries after Close, want %d", got, n)
	}
}

func closedSaysSo(t *testing.T, d Disk) {
	j := open(t, d)
	write(t, j, plain("a", "1"))
	stop, err := j.Follow(0, func([]*journal.Entry) {})
	if err != nil && !errors.Is(err, journal.ErrTruncated) {
		t.Fatal(err)
	}
	closeNow(t, j)
	if stop != nil {
		stop() // allowed after Close too
	}
	ctx := t.Context()
	s := &journal.Submission{Entries: []journal.Entry{plain("a", "2")}, Done: func(journal.Result) { t.Error("Done was called") }}
	for name, err := range map[string]error{
		"Append":        j.Append(ctx, s),
		"Read":          second(j.Read(ctx, []string{"#"}, 0, 10)),
		"ReadPartition": second(j.ReadPartition(ctx, 0, 0, 10)),
		"Inbox":         second(j.Inbox(ctx, "i")),
		"Records":       j.Records(ctx, "", func(journal.Record) error { return nil }),
		"Keep":          j.Keep(ctx, 0, 0),
		"Kept":          second(j.Kept(ctx, 0)),
		"Renew":         second(j.Renew(ctx)),
		"Erase":         j.Erase(ctx, []string{"#"}, nil),
		"Retain":        j.Retain(ctx, time.Now()),
		"Follow":        second(j.Follow(0, func([]*journal.Entry) {})),
		"Close":         j.Close(),
	} {
		if !errors.Is(err, journal.ErrClosed) {
			t.Errorf("%s on a closed journal = %v, want ErrClosed", name, err)
		}
	}
	if _, _, err := j.Record(ctx, "k"); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Record on a closed journal = %v, want ErrClosed", err)
	}
}

func second[T any](_ T, err error) error { return err }
