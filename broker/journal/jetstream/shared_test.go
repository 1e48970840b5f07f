package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdline/broker/journal"
)

// append writes a submission and waits.
func appendNow(t *testing.T, j *Journal, s *journal.Submission) journal.Result {
	t.Helper()
	done := make(chan journal.Result, 1)
	s.Done = func(r journal.Result) { done <- r }
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("Done was not called")
		panic("unreachable")
	}
}

func entry(topic, payload string, partition int) journal.Entry {
	return journal.Entry{Topic: topic, Payload: []byte(payload), Partition: partition}
}

// two opens two processes on one stream.
func two(t *testing.T, c *cluster) (a, b *Journal) {
	t.Helper()
	o := newDisk(c).options()
	o.dialer = nil
	for _, j := range []**Journal{&a, &b} {
		opened, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = opened.Close() }) // the test may have
		*j = opened
	}
	return a, b
}

// catch waits until b knows everything that a knows.
func catch(t *testing.T, a, b *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.tail.reach(ctx, a.known.Load()); err != nil {
		t.Fatal(err)
	}
}

func TestProcessesShareWhatTheyKnow(t *testing.T) {
	a, b := two(t, newCluster(t, 1))
	if a.Tail().Epoch != b.Tail().Epoch {
		t.Errorf("the epochs are %d and %d", a.Tail().Epoch, b.Tail().Epoch)
	}

	// Who reads a record has a tail that is no older than it.
	for range 20 {
		s := &journal.Submission{Entries: []journal.Entry{entry("x/1", "1", 3)}, Puts: []journal.Put{{Key: "k", Value: []byte("v"), If: journal.AnyVersion}}}
		version := appendNow(t, a, s).Version
		r, ok, err := b.Record(t.Context(), "k")
		if err != nil || !ok || r.Version != version {
			t.Fatalf("Record = %d, %v, %v, want version %d", r.Version, ok, err, version)
		}
		if tail := b.Tail().Seq; tail < s.Entries[0].Seq {
			t.Fatalf("the tail is %d beside a record that came with entry %d", tail, s.Entries[0].Seq)
		}
	}

	// Both change records and inboxes that the other knows in an older state.
	version := uint64(0)
	for i := range 10 {
		j, other := a, b
		if i%2 == 1 {
			j, other = b, a
		}
		s := &journal.Submission{
			Entries: []journal.Entry{{Topic: "in", Inbox: "i", Event: uint64(i + 1), Partition: journal.NoPartition}},
			Puts:    []journal.Put{{Key: "turns", Value: []byte("v"), If: version}},
		}
		r := appendNow(t, j, s)
		if r.Err != nil || s.Entries[0].Seq == 0 {
			t.Fatalf("turn %d: %v with seq %d", i, r.Err, s.Entries[0].Seq)
		}
		stale := &journal.Submission{Puts: []journal.Put{{Key: "turns", Value: []byte("stale"), If: version}}}
		if r := appendNow(t, other, stale); !errors.Is(r.Err, journal.ErrConflict) {
			t.Fatalf("turn %d: a stale put: %v, want ErrConflict", i, r.Err)
		}
		repeat := &journal.Submission{Entries: []journal.Entry{{Topic: "in", Inbox: "i", Event: uint64(i + 1), Partition: journal.NoPartition}}}
		if r := appendNow(t, other, repeat); r.Err != nil || repeat.Entries[0].Seq != 0 {
			t.Fatalf("turn %d: a repeat: %v with seq %d", i, r.Err, repeat.Entries[0].Seq)
		}
		version = r.Version
	}

	// What one process stored is what the other knows, and its tail is as far.
	last := &journal.Submission{Entries: []journal.Entry{entry("x/1", "last", 3)}}
	appendNow(t, a, last)
	if err := a.Keep(t.Context(), 3, last.Entries[0].Seq); err != nil {
		t.Fatal(err)
	}
	appendNow(t, a, &journal.Submission{Entries: []journal.Entry{entry("y", "with what Keep was told", journal.NoPartition)}})
	if seq, err := b.Kept(t.Context(), 3); err != nil || seq != last.Entries[0].Seq || b.Tail().Seq < seq {
		t.Errorf("Kept = %d, %v with the tail %d, want %d", seq, err, b.Tail().Seq, last.Entries[0].Seq)
	}
	if err := b.Keep(t.Context(), 3, 1); err != nil {
		t.Error(err)
	}
	if seq, err := a.Kept(t.Context(), 3); err != nil || seq != last.Entries[0].Seq {
		t.Errorf("Kept = %d, %v after the other went back", seq, err)
	}

	// Announcements.
	heard := make(chan string, 4)
	defer b.Listen(func(a journal.Announcement) { heard <- a.Topic + string(a.Payload) })()
	if err := b.fetch.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := a.Announce(t.Context(), journal.Announcement{Topic: "wake", Payload: []byte("!")}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if got != "wake!" {
			t.Errorf("heard %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing was heard")
	}

	// Erasing, retention and epochs.
	if err := a.Erase(t.Context(), []string{"x/#"}, []string{"k"}); err != nil {
		t.Fatal(err)
	}
	catch(t, a, b)
	for _, j := range []*Journal{a, b} {
		page, err := j.Read(t.Context(), []string{"x/+"}, 0, 10)
		if err != nil || len(page.Entries) != 0 {
			t.Errorf("Read of what was erased = %d entries, %v", len(page.Entries), err)
		}
		if _, ok, err := j.Record(t.Context(), "k"); ok || err != nil {
			t.Errorf("Record of what was erased = %v, %v", ok, err)
		}
	}
	if err := b.Retain(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	catch(t, b, a)
	for _, j := range []*Journal{a, b} {
		if _, err := j.Read(t.Context(), []string{"#"}, 0, 10); !errors.Is(err, journal.ErrTruncated) {
			t.Errorf("Read of what is gone = %v, want ErrTruncated", err)
		}
	}
	tail, err := a.Renew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	catch(t, a, b)
	if got := b.Tail(); got != tail {
		t.Errorf("the tail is %+v, for the other %+v", got, tail)
	}
}

// A batch that is still on its way when its outcome is asked for cannot be
// written any more.
func TestLateBatchIsRefused(t *testing.T) {
	a, b := two(t, newCluster(t, 1))
	appendNow(t, a, &journal.Submission{Entries: []journal.Entry{entry("x", "1", 0)}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// As a's appender would: the test is the only one to use it now.
	writer := &appender{j: a, process: a.process}
	s, ok, err := writer.readFence(ctx)
	if err != nil || !ok {
		t.Fatalf("the fence: %v, %v", ok, err)
	}
	writer.fence, writer.fenced, writer.batches = s.seq, time.Now(), 1000
	batch := &batch{items: []item{{submission: &journal.Submission{Entries: []journal.Entry{entry("x", "late", 0), entry("x", "later", 0)}}}}}
	late, _, _, err := writer.build(ctx, batch, false)
	if err != nil {
		t.Fatal(err)
	}
	if seq, written, err := writer.resolve(ctx, batch.number, late, s.seq); err != nil || written {
		t.Fatalf("resolve = %d, %v, %v, want not written", seq, written, err)
	}
	if _, err := a.publisher.publish(ctx, "late", late); !errors.Is(err, errStale) {
		t.Errorf("the late batch: %v, want it refused", err)
	}
	page, err := b.Read(t.Context(), []string{"x"}, 0, 10)
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("%d entries, %v, want the one of before", len(page.Entries), err)
	}

	// One that was written is found, whatever others have written since.
	was := a.known.Load()
	early, _, _, err := writer.build(ctx, batch, false)
	if err != nil {
		t.Fatal(err)
	}
	want, err := a.publisher.publish(ctx, "early", early)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		appendNow(t, b, &journal.Submission{Entries: []journal.Entry{entry("x", "another", 0)}})
	}
	if seq, written, err := writer.resolve(ctx, batch.number, early, was); err != nil || !written || seq != want {
		t.Errorf("resolve = %d, %v, %v, want %d", seq, written, err, want)
	}
}

func TestFullStreamRefusesUntilThereIsRoom(t *testing.T) {
	c := newCluster(t, 1)
	o := newDisk(c).options()
	o.dialer, o.MaxBytes = nil, 1<<20
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	written := 0
	for {
		s := &journal.Submission{Entries: []journal.Entry{{Topic: "a", Payload: make([]byte, 10_000), Partition: journal.NoPartition}}}
		r := appendNow(t, j, s)
		if errors.Is(r.Err, journal.ErrFull) {
			break
		}
		if r.Err != nil || written > 1000 {
			t.Fatalf("Done = %v after %d entries", r.Err, written)
		}
		written++
	}
	page, err := j.Read(t.Context(), []string{"a"}, 0, 1000)
	if err != nil || len(page.Entries) != written || written < 50 {
		t.Errorf("%d entries, %v, want the %d that were acknowledged", len(page.Entries), err, written)
	}
	if err := j.Retain(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatalf("Retain = %v", err)
	}
	if r := appendNow(t, j, &journal.Submission{Entries: []journal.Entry{entry("a", "again", journal.NoPartition)}}); r.Err != nil {
		t.Errorf("Done = %v when there is room", r.Err)
	}
}

// A cluster that stays away is a failure in the end; what was acknowledged is
// there when the journal is opened anew.
func TestJournalFailsWhenTheClusterStaysAway(t *testing.T) {
	c := newCluster(t, 1)
	o := newDisk(c).options()
	o.dialer, o.Patience = nil, 3*time.Second
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	appendNow(t, j, &journal.Submission{Entries: []journal.Entry{entry("a", "1", journal.NoPartition)}})
	c.nodes[0].kill()
	if r := appendNow(t, j, &journal.Submission{Entries: []journal.Entry{entry("a", "2", journal.NoPartition)}}); !errors.Is(r.Err, journal.ErrFailed) {
		t.Errorf("Done = %v, want ErrFailed", r.Err)
	}
	if err := j.Append(t.Context(), &journal.Submission{}); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Append = %v, want ErrFailed", err)
	}
	if err := j.Close(); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Close = %v, want ErrFailed", err)
	}
	c.nodes[0].start(t)
	c.ready(t, 1)
	if j, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	page, err := j.Read(t.Context(), []string{"a"}, 0, 10)
	if err != nil || len(page.Entries) == 0 || string(page.Entries[0].Payload) != "1" {
		t.Errorf("%d entries, %v, want what was acknowledged", len(page.Entries), err)
	}
}
