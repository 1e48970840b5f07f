package memory

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"holdline/broker/journal"
)

// disk is what survives: everything durable. Journal.mu guards it.
type disk struct {
	epoch   uint64
	seq     uint64 // the last one given
	oldest  uint64 // nothing before it is kept
	version uint64 // the last one given
	at      time.Time
	entries []*journal.Entry // in order of Seq
	inboxes map[string]uint64
	records map[string]journal.Record
	kept    map[int]uint64
}

func newDisk() *disk {
	return &disk{
		epoch:   newEpoch(0),
		oldest:  1,
		inboxes: map[string]uint64{},
		records: map[string]journal.Record{},
		kept:    map[int]uint64{},
	}
}

// now is the time for the next entries: UTC, whole microseconds, never falling.
func (d *disk) now() time.Time {
	if t := time.Now().UTC().Truncate(time.Microsecond); t.After(d.at) {
		d.at = t
	}
	return d.at
}

// after returns the entries with a greater seq.
func (d *disk) after(seq uint64) []*journal.Entry {
	i, _ := slices.BinarySearchFunc(d.entries, seq+1, bySeq)
	return d.entries[i:len(d.entries):len(d.entries)]
}

func bySeq(e *journal.Entry, seq uint64) int {
	switch {
	case e.Seq < seq:
		return -1
	case e.Seq > seq:
		return 1
	}
	return 0
}

// apply writes a submission as a whole or not at all.
func (d *disk) apply(s *journal.Submission, at time.Time) journal.Result {
	if err := d.check(s); err != nil {
		return journal.Result{Err: err}
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		e.Seq = 0
		if e.Inbox != "" {
			if e.Event <= d.inboxes[e.Inbox] {
				continue
			}
			d.inboxes[e.Inbox] = e.Event
		}
		d.seq++
		e.Seq, e.At = d.seq, at
		d.entries = append(d.entries, keep(e))
	}
	var r journal.Result
	if len(s.Puts) > 0 {
		d.version++
		r.Version = d.version
	}
	for _, p := range s.Puts {
		if p.Value == nil {
			delete(d.records, p.Key)
			continue
		}
		d.records[p.Key] = journal.Record{Key: p.Key, Value: append([]byte{}, p.Value...), Version: d.version}
	}
	return r
}

// check returns ErrGap or ErrConflict when s may not be written. Each entry
// and Put is judged against the state that those before it leave.
func (d *disk) check(s *journal.Submission) error {
	inboxes := map[string]uint64{}
	for i := range s.Entries {
		e := &s.Entries[i]
		if e.Inbox == "" {
			continue
		}
		last, ok := inboxes[e.Inbox]
		if !ok {
			last, ok = d.inboxes[e.Inbox]
		}
		switch {
		case ok && e.Event > last+1:
			return journal.ErrGap
		case !ok || e.Event > last:
			inboxes[e.Inbox] = e.Event
		}
	}
	versions := map[string]uint64{}
	for _, p := range s.Puts {
		version, ok := versions[p.Key]
		if !ok {
			version = d.records[p.Key].Version
		}
		if p.If != journal.AnyVersion && p.If != version {
			return journal.ErrConflict
		}
		if versions[p.Key] = d.version + 1; p.Value == nil {
			versions[p.Key] = 0
		}
	}
	return nil
}

// keep copies an entry; nothing and empty are the same.
func keep(e *journal.Entry) *journal.Entry {
	c := *e
	c.Payload, c.Properties, c.Refused = clone(e.Payload), clone(e.Properties), clone(e.Refused)
	if !c.Expires.IsZero() {
		c.Expires = c.Expires.UTC().Truncate(time.Microsecond)
	}
	c.Topic, c.Client, c.Inbox = strings.Clone(e.Topic), strings.Clone(e.Client), strings.Clone(e.Inbox)
	return &c
}

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}
