// Package journaltest is the contract test of journals: every promise that
// package journal makes, as a test that an engine passes or fails.
//
// It needs to end the life of a journal in all the ways that a real one ends,
// and to stop its disk in between, so an engine's test brings a Disk.
//
// It does not test what only one engine has: how it fails, what it costs.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdline/broker/journal"
)

// Disk is where one journal lives, life after life.
type Disk interface {
	// Open opens the journal. The test closes it, or crashes the disk, before it
	// opens the next.
	Open(t *testing.T) journal.Journal
	// Hold stops the disk: nothing becomes durable until release. waiting returns
	// when something waits for the disk.
	Hold(t *testing.T) (waiting, release func())
	// Crash ends the open journal as a power cut would: what is not durable is
	// gone, held or not. The test does not use that journal any more.
	Crash(t *testing.T)
}

// Run holds a journal to its contract. Each test gets a new disk.
func Run(t *testing.T, disk func(t *testing.T) Disk) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, d Disk)
	}{
		{"a new journal is empty", newIsEmpty},
		{"entries get numbers, times and one order", entriesInOrder},
		{"entries come back as they were", entriesComeBack},
		{"a submission is the caller's again after Done", submissionIsReturned},
		{"what can never be written is refused at once", neverWritten},
		{"Done comes in order and before followers", doneInOrder},
		{"nothing is seen before it is durable", nothingBeforeDurable},
		{"lazy submissions wait a second at the longest", lazyIsSoon},
		{"lazy submissions keep their place", lazyKeepsPlace},
		{"Append blocks when full and honours its context", appendBlocks},
		{"concurrent appenders get one order", oneOrder},

		{"filters match as MQTT says", filters},
		{"a few entries among many are found page by page", pages},
		{"many topics under one prefix are found", manyTopics},
		{"pages end where they say", through},
		{"partitions are read apart", partitions},

		{"an inbox takes each number once and in order", inboxNumbers},
		{"a gap refuses the whole submission", inboxGap},
		{"one submission may hold several numbers of an inbox", inboxInOneSubmission},

		{"records change from the version that is known", recordsCompare},
		{"a conflict refuses the whole submission", recordsConflict},
		{"records are listed by prefix", recordsByPrefix},
		{"one of many writers wins each version", recordsRace},

		{"followers see everything once", followEverything},
		{"a stopped follower is not called", followStops},
		{"announcements reach listeners", announcements},

		{"Keep only goes forward", keepGoesForward},
		{"Retain removes what is old", retainRemoves},
		{"Retain spares what Keep protects", retainSpares},
		{"an idle partition does not hold up Retain", retainIdlePartition},
		{"Erase removes entries and records", eraseRemoves},
		{"Renew starts an epoch and keeps entries", renewKeeps},

		{"everything is there after a restart", restart},
		{"what was acknowledged is there after a crash", crash},
		{"what was not durable is gone after a crash", crashWhileHeld},
		{"Close waits for what was submitted", closeWaits},
		{"a closed journal says so", closedSaysSo},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, disk(t)) })
	}
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// open opens the disk's journal and closes it in the end, unless the test did.
func open(t *testing.T, d Disk) journal.Journal {
	t.Helper()
	j := d.Open(t)
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !errors.Is(err, journal.ErrClosed) {
			t.Errorf("Close = %v", err)
		}
	})
	return j
}

func closeNow(t *testing.T, j journal.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close = %v", err)
	}
}

// receive waits for what must come.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
		panic("unreachable")
	}
}

// submit appends s and returns its result to come.
func submit(t *testing.T, j journal.Journal, s *journal.Submission) <-chan journal.Result {
	t.Helper()
	result := make(chan journal.Result, 1)
	s.Done = func(r journal.Result) { result <- r }
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatalf("Append = %v", err)
	}
	return result
}

// try appends s, waits, and returns the result.
func try(t *testing.T, j journal.Journal, s *journal.Submission) journal.Result {
	t.Helper()
	return receive(t, "Done", submit(t, j, s))
}

// write appends the entries as one submission and waits until it is durable.
func write(t *testing.T, j journal.Journal, entries ...journal.Entry) []journal.Entry {
	t.Helper()
	s := &journal.Submission{Entries: entries}
	if r := try(t, j, s); r.Err != nil {
		t.Fatalf("Append of %d entries: %v", len(entries), r.Err)
	}
	return s.Entries
}

// put writes records and returns their version.
func put(t *testing.T, j journal.Journal, puts ...journal.Put) uint64 {
	t.Helper()
	r := try(t, j, &journal.Submission{Puts: puts})
	if r.Err != nil {
		t.Fatalf("Append of %d puts: %v", len(puts), r.Err)
	}
	return r.Version
}

// plain is an entry that is no input.
func plain(topic, payload string) journal.Entry {
	return journal.Entry{Topic: topic, Payload: []byte(payload), Partition: journal.NoPartition}
}

