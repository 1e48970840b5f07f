package journaltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

func newIsEmpty(t *testing.T, d Disk) {
	j := open(t, d)
	tail := j.Tail()
	if tail.Seq != 0 || tail.Epoch == 0 || tail.Epoch > 1<<53 {
		t.Errorf("Tail = %+v, want seq 0 and an epoch that JSON can carry", tail)
	}
	if s := j.Stats(); s.Oldest != 1 || s.Tail != tail {
		t.Errorf("Stats = %+v, want oldest 1 and tail %+v", s, tail)
	}
	page, err := j.Read(t.Context(), []string{"#"}, 0, 10)
	if err != nil || len(page.Entries) != 0 || page.Through != 0 {
		t.Errorf("Read = %+v, %v, want nothing", page, err)
	}
	if _, ok, err := j.Record(t.Context(), "x"); ok || err != nil {
		t.Errorf("Record = %v, %v, want none", ok, err)
	}
	if n := inboxLast(t, j, "x"); n != 0 {
		t.Errorf("Inbox = %d, want 0", n)
	}
}

func entriesInOrder(t *testing.T, d Disk) {
	j := open(t, d)
	begin := time.Now().Add(-time.Second)
	var all []journal.Entry
	for i := range 20 {
		all = append(all, write(t, j, plain("a", fmt.Sprint(2*i)), plain("b", fmt.Sprint(2*i+1)))...)
		if tail := j.Tail().Seq; tail < all[len(all)-1].Seq {
			t.Fatalf("Tail = %d after entry %d was done", tail, all[len(all)-1].Seq)
		}
	}
	for i, e := range all {
		if i > 0 && (e.Seq <= all[i-1].Seq || e.At.Before(all[i-1].At)) {
			t.Errorf("entry %d has seq %d at %v, the one before %d at %v", i, e.Seq, e.At, all[i-1].Seq, all[i-1].At)
		}
		if e.Seq == 0 || e.At.Before(begin) || e.At.After(time.Now().Add(time.Second)) || e.At.Location() != time.UTC {
			t.Errorf("entry %d has seq %d at %v", i, e.Seq, e.At)
		}
	}
	if d := diff(all, readAll(t, j, 0, 7, "#")); d != "" {
		t.Errorf("read differs from written (-want +got):\n%s", d)
	}
	if s := j.Stats(); s.Entries != 40 || s.Bytes == 0 || s.Syncs == 0 {
		t.Errorf("Stats = %+v, want 40 entries, bytes and syncs", s)
	}
}

func entriesComeBack(t *testing.T, d Disk) {
	j := open(t, d)
	long := strings.Repeat("long ", 20_000)
	all := write(t, j,
		journal.Entry{Topic: "a", Partition: journal.NoPartition},
		journal.Entry{
			Topic: "$hl/main/customer/ada/up/message", Payload: []byte(long), Properties: []byte{1, 2, 0}, Partition: 15,
			Expires: time.Date(2031, 2, 3, 4, 5, 6, 7000, time.UTC), Client: "phone-1",
		},
		journal.Entry{Topic: "退款/请求", Refused: []byte(`{"reason":"too-large"}`), Partition: 0, Client: "телефон"},
		journal.Entry{Topic: strings.Repeat("t", 1000), Payload: []byte{0}, Partition: journal.NoPartition, Inbox: "1-ada", Event: 1 << 40},
		journal.Entry{Topic: "a", Payload: []byte("b"), Expires: time.UnixMicro(1).UTC(), Partition: 3},
	)
	if d := diff(all, readAll(t, j, 0, 10, "#", "$hl/#")); d != "" {
		t.Errorf("read differs from written (-want +got):\n%s", d)
	}
}

func submissionIsReturned(t *testing.T, d Disk) {
	j := open(t, d)
	s := &journal.Submission{
		Entries: []journal.Entry{plain("a", "first")},
		Puts:    []journal.Put{{Key: "k", Value: []byte("first")}},
	}
	if r := try(t, j, s); r.Err != nil {
		t.Fatal(r.Err)
	}
	copy(s.Entries[0].Payload, "XXXXX")
	copy(s.Puts[0].Value, "XXXXX")
	s.Entries[0] = plain("a", "second")
	s.Puts[0] = journal.Put{Key: "l", Value: []byte("second")}
	if r := try(t, j, s); r.Err != nil {
		t.Fatal(r.Err)
	}
	if got := payloads(readAll(t, j, 0, 10, "a")); got != "first second" {
		t.Errorf("entries are %q, want first second", got)
	}
	if got := string(record(t, j, "k").Value); got != "first" {
		t.Errorf("record is %q, want first", got)
	}
}

