package jetstream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdline/broker/journal"
)

// fresher is the version of a record that this batch writes: nobody can know it yet.
const fresher = journal.AnyVersion - 1

// change is what a message will have changed once it is written.
type change struct {
	cache   *cache
	name    string
	message int    // its place in the batch, from 0
	offset  int    // of a record's message in its submission's
	event   uint64 // of an inbox
	deleted bool
}

type changes []change

// apply remembers the changes of a batch that was written after the place base.
func (cs changes) apply(a *appender, base uint64) {
	for _, c := range cs {
		p := place{seq: base + 1 + uint64(c.message), version: c.event}
		if c.cache == &a.records && !c.deleted {
			p.version = p.seq - uint64(c.offset)
		}
		c.cache.set(c.name, p)
	}
}

// draft is a batch that is being built.
type draft struct {
	a        *appender
	attempt  *attempt
	messages []*message
	changes  changes
	inboxes  map[string]uint64 // last numbers, as this batch leaves them
	records  map[string]uint64 // versions
	touched  map[touch]struct{}
	undo     []func()
}

// build makes the messages of b from what is known of the stream. doubt is
// true when something would be refused that perhaps need not be: then everything
// it depends on must be read anew.
func (a *appender) build(ctx context.Context, b *batch, fresh bool) (messages []*message, _ changes, doubt bool, err error) {
	if err := a.look(ctx, b.items, fresh); err != nil {
		return nil, nil, false, err
	}
	a.batches++
	d := &draft{a: a, attempt: &attempt{number: a.batches}, inboxes: map[string]uint64{}, records: map[string]uint64{}, touched: map[touch]struct{}{}}
	for n := range b.items {
		i := &b.items[n]
		i.result, i.firstPut = journal.Result{}, 0
		switch {
		case i.operation == nil:
			if i.result.Err = d.judge(i.submission); i.result.Err == nil {
				d.add(i)
			} else if !fresh {
				return nil, nil, true, nil
			}
		case i.operation.write != nil:
			m, err := i.operation.write(ctx)
			if err != nil {
				i.result.Err = err
			} else if m != nil {
				m.data = append(mark{process: a.process, batch: d.attempt.number}.append(nil), m.data...)
				d.messages = append(d.messages, m)
			}
		}
	}
	d.keep()
	d.guard()
	d.attempt.size, d.attempt.seen = len(d.messages), make([]bool, len(d.attempt.entries))
	b.attempt = d.attempt
	return d.messages, d.changes, false, nil
}

