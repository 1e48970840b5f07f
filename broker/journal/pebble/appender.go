package pebble

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
)

// appender gives numbers and builds batches. One goroutine owns it, so it
// knows all that was written, synced or not.
type appender struct {
	j        *Journal
	now      func() time.Time
	state    state
	epoch    uint64
	inboxes  cache // last numbers; 0 is unknown to be there
	versions cache // of records; 0 is not there

	// Of the batch that is being built.
	batch   *batch
	changed bool // something that a view shows
	undo    []undo
	key     []byte // scratch
	value   []byte // scratch
	slab    slab
}

// undo is what a cache held before the submission that is being judged.
type undo struct {
	cache *cache
	name  string
	n     uint64
}

// run writes until the queue ends, and then ends the releaser.
func (a *appender) run() {
	defer close(a.j.batches)
	for {
		b := newBatch()
		var ok bool
		if b.items, ok = a.j.queue.take(b.items); !ok {
			return
		}
		a.j.inFlight.Add(int64(len(b.items)))
		for n := range b.items {
			b.weight += b.items[n].weight
		}
		if a.j.failed() == nil {
			if err := a.write(b); err != nil {
				a.j.fail(err) // the releaser answers
			}
		}
		a.j.batches <- b
	}
}

// write builds the batch and applies it. It does not wait for the sync.
func (a *appender) write(b *batch) (err error) {
	a.batch, a.changed = b, false
	a.inboxes.trim()
	a.versions.trim()
	if now := a.now().UnixMicro(); now > a.state.at {
		a.state.at = now
	}
	b.written = a.j.db.NewBatch(pebble.WithMaxRetainedSizeBytes(batchBytes))
	for n := range b.items {
		i := &b.items[n]
		switch {
		case i.operation == nil:
			err = a.submit(i)
		case i.operation.write != nil:
			a.changed = true
			err = i.operation.write(a)
		}
		if err != nil {
			return err
		}
	}
	if err := a.keep(); err != nil {
		return err
	}
	if err := a.index(); err != nil {
		return err
	}
	b.tail = tail{journal.Cursor{Epoch: a.epoch, Seq: a.state.seq}, a.state.at}
	if b.written.Empty() {
		return nil
	}
	var s [stateBytes]byte
	a.state.put(s[:])
	if err := b.written.Set(metaState, s[:], nil); err != nil {
		return err
	}
	if err := a.apply(b.written); err != nil {
		return err
	}
	b.syncing = true
	killpoint.At(killpoint.Appended)
	if a.changed {
		b.view = newView(a.j.db.NewSnapshot())
	}
	return nil
}

// apply makes the batch visible and starts its sync. Pebble panics when its
// log is broken, and keeps its locks then: it must not be closed any more.
func (a *appender) apply(b *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			a.j.wrecked.Store(true)
			err = fmt.Errorf("write the log: %v", r)
		}
	}()
	return a.j.db.ApplyNoSyncWait(b, pebble.Sync)
}

// submit judges a submission, and adds it to the batch as a whole or not at
// all. An error is one of the batch.
func (a *appender) submit(i *item) error {
	if !a.j.space.take(uint64(i.weight)) {
		i.result.Err = journal.ErrFull
		return nil
	}
	a.undo = a.undo[:0]
	if err := a.judge(i.submission); err != nil {
		for n := len(a.undo) - 1; n >= 0; n-- {
			a.undo[n].cache.set(a.undo[n].name, a.undo[n].n)
		}
		i.result.Err = err
		return nil
	}
	return a.add(i.submission, &i.result)
}

// judge numbers the entries of s and takes their numbers and versions, each
// judged against the state that those before it leave.
func (a *appender) judge(s *journal.Submission) error {
	next := a.state.seq
	for n := range s.Entries {
		e := &s.Entries[n]
		if e.Inbox != "" {
			last, err := a.inbox(e.Inbox)
			if err != nil {
				return err
			}
			switch {
			case last == 0 || e.Event == last+1:
			case e.Event > last:
				return journal.ErrGap
			default: // it is already there
				e.Seq = 0
				continue
			}
			a.set(&a.inboxes, e.Inbox, last, e.Event)
		}
		next++
		e.Seq = next
	}
	for n := range s.Puts {
		p := &s.Puts[n]
		was := uint64(0)
		if p.If != journal.AnyVersion {
			v, err := a.version(p.Key)
			if err != nil {
				return err
			}
			if was = v; p.If != was {
				return journal.ErrConflict
			}
		} else if v, ok := a.versions.get(p.Key); ok {
			was = v
		} else {
			was = unknown
		}
		is := a.state.version + 1
		if p.Value == nil {
			is = 0
		}
		a.set(&a.versions, p.Key, was, is)
	}
	return nil
}