func neverWritten(t *testing.T, d Disk) {
	j := open(t, d)
	for _, tt := range []struct {
		name string
		s    journal.Submission
	}{
		{"no topic", journal.Submission{Entries: []journal.Entry{plain("a", ""), plain("", "")}}},
		{"a topic with NUL", journal.Submission{Entries: []journal.Entry{plain("a\x00b", "")}}},
		{"a topic that is too long", journal.Submission{Entries: []journal.Entry{plain(strings.Repeat("a", journal.MaxTopicBytes+1), "")}}},
		{"a partition too many", journal.Submission{Entries: []journal.Entry{input(chat.Partitions, "a", "")}}},
		{"a partition too few", journal.Submission{Entries: []journal.Entry{input(-2, "a", "")}}},
		{"an inbox without number", journal.Submission{Entries: []journal.Entry{numbered("i", 0)}}},
		{"a number without inbox", journal.Submission{Entries: []journal.Entry{{Topic: "a", Partition: journal.NoPartition, Event: 3}}}},
		{"a put without key", journal.Submission{Puts: []journal.Put{{Value: []byte("v")}}}},
	} {
		tt.s.Done = func(journal.Result) { t.Errorf("%s: Done was called", tt.name) }
		if err := j.Append(t.Context(), &tt.s); err == nil {
			t.Errorf("%s: Append = nil, want an error", tt.name)
		}
	}
	write(t, j, plain("a", "x")) // a Done of before would have come first
	if got := payloads(readAll(t, j, 0, 10, "#")); got != "x" {
		t.Errorf("entries are %q, want x", got)
	}
	if r := try(t, j, &journal.Submission{}); r.Err != nil {
		t.Errorf("an empty submission: %v, want it done", r.Err)
	}
	if err := j.Append(t.Context(), &journal.Submission{Entries: []journal.Entry{plain("a", "no Done")}}); err != nil {
		t.Errorf("Append without Done = %v", err)
	}
}

func doneInOrder(t *testing.T, d Disk) {
	j := open(t, d)
	const n = 300
	var mu sync.Mutex
	var done []int
	told := map[uint64]bool{}
	end := make(chan struct{})
	seen := 0
	stop := follow(t, j, func(entries []*journal.Entry) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			if !told[e.Seq] {
				t.Errorf("a follower saw entry %d before its Done", e.Seq)
			}
			if seen++; seen == n {
				close(end)
			}
		}
	})
	defer stop()
	for i := range n {
		s := &journal.Submission{Entries: []journal.Entry{plain("a", fmt.Sprint(i))}, Lazy: i%3 == 0}
		s.Done = func(r journal.Result) {
			mu.Lock()
			defer mu.Unlock()
			if r.Err != nil || s.Entries[0].Seq == 0 {
				t.Errorf("submission %d: seq %d, %v", i, s.Entries[0].Seq, r.Err)
			}
			if tail := j.Tail().Seq; tail < s.Entries[0].Seq {
				t.Errorf("submission %d is done with seq %d; the tail is %d", i, s.Entries[0].Seq, tail)
			}
			done = append(done, i)
			told[s.Entries[0].Seq] = true
		}
		if err := j.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "the follower's last entry", end)
	mu.Lock()
	defer mu.Unlock()
	if !slices.IsSorted(done) || len(done) != n {
		t.Errorf("Dones came in the order %v", done)
	}
	for i, e := range readAll(t, j, 0, n, "a") {
		if string(e.Payload) != fmt.Sprint(i) {
			t.Fatalf("entry %d is %s: entries are not in the order of Append", i, e.Payload)
		}
	}
}

