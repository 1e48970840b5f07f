package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

const (
	groupEntries = 200 // entries of one transaction
	isolateAfter = 3   // failures in a row, until partitions are stored one by one
)

// committer is the one goroutine of the process that stores input. It takes
// whatever is there, over all partitions it holds, and waits for nothing but the
// next entry: while one group is being stored the next one gathers by itself.
type committer struct {
	*Bridge
	partitions [chat.Partitions]*partition
	turn       int // which partition is read first, so that a busy one starves nobody
	wait       backoff
	patience   time.Duration
	life       uint64 // the journal's epoch that was last told of as new
}

func newCommitter(b *Bridge) committer {
	c := committer{Bridge: b, patience: renewPatience}
	for id := range c.partitions {
		c.partitions[id] = &partition{id: id}
	}
	return c
}

// run stores input until ctx ends. The group it is at is finished.
func (c *committer) run(ctx context.Context) error {
	poll := time.NewTimer(pollEvery)
	defer poll.Stop()
	for {
		more, err := c.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case gone(err):
			return err
		case err != nil:
			c.figures.failed(c.Now())
			pause := c.wait.pause()
			c.Log.WarnContext(ctx, "input not stored, trying again", "err", err, "pause", pause)
			sleep(ctx, pause)
			continue
		}
		c.wait.reset()
		if more {
			continue
		}
		poll.Reset(c.untilRetry())
		select {
		case <-ctx.Done():
			return nil
		case <-c.input.wake:
		case <-poll.C:
			tail := c.Journal.Tail().Seq
			for _, p := range c.partitions {
				p.behind = p.behind || tail > p.through
			}
		}
	}
}

// untilRetry is how long the committer may sleep when nobody wakes it.
func (c *committer) untilRetry() time.Duration {
	d := pollEvery
	for _, p := range c.partitions {
		if until := time.Until(p.retry); until > 0 {
			d = min(d, until)
		}
	}
	return d
}

// round stores one group; more is true when there was one.
func (c *committer) round(ctx context.Context) (more bool, err error) {
	tail := c.Journal.Tail()
	var ready []*partition
	for _, p := range c.partitions {
		ours, err := c.take(ctx, p, tail)
		if err != nil {
			return false, err
		}
		if ours && (p.behind || c.input.newest[p.id].Load() > max(p.after, p.through)) {
			ready = append(ready, p)
		}
	}
	items, err := c.gather(ctx, ready, tail)
	if err == nil && len(items) > 0 {
		err = c.store(ctx, items)
	}
	for _, p := range ready {
		p.behind = p.behind || err != nil // what was read and is not stored is read again
		c.figures.at(p)
	}
	return len(items) > 0, err
}

// gather reads up to a group's worth of entries, of each partition its fair
// part and what others leave. A partition that cannot be read is left out; only
// a journal that is gone is an error.
func (c *committer) gather(ctx context.Context, ready []*partition, tail journal.Cursor) ([]*item, error) {
	var items []*item
	var tenant chat.Tenant // a group names conversations of one tenant
	c.turn++
	for i := range ready {
		p := ready[(c.turn+i)%len(ready)]
		limit := (groupEntries - len(items)) / (len(ready) - i)
		entries, err := c.read(ctx, p, limit)
		if err != nil {
			if gone(err) {
				return nil, err
			}
			c.delay(ctx, p, err)
			continue
		}
		if p.behind = len(entries) > 0; !p.behind { // a short page is not the end
			p.through = max(p.through, tail.Seq)
		}
		for _, e := range entries {
			it, err := read(e)
			if err != nil {
				c.Log.WarnContext(ctx, "input that nobody sent is passed", "seq", e.Seq, "err", err)
			}
			if it.conversation() != "" {
				if tenant == "" {
					tenant = it.account().Tenant
				}
				if tenant != it.account().Tenant {
					p.behind = true
					break
				}
			}
			items = append(items, it)
		}
	}
	return items, nil
}

// store commits the items as one group. After some failures in a row each
// partition goes by itself, so that what keeps failing in one holds up no other.
func (c *committer) store(ctx context.Context, items []*item) error {
	if c.wait.failures < isolateAfter {
		return c.commit(ctx, items)
	}
	var failed error
	stored := false
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].entry.Partition == items[0].entry.Partition {
			n++
		}
		err := c.commit(ctx, items[:n])
		switch {
		case gone(err):
			return err
		case err != nil:
			c.delay(ctx, c.partitions[items[0].entry.Partition], err)
			failed = err
		default:
			stored = true
		}
		items = items[n:]
	}
	if stored {
		return nil
	}
	return failed
}