func (a *appender) set(c *cache, name string, was, is uint64) {
	a.undo = append(a.undo, undo{c, name, was})
	c.set(name, is)
}

// add writes what was judged.
func (a *appender) add(s *journal.Submission, r *journal.Result) error {
	b := a.batch
	at := time.UnixMicro(a.state.at).UTC()
	for n := range s.Entries {
		e := &s.Entries[n]
		if e.Seq == 0 {
			continue
		}
		e.At = at
		a.state.seq = e.Seq
		kept := a.slab.keep(e)
		b.entries = append(b.entries, kept)
		b.bytes += uint64(len(kept.Payload))
		a.value = appendEntry(a.value[:0], kept)
		op := b.written.SetDeferred(entryKeyBytes, len(a.value))
		putEntryKey(op.Key, e.Seq)
		copy(op.Value, a.value)
		if err := op.Finish(); err != nil {
			return err
		}
		if e.Inbox != "" {
			a.changed = true
			a.key = append(append(a.key[:0], keyInbox), e.Inbox...)
			if err := b.written.Set(a.key, binary.BigEndian.AppendUint64(nil, e.Event), nil); err != nil {
				return err
			}
		}
	}
	if len(s.Puts) == 0 {
		return nil
	}
	a.changed = true
	a.state.version++
	r.Version = a.state.version
	for n := range s.Puts {
		p := &s.Puts[n]
		a.key = append(append(a.key[:0], keyRecord), p.Key...)
		if p.Value == nil {
			if err := b.written.Delete(a.key, nil); err != nil {
				return err
			}
			continue
		}
		op := b.written.SetDeferred(len(a.key), 8+len(p.Value))
		copy(op.Key, a.key)
		binary.BigEndian.PutUint64(op.Value, a.state.version)
		copy(op.Value[8:], p.Value)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// index adds the index keys of the batch's entries: one kind after the other,
// because Pebble's memory table takes neighbours faster.
func (a *appender) index() error {
	b := a.batch
	day := dayOf(a.state.at)
	for _, e := range b.entries {
		op := b.written.SetDeferred(indexKeyBytes(e.Topic), 0)
		putIndexKey(op.Key, day, e.Topic, e.Seq)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	for _, e := range b.entries {
		if e.Partition == journal.NoPartition {
			continue
		}
		op := b.written.SetDeferred(partitionKeyBytes, 0)
		putPartitionKey(op.Key, e.Partition, e.Seq)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// keep adds the places of the bridge that are not written yet.
func (a *appender) keep() error {
	return a.j.kept.take(func(partition int, seq uint64) error {
		return a.batch.written.Set(keptKey(partition), binary.BigEndian.AppendUint64(nil, seq), nil)
	})
}

// unknown in the cache of versions: a record that was not looked up.
const unknown = journal.AnyVersion

// inbox is the last number of an inbox, 0 when it has none. What the batch
// that is being built changes is in the cache; the rest is in the database.
func (a *appender) inbox(name string) (uint64, error) {
	if n, ok := a.inboxes.get(name); ok {
		return n, nil
	}
	a.key = append(append(a.key[:0], keyInbox), name...)
	n, err := a.j.number(a.key)
	if err == nil {
		a.inboxes.set(name, n)
	}
	return n, err
}

// version is that of a record, 0 when it does not exist. As for inbox.
func (a *appender) version(key string) (uint64, error) {
	if n, ok := a.versions.get(key); ok && n != unknown {
		return n, nil
	}
	a.key = append(append(a.key[:0], keyRecord), key...)
	n, err := a.j.number(a.key)
	if err == nil {
		a.versions.set(key, n)
	}
	return n, err
}
