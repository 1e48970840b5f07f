package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
)

// unreleased is how many batches may be written whose entries this process's
// tail has not reached yet.
const unreleased = 4

// appender judges what was submitted and writes it, one batch after the other.
// One goroutine owns it.
type appender struct {
	j       *Journal
	process uint64
	fence   uint64 // the sequence number of this process's fence
	fenced  time.Time
	batches uint64 // numbers given
	inboxes cache  // what is known of inboxes and of records; others may have changed them
	records cache
	kept    cache
}

// batch is what is written at once.
type batch struct {
	items  []item
	weight int64
	*attempt
	last uint64 // the sequence number of its last message; 0 until it is written, or for ever
}

// attempt is one try to write a batch. Nothing of it changes once it was begun,
// but what the releaser keeps there.
type attempt struct {
	number  uint64
	entries []*journal.Entry // those of the submissions that are written, in order
	places  []int            // of the entries among the messages, from 0
	size    int              // messages
	seen    []bool           // which of the entries the tail has reached; the releaser's
}

// base is the sequence number before the batch's first message. The messages of a
// batch have one number after the other.
func (b *batch) base() uint64 { return b.last - uint64(b.size) }

// lastEntry is the sequence number of the batch's last entry.
func (b *batch) lastEntry() uint64 {
	return b.base() + 1 + uint64(b.places[len(b.places)-1])
}

// run writes until the queue ends, and then ends the releaser.
func (a *appender) run() {
	defer close(a.j.appended)
	for {
		items, ok := a.j.queue.take()
		if !ok {
			return
		}
		b := &batch{items: items}
		for i := range items {
			b.weight += items[i].weight
		}
		a.j.inFlight.Add(int64(len(items)))
		a.j.slots <- struct{}{} // the releaser gives it back
		if a.j.failed() == nil {
			// What was submitted is written even when nobody waits for it any more;
			// the patience with the servers bounds it.
			ctx, cancel := context.WithTimeout(a.j.life, a.j.patience)
			if err := a.write(ctx, b); err != nil {
				a.j.fail(err)
			}
			cancel()
		}
		if err := a.j.failed(); err != nil {
			for i := range b.items {
				b.items[i].result = journal.Result{Err: err}
			}
			b.last, b.attempt = 0, nil
		}
		a.j.events <- event{done: b}
	}
}

// write writes b and fills in the results of its items. An error is the
// journal's failure: what became of b is not known.
func (a *appender) write(ctx context.Context, b *batch) error {
	a.inboxes.trim()
	a.records.trim()
	fresh := false // whether everything b depends on was just read
	for pause := 5 * time.Millisecond; ; {
		messages, changes, doubt, err := a.build(ctx, b, fresh)
		if err != nil {
			return err
		}
		if doubt { // something may be refused for what others have changed since
			fresh = true
			continue
		}
		if len(messages) == 0 {
			return nil
		}
		a.j.events <- event{begin: b.attempt}
		seq, err := a.publish(ctx, b.number, messages)
		switch {
		case err == nil:
			killpoint.At(killpoint.Appended)
			b.last = seq
			for i := range b.items {
				if first := b.items[i].firstPut; first > 0 {
					b.items[i].result.Version = b.base() + uint64(first)
				}
			}
			changes.apply(a, seq-uint64(len(messages)))
			a.j.reached(seq)
			for _, c := range changes {
				if c.cache == &a.kept {
					p, _ := strconv.Atoi(c.name)
					a.j.kept.written(p, c.event)
				}
			}
			return nil
		case errors.Is(err, errStale):
			fresh = true
		case errors.Is(err, errNoRoom):
			a.j.log.Warn("stream is full", "err", err)
			for i := range b.items {
				b.items[i].result = journal.Result{Err: journal.ErrFull}
			}
			b.attempt = nil
			return nil
		case !errors.Is(err, errAgain):
			return err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, 500*time.Millisecond)
		case <-ctx.Done():
			return err
		}
	}
}

