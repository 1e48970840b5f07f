package journaltest

import (
	"errors"
	"testing"

	"holdline/broker/journal"
)

func inboxNumbers(t *testing.T, d Disk) {
	j := open(t, d)
	for _, tt := range []struct {
		event   uint64
		written bool
		err     error
		last    uint64
	}{
		{41, true, nil, 41}, // the first of an unknown inbox, whatever it is
		{41, false, nil, 41},
		{42, true, nil, 42},
		{44, false, journal.ErrGap, 42},
		{43, true, nil, 43},
		{1, false, nil, 43},
		{42, false, nil, 43},
		{44, true, nil, 44},
	} {
		s := &journal.Submission{Entries: []journal.Entry{numbered("1-ada", tt.event)}}
		s.Entries[0].Seq = 99 // of an earlier use
		r := try(t, j, s)
		if !errors.Is(r.Err, tt.err) {
			t.Fatalf("number %d: %v, want %v", tt.event, r.Err, tt.err)
		}
		if r.Err == nil && (s.Entries[0].Seq > 0) != tt.written {
			t.Errorf("number %d: seq %d, want it written: %v", tt.event, s.Entries[0].Seq, tt.written)
		}
		if last := inboxLast(t, j, "1-ada"); last != tt.last {
			t.Errorf("after number %d the last is %d, want %d", tt.event, last, tt.last)
		}
	}
	write(t, j, numbered("2-ada", 7)) // another incarnation is another inbox
	if got := len(readAll(t, j, 0, 10, "inbox/#")); got != 5 {
		t.Errorf("%d entries, want 5", got)
	}
}

func inboxGap(t *testing.T, d Disk) {
	j := open(t, d)
	write(t, j, numbered("a", 1), numbered("b", 1))
	r := try(t, j, &journal.Submission{
		Entries: []journal.Entry{numbered("a", 2), plain("x", "x"), numbered("new", 5), numbered("b", 3)},
		Puts:    []journal.Put{{Key: "k", Value: []byte("v")}},
	})
	if !errors.Is(r.Err, journal.ErrGap) {
		t.Fatalf("Done = %v, want ErrGap", r.Err)
	}
	if got := len(readAll(t, j, 0, 10, "#")); got != 2 {
		t.Errorf("%d entries, want the 2 of before", got)
	}
	if _, ok, _ := j.Record(t.Context(), "k"); ok {
		t.Error("the record was written")
	}
	for inbox, want := range map[string]uint64{"a": 1, "b": 1, "new": 0} {
		if last := inboxLast(t, j, inbox); last != want {
			t.Errorf("inbox %s is at %d, want %d", inbox, last, want)
		}
	}
	// And nothing of it is remembered.
	s := &journal.Submission{Entries: []journal.Entry{numbered("new", 2), numbered("a", 2), numbered("b", 2)}}
	if r := try(t, j, s); r.Err != nil || s.Entries[0].Seq == 0 || s.Entries[1].Seq == 0 || s.Entries[2].Seq == 0 {
		t.Errorf("Done = %v with %d, %d, %d, want all written", r.Err, s.Entries[0].Seq, s.Entries[1].Seq, s.Entries[2].Seq)
	}
}

func inboxInOneSubmission(t *testing.T, d Disk) {
	j := open(t, d)
	write(t, j, numbered("a", 1))
	s := &journal.Submission{Entries: []journal.Entry{
		numbered("a", 1), numbered("b", 8), numbered("a", 2), numbered("a", 3), numbered("b", 9), numbered("a", 3), numbered("a", 4),
	}}
	if r := try(t, j, s); r.Err != nil {
		t.Fatal(r.Err)
	}
	last := uint64(0)
	for i, e := range s.Entries {
		if dropped := i == 0 || i == 5; dropped != (e.Seq == 0) {
			t.Errorf("entry %d has seq %d, want it dropped: %v", i, e.Seq, dropped)
		}
		if e.Seq != 0 && e.Seq <= last {
			t.Errorf("entry %d has seq %d after %d", i, e.Seq, last)
		}
		last = max(last, e.Seq)
	}
	if a, b := inboxLast(t, j, "a"), inboxLast(t, j, "b"); a != 4 || b != 9 {
		t.Errorf("inboxes are at %d and %d, want 4 and 9", a, b)
	}
	r := try(t, j, &journal.Submission{Entries: []journal.Entry{numbered("a", 5), numbered("a", 7)}})
	if !errors.Is(r.Err, journal.ErrGap) {
		t.Errorf("a gap inside the submission: %v, want ErrGap", r.Err)
	}
	if got := len(readAll(t, j, 0, 10, "#")); got != 6 {
		t.Errorf("%d entries, want 6", got)
	}
}
