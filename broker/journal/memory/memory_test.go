package memory_test

import (
	"errors"
	"runtime"
	"testing"

	"holdline/broker/journal"
	"holdline/broker/journal/journaltest"
	"holdline/broker/journal/memory"
)

// disk is the life after life of one journal.
type disk struct {
	j       *memory.Journal
	crashed bool // j is already the next life
}

func (d *disk) Open(*testing.T) journal.Journal {
	switch {
	case d.j == nil:
		d.j = memory.New()
	case !d.crashed:
		d.j = d.j.Reopen()
	}
	d.crashed = false
	return d.j
}

func (d *disk) Hold(*testing.T) (waiting, release func()) {
	j := d.j
	return func() {
		for j.Stats().Waiting == 0 {
			runtime.Gosched()
		}
	}, j.Hold()
}

func (d *disk) Crash(*testing.T) { d.j, d.crashed = d.j.Crash(), true }

func TestContract(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journaltest.Disk { return &disk{} })
}

func TestFailedJournalAcknowledgesNothing(t *testing.T) {
	j := memory.New()
	release := j.Hold()
	results := make(chan error, 1)
	s := &journal.Submission{
		Entries: []journal.Entry{{Topic: "a", Partition: journal.NoPartition}},
		Done:    func(r journal.Result) { results <- r.Err },
	}
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	j.Fail()
	release()
	if err := <-results; !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Done = %v, want ErrFailed", err)
	}
	if err := j.Append(t.Context(), s); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("Append = %v, want ErrFailed", err)
	}
	if tail := j.Tail().Seq; tail != 0 {
		t.Errorf("the tail is %d, want 0", tail)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = j.Reopen()
	defer j.Close()
	if err := j.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := <-results; err != nil {
		t.Errorf("Done = %v after the journal was opened anew", err)
	}
}
