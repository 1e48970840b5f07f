package bridge

import (
	"context"
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
		c.Log.WarnContext(ctx, "partition stands still, trying again", "partition", p.id, "err", err, "pause", pause)
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
		if stored.Journal != 0 && c.life != tail.Epoch { // once, not for each partition
			c.life = tail.Epoch
			c.Log.WarnContext(ctx, "journal has a new epoch; its input is read from the beginning",
				"epoch", tail.Epoch, "stored", stored.Journal, "seq", stored.Seq)
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
