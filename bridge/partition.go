package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdline/broker/journal"
	"holdline/storage"
)

// partition is the committer's place in one stream of input.
type partition struct {
	id    int
	lease holding // the one it was loaded under

	loaded  bool
	epoch   uint64           // of the journal that after counts in
	stored  storage.Position // what storage has: the next Advance's From
	after   uint64           // entries up to here are stored, or gone
	through uint64           // nothing was found up to here when it was last looked at
	behind  bool             // there may be more that the journal's tail did not tell

	failing backoff
	retry   time.Time // not before, after a failure that concerns this partition alone
	missing time.Time // since when the journal ends before stored; zero when it does not
}

// take reports whether a partition is ours to read, after finding its place when
// it has become so. A failure costs this partition some time and the others
// nothing; only a journal that is gone is an error.
func (c *committer) take(ctx context.Context, p *partition, tail journal.Cursor) (bool, error) {
	lease, ok := c.leases.get(kindInput, p.id)
	if !ok || p.lease.Epoch != lease.Epoch || p.epoch != tail.Epoch {
		p.loaded = false
	}
	if !ok || time.Now().Before(p.retry) {
		return false, nil
	}
	p.lease = lease
	if p.loaded {
		return true, nil
	}
	if err := c.load(ctx, p); err != nil {
		if gone(err) {
			return false, err
		}
		c.delay(ctx, p, err)
		return false, nil
	}
	p.failing.reset()
	return true, nil
}

// delay leaves a partition alone for a while.
func (c *committer) delay(ctx context.Context, p *partition, err error) {
	pause := p.failing.pause()
	p.retry, p.behind = time.Now().Add(pause), true
	c.figures.failed(c.Now())
	if ctx.Err() == nil {
		c.Log.WarnContext(ctx, "partition cannot be read, trying again", "partition", p.id, "err", err, "pause", pause)
	}
}

// load finds the place from which a partition goes on.
func (c *committer) load(ctx context.Context, p *partition) error {
	ctx, cancel := c.leases.bound(ctx, p.lease)
	defer cancel()
	stored, err := c.Store.Position(ctx, p.id)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	kept, err := c.Journal.Kept(ctx, p.id)
	if err != nil {
		return fmt.Errorf("kept: %w", err)
	}
	tail := c.Journal.Tail() // read after the position: what is stored was in the journal before
	after := stored.Seq
	switch {
	case stored.Journal != tail.Epoch:
		if stored.Journal != 0 {
			c.Log.WarnContext(ctx, "journal has a new epoch; its input is read from the beginning",
				"partition", p.id, "epoch", tail.Epoch, "stored", stored.Journal, "seq", stored.Seq)
		}
		after = 0
		if err := c.startOver(ctx, p.id, tail.Epoch, kept); err != nil {
			return err
		}
	case stored.Seq > tail.Seq:
		return c.beyond(ctx, p, stored, tail)
	case kept > stored.Seq:
		if err := c.restored(ctx, p.id, stored, kept); err != nil {
			return err
		}
	}
	p.stored, p.after, p.epoch, p.through = stored, after, tail.Epoch, 0
	p.loaded, p.behind = true, true
	p.missing = time.Time{}
	return nil
}

// beyond answers a position past the end of the journal, which has lost its
// newest entries: what is there now under the same numbers may be something
// else, so a new epoch begins. It is given some time to be sure: the
// tail of a shared journal may only be late.
func (c *committer) beyond(ctx context.Context, p *partition, stored storage.Position, tail journal.Cursor) error {
	if p.missing.IsZero() {
		p.missing = time.Now()
	}
	if time.Since(p.missing) >= c.patience {
		c.Log.ErrorContext(ctx, "journal ends before what is stored of it; it begins a new epoch",
			"partition", p.id, "seq", stored.Seq, "tail", tail.Seq)
		if _, err := c.Journal.Renew(ctx); err != nil {
			return fmt.Errorf("renew the journal: %w", err)
		}
	}
	return fmt.Errorf("position %d is past the journal's tail %d", stored.Seq, tail.Seq)
}

// floor is how far a partition was known to be stored when its input began to be
// read again: below it, a position that is less than what the journal was told is no news.
type floor struct {
	Epoch       uint64 `json:"epoch"`
	Incarnation string `json:"incarnation"`
	Kept        uint64 `json:"kept"`
}

func floorKey(partition int) string { return fmt.Sprintf("bridge/floor/%02d", partition) }

// startOver prepares for reading a journal that storage knows in no part.
func (c *committer) startOver(ctx context.Context, partition int, epoch, kept uint64) error {
	if kept == 0 {
		return nil
	}
	incarnation, err := c.Store.Incarnation(ctx)
	if err != nil {
		return fmt.Errorf("incarnation: %w", err)
	}
	return c.expect(ctx, partition, floor{epoch, incarnation, kept})
}

// expect notes the floor, so that a restart on the way to it raises no alarm.
func (c *committer) expect(ctx context.Context, partition int, f floor) error {
	value, _ := json.Marshal(f) // strings and numbers only: cannot fail
	put := journal.Put{Key: floorKey(partition), Value: value, If: journal.AnyVersion}
	if err := write(ctx, c.Journal, &journal.Submission{Puts: []journal.Put{put}}); err != nil {
		return fmt.Errorf("note the floor: %w", err)
	}
	return nil
}

// restored answers a storage that knows less than the journal was told it had:
// it was restored from a backup. Input is taken in again from the stored position on, and
// because event numbers are given out a second time, storage starts a new incarnation.
func (c *committer) restored(ctx context.Context, partition int, stored storage.Position, kept uint64) error {
	was, err := c.Store.Incarnation(ctx)
	if err != nil {
		return fmt.Errorf("incarnation: %w", err)
	}
	r, ok, err := c.Journal.Record(ctx, floorKey(partition))
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	now := floor{stored.Journal, was, kept}
	var known floor
	if ok && json.Unmarshal(r.Value, &known) == nil && known == now {
		return nil // still on the way
	}
	// All partitions notice the same restore: one new incarnation is enough.
	if was != c.renewed || time.Since(c.renewedAt) > time.Minute {
		if now.Incarnation, err = c.Store.Renew(ctx, was); err != nil {
			return fmt.Errorf("renew the incarnation: %w", err)
		}
		c.renewed, c.renewedAt = now.Incarnation, time.Now()
		c.Log.WarnContext(ctx, "storage knows less than it did: it was restored from a backup; clients will sync anew",
			"partition", partition, "seq", stored.Seq, "kept", kept, "incarnation", now.Incarnation)
	}
	return c.expect(ctx, partition, now)
}

// read returns the next entries of a partition, in order.
func (c *committer) read(ctx context.Context, p *partition, limit int) ([]*journal.Entry, error) {
	ctx, cancel := c.leases.bound(ctx, p.lease)
	defer cancel()
	entries, err := c.Journal.ReadPartition(ctx, p.id, p.after, limit)
	if errors.Is(err, journal.ErrTruncated) {
		oldest := c.Journal.Stats().Oldest
		if oldest > p.after+1 {
			c.Log.ErrorContext(ctx, "input was removed by retention; going on from the oldest that is kept",
				"partition", p.id, "after", p.after, "seq", oldest)
			p.after = oldest - 1
			entries, err = c.Journal.ReadPartition(ctx, p.id, p.after, limit)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read partition %d after %d: %w", p.id, p.after, err)
	}
	return entries, nil
}