func nothingBeforeDurable(t *testing.T, d Disk) {
	j := open(t, d)
	first := write(t, j, numbered("i", 1), input(2, "a", "first"))
	version := put(t, j, journal.Put{Key: "k", Value: []byte("first")})
	seen := make(chan uint64, 10)
	stop, err := j.Follow(j.Tail().Seq, func(entries []*journal.Entry) {
		for _, e := range entries {
			seen <- e.Seq
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	waiting, release := d.Hold(t)
	defer release()
	held := submit(t, j, &journal.Submission{
		Entries: []journal.Entry{numbered("i", 2), input(2, "a", "second")},
		Puts: []journal.Put{
			{Key: "k", Value: []byte("second"), If: version},
			{Key: "new", Value: []byte("second")},
		},
	})
	waiting()
	if tail := j.Tail().Seq; tail < first[1].Seq {
		t.Errorf("Tail = %d, want at least %d", tail, first[1].Seq)
	}
	for filters, want := range map[string]string{"#": "i first", "a": "first", "inbox/#": "i", "a inbox/+": "i first"} {
		if got := payloads(readAll(t, j, 0, 10, strings.Fields(filters)...)); got != want {
			t.Errorf("Read(%s) finds %q, want what is durable", filters, got)
		}
	}
	if got := payloads(readPartition(t, j, 2, 0, 10)); got != "first" {
		t.Errorf("ReadPartition finds %q, want what is durable", got)
	}
	if got := record(t, j, "k"); string(got.Value) != "first" || got.Version != version {
		t.Errorf("Record = %s at %d, want what is durable", got.Value, got.Version)
	}
	if _, ok, err := j.Record(t.Context(), "new"); ok || err != nil {
		t.Errorf("Record = %v, %v, want none before it is durable", ok, err)
	}
	if n := inboxLast(t, j, "i"); n != 1 {
		t.Errorf("Inbox = %d, want 1: 2 is not durable", n)
	}
	// What waits is judged against what waits before it.
	again := submit(t, j, &journal.Submission{Puts: []journal.Put{{Key: "k", Value: []byte("third"), If: version}}})
	repeat := &journal.Submission{Entries: []journal.Entry{numbered("i", 2), numbered("i", 3)}}
	repeated := submit(t, j, repeat)
	select {
	case r := <-held:
		t.Errorf("Done(%v) while the disk is held", r.Err)
	case seq := <-seen:
		t.Errorf("a follower saw %d while the disk is held", seq)
	default:
	}
	release()
	if r := receive(t, "Done", held); r.Err != nil {
		t.Errorf("Done = %v after the disk went on", r.Err)
	}
	if r := receive(t, "Done", again); !errors.Is(r.Err, journal.ErrConflict) {
		t.Errorf("Done = %v, want ErrConflict with what was not yet durable", r.Err)
	}
	if r := receive(t, "Done", repeated); r.Err != nil || repeat.Entries[0].Seq != 0 || repeat.Entries[1].Seq == 0 {
		t.Errorf("Done = %v with numbers %d and %d, want the first dropped", r.Err, repeat.Entries[0].Seq, repeat.Entries[1].Seq)
	}
	receive(t, "the follower's entry", seen)
	if got := payloads(readAll(t, j, 0, 10, "#")); got != "i first i second i" {
		t.Errorf("Read finds %q", got)
	}
}

func lazyIsSoon(t *testing.T, d Disk) {
	j := open(t, d)
	begin := time.Now()
	r := try(t, j, &journal.Submission{Entries: []journal.Entry{plain("a", "lazy")}, Lazy: true})
	if took := time.Since(begin); r.Err != nil || took > 3*time.Second {
		t.Errorf("a lazy submission alone: %v after %v, want about a second at the longest", r.Err, took)
	}
}

func lazyKeepsPlace(t *testing.T, d Disk) {
	j := open(t, d)
	var order []string
	end := make(chan struct{})
	for i, name := range []string{"lazy", "also lazy", "urgent"} {
		s := &journal.Submission{Entries: []journal.Entry{plain("a", name)}, Lazy: i < 2}
		s.Done = func(r journal.Result) {
			order = append(order, fmt.Sprint(name, r.Err))
			if i == 2 {
				close(end)
			}
		}
		if err := j.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "the urgent one's Done", end)
	if got, want := strings.Join(order, ", "), "lazy<nil>, also lazy<nil>, urgent<nil>"; got != want {
		t.Errorf("done in the order %s, want %s", got, want)
	}
	if got := payloads(readAll(t, j, 0, 10, "#")); got != "lazy also lazy urgent" {
		t.Errorf("entries are %q", got)
	}
}

func appendBlocks(t *testing.T, d Disk) {
	j := open(t, d)
	blocked := make(chan struct{})
	first := &journal.Submission{Entries: []journal.Entry{plain("a", "0")}, Done: func(journal.Result) { <-blocked }}
	if err := j.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1<<20)
	accepted := make(chan error, 4096)
	n := 0
	for ; ; n++ {
		if n == cap(accepted) {
			t.Fatalf("%d MB wait and Append still does not block", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		s := &journal.Submission{Entries: []journal.Entry{{Topic: "a", Payload: payload, Partition: journal.NoPartition}}}
		s.Done = func(r journal.Result) { accepted <- r.Err }
		err := j.Append(ctx, s)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	last := make(chan error, 1)
	go func() {
		done := make(chan journal.Result, 1)
		s := &journal.Submission{Entries: []journal.Entry{plain("a", "last")}, Done: func(r journal.Result) { done <- r }}
		if err := j.Append(soon(t), s); err != nil {
			last <- err
			return
		}
		last <- (<-done).Err
	}()
	close(blocked)
	if err := receive(t, "the one that waited for room", last); err != nil {
		t.Errorf("the one that waited for room: %v", err)
	}
	for range n {
		if err := receive(t, "Done", accepted); err != nil {
			t.Errorf("Done = %v", err)
		}
	}
	select {
	case <-accepted:
		t.Error("Done was called for the one that Append refused")
	default:
	}
}

// oneOrder lets many append at once and compares what they, a follower and
// readers saw.
func oneOrder(t *testing.T, d Disk) {
	j := open(t, d)
	const writers, each = 8, 150
	var mu sync.Mutex
	bySeq := map[uint64]string{} // what the writers were told

	var followed []*journal.Entry
	all := make(chan struct{})
	stop := follow(t, j, func(entries []*journal.Entry) {
		followed = append(followed, entries...)
		if len(followed) == writers*each*3/2 {
			close(all)
		}
	})
	defer stop()

	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var dones sync.WaitGroup
			for i := range each {
				s := &journal.Submission{}
				for k := range 1 + i%2 {
					s.Entries = append(s.Entries, input(w, fmt.Sprintf("w/%d", w), fmt.Sprintf("%d.%d.%d", w, i, k)))
				}
				dones.Add(1)
				s.Done = func(r journal.Result) {
					defer dones.Done()
					mu.Lock()
					defer mu.Unlock()
					for _, e := range s.Entries {
						if was := bySeq[e.Seq]; was != "" || r.Err != nil {
							t.Errorf("%s has the number %d of %s, %v", e.Payload, e.Seq, was, r.Err)
						}
						bySeq[e.Seq] = string(e.Payload)
					}
				}
				if err := j.Append(t.Context(), s); err != nil {
					t.Error(err)
					dones.Done()
				}
			}
			dones.Wait()
		})
	}
	// Readers move along meanwhile, and must not miss what they have passed.
	readers := make([][]*journal.Entry, 3)
	for r, filters := range [][]string{{"w/+"}, {"w/1", "w/2"}, {"w/#"}} {
		wg.Go(func() {
			after := uint64(0)
			for n := 0; n < writers*each*3/2; {
				page, err := j.Read(t.Context(), filters, after, 50)
				if err != nil {
					t.Error(err)
					return
				}
				readers[r] = append(readers[r], page.Entries...)
				after = page.Through
				mu.Lock()
				n = len(bySeq)
				mu.Unlock()
			}
			for tail := j.Tail().Seq; after < tail; {
				page, err := j.Read(t.Context(), filters, after, 50)
				if err != nil {
					t.Error(err)
					return
				}
				readers[r] = append(readers[r], page.Entries...)
				after = page.Through
			}
		})
	}
	wg.Wait()
	receive(t, "the follower's last entry", all)
	stop()

	want := readAll(t, j, 0, 1000, "#")
	if len(want) != writers*each*3/2 || len(bySeq) != len(want) {
		t.Fatalf("%d entries, and %d Dones, want %d", len(want), len(bySeq), writers*each*3/2)
	}
	for _, e := range want {
		if bySeq[e.Seq] != string(e.Payload) {
			t.Fatalf("entry %d is %s, its writer was told %s", e.Seq, e.Payload, bySeq[e.Seq])
		}
	}
	if d := diff(want, followed); d != "" {
		t.Errorf("the follower saw something else (-want +got):\n%s", d)
	}
	if d := diff(want, readers[0]); d != "" {
		t.Errorf("the reader of w/+ saw something else (-want +got):\n%s", d)
	}
	if d := diff(want, readers[2]); d != "" {
		t.Errorf("the reader of w/# saw something else (-want +got):\n%s", d)
	}
	var two []*journal.Entry
	for _, e := range want {
		if e.Topic == "w/1" || e.Topic == "w/2" {
			two = append(two, e)
		}
	}
	if d := diff(two, readers[1]); d != "" {
		t.Errorf("the reader of w/1 and w/2 saw something else (-want +got):\n%s", d)
	}
	for w := range writers {
		i := 0
		for _, e := range readPartition(t, j, w, 0, 40) {
			var writer, n, k int
			if _, err := fmt.Sscanf(string(e.Payload), "%d.%d.%d", &writer, &n, &k); err != nil || writer != w || n < i {
				t.Fatalf("partition %d has %s after submission %d", w, e.Payload, i)
			}
			i = n
		}
	}
}