// publish writes messages under the fence. errStale and errAgain say that
// nothing was written, and errNoRoom that nothing is written after the next batch; every other error, that nobody knows.
func (a *appender) publish(ctx context.Context, number uint64, messages []*message) (uint64, error) {
	id := strconv.FormatUint(a.process, 36) + "-" + strconv.FormatUint(number, 36)
	from := a.j.known.Load()
	seq, err := a.j.publisher.publish(ctx, id, messages)
	if err == nil {
		if m := messages[len(messages)-1]; m.subject == a.j.names.fence(a.id()) {
			a.moved(seq)
		}
		return seq, nil
	}
	switch {
	case errors.Is(err, errAgain):
		return 0, err
	case errors.Is(err, errNoRoom):
		// There is no room to move the fence either. The next batch does, so that this
		// one is not written any more after it.
		a.fenced = time.Time{}
		return 0, err
	case errors.Is(err, errUnknown):
		a.j.log.Warn("outcome of a batch is not known; asking the stream", "err", err)
	}
	stale := errors.Is(err, errStale)
	seq, written, err := a.resolve(ctx, number, messages, from)
	switch {
	case err != nil:
		return 0, fmt.Errorf("outcome of a batch stays unknown: %w", err)
	case written:
		return seq, nil
	case stale:
		return 0, errStale
	}
	return 0, fmt.Errorf("%w: it was not written", errAgain)
}

func (a *appender) id() string { return strconv.FormatUint(a.process, 36) }

// resolve finds out what became of messages. It moves the fence, after which
// they cannot be written any more, wherever they are still on their way; then it
// looks whether they were, after the place from.
func (a *appender) resolve(ctx context.Context, number uint64, messages []*message, from uint64) (seq uint64, written bool, err error) {
	was, last := a.fence, messages[len(messages)-1]
	marked := last.subject == a.j.names.fence(a.id()) // then the batch moved the fence itself
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		a.batches++
		now, err := a.j.publisher.publish(ctx, "", []*message{a.fenceMessage(mark{process: a.process, batch: a.batches})})
		if err == nil {
			a.moved(now)
			break
		}
		if errors.Is(err, errStale) {
			f, ok, err := a.readFence(ctx)
			switch {
			case err != nil:
				return 0, false, err
			case ok && marked && f.batch == number:
				a.moved(f.seq)
				return f.seq, true, nil
			case ok && f.seq != was: // an earlier try: nobody else writes it
				a.moved(f.seq)
				goto moved
			case !ok: // it is too old, or somebody purged the stream
				a.fence, was = 0, 0
				continue
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, false, err
		}
	}
moved:
	if marked {
		return 0, false, nil // the fence would have been another
	}
	return a.find(ctx, number, messages, from)
}

// find looks for a batch between a place before it and the fence. No server that
// is late or was deposed can hide it: one that reaches the fence says where to look to.
func (a *appender) find(ctx context.Context, number uint64, messages []*message, from uint64) (seq uint64, written bool, err error) {
	at := slices.IndexFunc(messages, func(m *message) bool { return m.on == a.j.names.fence(a.id()) })
	subject := messages[at].subject
	last, err := a.j.fetch.last(ctx, a.fence, []string{subject})
	if err != nil {
		return 0, false, err
	}
	end := uint64(0)
	for _, s := range last {
		if s.subject == subject {
			end = s.seq // perhaps of another process, and after the fence
		}
	}
	for from < end {
		found, err := a.j.fetch.next(ctx, subject, from+1, end, pageMessages)
		if err != nil || len(found) == 0 {
			return 0, false, err
		}
		for n := range found {
			s := &found[n]
			if from = s.seq; s.process == a.process && s.batch == number {
				return s.seq - s.place + uint64(len(messages)) - 1, true, nil
			}
		}
	}
	return 0, false, nil
}

func (a *appender) moved(seq uint64) {
	a.fence, a.fenced = seq, time.Now()
	a.j.reached(seq)
}

// fenceMessage moves the fence.
func (a *appender) fenceMessage(m mark) *message {
	return &message{subject: a.j.names.fence(a.id()), data: m.append(nil), rollup: true, ttl: fenceLife, conditional: true, expect: a.fence}
}

func (a *appender) readFence(ctx context.Context) (s stored, ok bool, err error) {
	subject := a.j.names.fence(a.id())
	found, err := a.j.fetch.last(ctx, a.j.known.Load(), []string{subject})
	for _, f := range found {
		if f.subject == subject {
			s, ok = f, true
		}
	}
	return s, ok, err
}