// commit stores the items, all of them or, when something about them can
// never be stored, all but that. Items of one partition are in order.
func (c *committer) commit(ctx context.Context, items []*item) error {
	parts, err := c.advances(items)
	if err != nil {
		return err
	}
	d, err := c.transact(ctx, items, parts)
	switch {
	case err == nil:
		c.committed(ctx, items, parts, d)
		return nil
	case errors.Is(err, storage.ErrFenced):
		return errors.Join(err, c.fenced(ctx, parts))
	case permanent(err) && len(items) > 1:
		half := len(items) / 2
		if err := c.commit(ctx, items[:half]); err != nil {
			return err
		}
		return c.commit(ctx, items[half:])
	case permanent(err) && items[0].deed != toPass:
		c.poison(ctx, items[0], err)
		return c.commit(ctx, items)
	}
	return err
}

// permanent reports whether the same transaction would fail again.
func permanent(err error) bool {
	_, decided := chat.ReasonOf(err)
	return decided || errors.Is(err, storage.ErrPermanent)
}

// poison makes of an item that cannot be stored one that can: a refusal, and
// if that cannot be stored either, nothing but the position.
func (c *committer) poison(ctx context.Context, it *item, err error) {
	if it.deed != toRefuse {
		it.refuse(chat.Refuse(it.id(), errPoison))
	} else {
		it.deed = toPass
	}
	told := it.deed == toRefuse
	c.figures.poisoned(!it.poison, told)
	it.poison = true
	c.Log.ErrorContext(ctx, "input cannot be stored", "seq", it.entry.Seq, "partition", it.entry.Partition, "told", told, "err", err)
}

var errPoison = errors.New("cannot be stored") // no reason of chat: it becomes "internal"

// step is how far a group moves one partition.
type step struct {
	*partition
	to storage.Position
}

// advances returns what the items move, and ErrFenced when one of the partitions
// is not ours any more.
func (c *committer) advances(items []*item) ([]step, error) {
	var steps []step
	for _, it := range items {
		p := c.partitions[it.entry.Partition]
		if n := len(steps); n == 0 || steps[n-1].partition != p {
			lease, ok := c.leases.get(kindInput, p.id)
			if !ok || lease.Epoch != p.lease.Epoch {
				return nil, fmt.Errorf("partition %d: %w", p.id, storage.ErrFenced)
			}
			p.lease = lease
			steps = append(steps, step{partition: p})
		}
		steps[len(steps)-1].to = storage.Position{Journal: p.epoch, Seq: it.entry.Seq}
	}
	return steps, nil
}

// transact runs the transaction. It is not given up when Run ends, only when
// the leases do.
func (c *committer) transact(ctx context.Context, items []*item, steps []step) (d *decision, err error) {
	var leases []holding
	var advance []storage.Advance
	for _, s := range steps {
		leases = append(leases, s.lease)
		advance = append(advance, storage.Advance{Partition: s.id, Lease: s.lease.Lease, From: s.stored, To: s.to})
	}
	ctx, cancel := c.leases.bound(context.WithoutCancel(ctx), leases...)
	defer cancel()
	err = c.Store.Transact(ctx, scopeOf(items, advance), func(u *storage.Unit) (err error) {
		d, err = decide(u, items, c.Grace)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store %d entries of %d partitions: %w", len(items), len(steps), err)
	}
	return d, nil
}

// committed tells everybody who waits for it, none of which can fail the commit.
func (c *committer) committed(ctx context.Context, items []*item, steps []step, d *decision) {
	killpoint.At(killpoint.Committed)
	ctx = context.WithoutCancel(ctx)
	if hint := hintFor(d.told); hint != nil {
		c.announce(ctx, "bridge", hint)
	}
	if d.assign {
		c.announce(ctx, "agentd", nil)
	}
	for _, s := range steps {
		s.stored, s.after = s.to, s.to.Seq
		s.failing.reset()
		c.keeper.stored(s.id, s.to.Seq)
	}
	for _, it := range items {
		if it.deed == toRequest {
			c.answerer.ask(ctx, it)
		}
	}
	c.figures.committed(len(items), d)
}

func (c *committer) announce(ctx context.Context, part string, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := c.Journal.Announce(ctx, journal.Announcement{Topic: topics.Wake(part), Payload: payload}); err != nil {
		c.Log.WarnContext(ctx, "wake-up not announced; the poll will find it", "part", part, "err", err)
	}
}

// fenced finds out which partitions are still ours. What moved the position of those was
// a transaction of ours whose answer was lost: it is read anew, and whatever that
// transaction told is looked for.
func (c *committer) fenced(ctx context.Context, steps []step) error {
	c.announce(ctx, "bridge", nil)
	c.announce(ctx, "agentd", nil)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var failed []error
	for _, s := range steps {
		s.loaded = false
		failed = append(failed, c.leases.verify(ctx, s.lease))
	}
	return errors.Join(failed...)
}