// input is an entry of a partition.
func input(partition int, topic, payload string) journal.Entry {
	return journal.Entry{Topic: topic, Payload: []byte(payload), Partition: partition}
}

// numbered is an entry of an inbox.
func numbered(inbox string, event uint64) journal.Entry {
	e := plain("inbox/"+inbox, inbox)
	e.Inbox, e.Event = inbox, event
	return e
}

// readAll reads page by page up to the tail, and holds every page to the contract.
func readAll(t *testing.T, j journal.Journal, after uint64, limit int, filters ...string) []*journal.Entry {
	t.Helper()
	var all []*journal.Entry
	for tail := j.Tail().Seq; after < tail; {
		page, err := j.Read(t.Context(), filters, after, limit)
		if err != nil {
			t.Fatalf("Read(%q, %d) = %v", filters, after, err)
		}
		if page.Through <= after || page.Through > j.Tail().Seq {
			t.Fatalf("Read(%q, %d) came through to %d; the tail is %d", filters, after, page.Through, j.Tail().Seq)
		}
		if len(page.Entries) > limit {
			t.Fatalf("Read(%q, %d) = %d entries, want %d at most", filters, after, len(page.Entries), limit)
		}
		last := after
		for _, e := range page.Entries {
			if e.Seq <= last || e.Seq > page.Through {
				t.Fatalf("Read(%q, %d) has entry %d after %d, and came through to %d", filters, after, e.Seq, last, page.Through)
			}
			last = e.Seq
		}
		all = append(all, page.Entries...)
		after = page.Through
	}
	return all
}

// readPartition reads a partition page by page to its end.
func readPartition(t *testing.T, j journal.Journal, partition int, after uint64, limit int) []*journal.Entry {
	t.Helper()
	var all []*journal.Entry
	for {
		entries, err := j.ReadPartition(t.Context(), partition, after, limit)
		if err != nil {
			t.Fatalf("ReadPartition(%d, %d) = %v", partition, after, err)
		}
		if len(entries) == 0 {
			return all
		}
		if len(entries) > limit {
			t.Fatalf("ReadPartition(%d, %d) = %d entries, want %d at most", partition, after, len(entries), limit)
		}
		for _, e := range entries {
			if e.Seq <= after {
				t.Fatalf("ReadPartition(%d) has entry %d after %d", partition, e.Seq, after)
			}
			after = e.Seq
		}
		all = append(all, entries...)
	}
}

// follow starts to follow, from the first entry: it reads what the journal
// does not hold in memory any more.
func follow(t *testing.T, j journal.Journal, fn func([]*journal.Entry)) (stop func()) {
	t.Helper()
	after := uint64(0)
	for {
		stop, err := j.Follow(after, fn)
		if err == nil {
			return stop
		}
		if !errors.Is(err, journal.ErrTruncated) {
			t.Fatalf("Follow(%d) = %v", after, err)
		}
		page, err := j.Read(t.Context(), []string{"#"}, after, 100)
		if err != nil {
			t.Fatalf("Read(#, %d) = %v", after, err)
		}
		if len(page.Entries) > 0 {
			fn(page.Entries)
		}
		after = page.Through
	}
}

// record reads a record that must exist.
func record(t *testing.T, j journal.Journal, key string) journal.Record {
	t.Helper()
	r, ok, err := j.Record(t.Context(), key)
	if err != nil || !ok {
		t.Fatalf("Record(%q) = %v, %v, want it to exist", key, ok, err)
	}
	return r
}

func inboxLast(t *testing.T, j journal.Journal, inbox string) uint64 {
	t.Helper()
	n, err := j.Inbox(t.Context(), inbox)
	if err != nil {
		t.Fatalf("Inbox(%q) = %v", inbox, err)
	}
	return n
}

// diff compares entries; nothing and empty are the same.
func diff[A, B journal.Entry | *journal.Entry](want []A, got []B) string {
	w, g := values(want), values(got)
	if slices.EqualFunc(w, g, same) { // the common case, without reflection: some tests compare many
		return ""
	}
	return cmp.Diff(w, g, cmpopts.EquateEmpty())
}

func same(a, b journal.Entry) bool {
	return a.Seq == b.Seq && a.At.Equal(b.At) && a.At.Location() == b.At.Location() && a.Topic == b.Topic &&
		bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Properties, b.Properties) && a.Expires.Equal(b.Expires) &&
		a.Partition == b.Partition && a.Client == b.Client && bytes.Equal(a.Refused, b.Refused) && a.Inbox == b.Inbox && a.Event == b.Event
}

func values[A journal.Entry | *journal.Entry](entries []A) []journal.Entry {
	var all []journal.Entry
	for _, e := range entries {
		switch e := any(e).(type) {
		case journal.Entry:
			all = append(all, e)
		case *journal.Entry:
			all = append(all, *e)
		}
	}
	return all
}

// payloads are those of the entries, in order.
func payloads(entries []*journal.Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, string(e.Payload))
	}
	return strings.Join(all, " ")
}

// soon is a context with the test's patience.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