// look reads the inboxes and records that the items depend on and that are not
// known, or all of them.
func (a *appender) look(ctx context.Context, items []item, fresh bool) error {
	inboxes, records := map[string]string{}, map[string]string{} // subject to name
	for n := range items {
		s := items[n].submission
		if s == nil {
			continue
		}
		for k := range s.Entries {
			if inbox := s.Entries[k].Inbox; inbox != "" {
				if _, ok := a.inboxes.get(inbox); !ok || fresh {
					inboxes[a.j.names.inbox(inbox)] = inbox
				}
			}
		}
		for k := range s.Puts {
			if p := &s.Puts[k]; p.If != journal.AnyVersion {
				if _, ok := a.records.get(p.Key); !ok || fresh {
					records[a.j.names.record(p.Key)] = p.Key
				}
			}
		}
	}
	subjects := slices.AppendSeq(slices.Collect(maps.Keys(inboxes)), maps.Keys(records))
	for p := range a.j.kept.waiting() {
		if _, ok := a.kept.get(strconv.Itoa(p)); !ok || fresh {
			a.kept.set(strconv.Itoa(p), place{})
			subjects = append(subjects, a.j.names.kept(p))
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	for _, inbox := range inboxes {
		a.inboxes.set(inbox, place{})
	}
	for _, key := range records {
		a.records.set(key, place{})
	}
	found, err := a.j.fetch.last(ctx, a.j.known.Load(), subjects)
	if err != nil {
		return err
	}
	for _, s := range found {
		switch {
		case s.entry.Inbox != "":
			// An inbox whose entries are on several subjects has one that is the last.
			if p, _ := a.inboxes.get(s.entry.Inbox); s.seq > p.seq {
				a.inboxes.set(s.entry.Inbox, place{s.seq, s.entry.Event})
			}
		case s.kept != 0:
			a.kept.set(strings.TrimPrefix(s.subject, a.j.names.prefix+rootMeta+"kept."), place{s.seq, s.kept})
		case s.key != "":
			p := place{seq: s.seq}
			if !s.deleted {
				p.version = s.seq - s.offset
			}
			a.records.set(s.key, p)
		}
	}
	return nil
}

// judge decides whether s may be written, against the state that those before
// it leave; if not, it leaves nothing behind. Entries that need not be written get Seq 0.
func (d *draft) judge(s *journal.Submission) error {
	d.undo = d.undo[:0]
	err := d.judgeAll(s)
	if err != nil {
		for _, undo := range slices.Backward(d.undo) {
			undo()
		}
	}
	return err
}

func (d *draft) judgeAll(s *journal.Submission) error {
	for n := range s.Entries {
		e := &s.Entries[n]
		e.Seq = 1 // to be written
		if e.Inbox == "" {
			continue
		}
		last, ok := d.inboxes[e.Inbox]
		if !ok {
			p, _ := d.a.inboxes.get(e.Inbox)
			last = p.version
		}
		switch {
		case last == 0 || e.Event == last+1:
		case e.Event > last:
			return journal.ErrGap
		default: // it is already there
			e.Seq = 0
			continue
		}
		set(d, d.inboxes, e.Inbox, e.Event)
	}
	for n := range s.Puts {
		p := &s.Puts[n]
		version, ok := d.records[p.Key]
		if !ok {
			known, _ := d.a.records.get(p.Key)
			version = known.version
		}
		if p.If != journal.AnyVersion && p.If != version {
			return journal.ErrConflict
		}
		version = fresher
		if p.Value == nil {
			version = 0
		}
		set(d, d.records, p.Key, version)
	}
	return nil
}

func set(d *draft, m map[string]uint64, name string, n uint64) {
	was, ok := m[name]
	d.undo = append(d.undo, func() {
		if m[name] = was; !ok {
			delete(m, name)
		}
	})
	m[name] = n
}

// add makes the messages of a submission that was judged.
func (d *draft) add(i *item) {
	a, s := d.a, i.submission
	for n := range s.Entries {
		e := &s.Entries[n]
		if e.Seq == 0 {
			continue
		}
		at := len(d.messages)
		m := &message{subject: a.j.names.entry(e)}
		m.data = appendEntry(mark{a.process, d.attempt.number, uint64(at)}.append(make([]byte, 0, len(e.Payload)+len(e.Topic)+64)), e)
		if e.Inbox != "" {
			if d.change(change{cache: &a.inboxes, name: e.Inbox, message: at, event: e.Event}) {
				p, _ := a.inboxes.get(e.Inbox)
				m.conditional, m.on, m.expect = true, a.j.names.inbox(e.Inbox), p.seq
			}
		}
		d.messages = append(d.messages, m)
		d.attempt.entries = append(d.attempt.entries, e)
		d.attempt.places = append(d.attempt.places, at)
	}
	if len(s.Puts) > 0 {
		i.firstPut = len(d.messages) + 1
	}
	for n := range s.Puts {
		p := &s.Puts[n]
		at := len(d.messages)
		m := &message{subject: a.j.names.record(p.Key)}
		m.data = appendRecord(mark{a.process, d.attempt.number, uint64(at)}.append(make([]byte, 0, len(p.Value)+len(p.Key)+64)), p, n)
		if p.Value == nil {
			m.ttl = tombstone
		}
		// Only the first of a batch may replace what was there or depend on it.
		if d.change(change{cache: &a.records, name: p.Key, message: at, offset: n, deleted: p.Value == nil}) {
			m.rollup = true
			if p.If != journal.AnyVersion {
				known, _ := a.records.get(p.Key)
				m.conditional, m.expect = true, known.seq
			}
		}
		d.messages = append(d.messages, m)
	}
}

// touch is an inbox or record that a message of the batch changes.
type touch struct {
	cache *cache
	name  string
}

// change notes a change, and reports whether it is the batch's first of its kind.
func (d *draft) change(c change) (first bool) {
	t := touch{c.cache, c.name}
	_, again := d.touched[t]
	d.touched[t] = struct{}{}
	d.changes = append(d.changes, c)
	return !again
}

// keep adds how far partitions have been stored, where that is news.
func (d *draft) keep() {
	for p, seq := range d.a.j.kept.waiting() {
		name := strconv.Itoa(p)
		was, _ := d.a.kept.get(name)
		if was.version >= seq {
			d.a.j.kept.written(p, seq)
			continue
		}
		at := len(d.messages)
		m := &message{subject: d.a.j.names.kept(p), rollup: true, conditional: true, expect: was.seq}
		m.data = appendNumber(mark{d.a.process, d.attempt.number, uint64(at)}.append(nil), fieldKept, seq)
		d.change(change{cache: &d.a.kept, name: name, message: at, event: seq})
		d.messages = append(d.messages, m)
	}
}

// guard makes the batch depend on the fence, by an entry that depends on
// nothing else, or else by a message that moves the fence: so that it is written once,
// and not any more when the fence has moved.
func (d *draft) guard() {
	if len(d.messages) == 0 {
		return
	}
	a := d.a
	if time.Since(a.fenced) < fenceRenew {
		for _, at := range d.attempt.places {
			if m := d.messages[at]; !m.conditional {
				m.conditional, m.on, m.expect = true, a.j.names.fence(a.id()), a.fence
				return
			}
		}
	}
	d.messages = append(d.messages, a.fenceMessage(mark{a.process, d.attempt.number, uint64(len(d.messages))}))
}

// check returns an error for a submission that this journal can never write.
func (j *Journal) check(s *journal.Submission) error {
	if err := s.Check(); err != nil {
		return err
	}
	if n := len(s.Entries) + len(s.Puts); n > batchMessages {
		return fmt.Errorf("journal: a submission of %d entries and puts; the stream takes %d at once", n, batchMessages)
	}
	most := int(j.fetch.conn.MaxPayload()) - headerBytes
	for i := range s.Entries {
		e := &s.Entries[i]
		if n := overhead + len(e.Topic) + len(e.Payload) + len(e.Properties) + len(e.Client) + len(e.Refused) + len(e.Inbox); n > most {
			return fmt.Errorf("journal: entry %d has %d bytes; the servers' max_payload allows %d", i, n, most)
		}
	}
	for i := range s.Puts {
		if n := overhead + len(s.Puts[i].Key) + len(s.Puts[i].Value); n > most {
			return fmt.Errorf("journal: put %d has %d bytes; the servers' max_payload allows %d", i, n, most)
		}
	}
	return nil
}

// headerBytes is more than the headers of a message take.
const headerBytes = 4096
