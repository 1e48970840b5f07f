package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdline/broker/journal"
	"holdline/storage"
)

// floor is how far a partition was known to be stored when its input began to be
// read again: below it, a position that is less than what the journal was told is
// no news. It is a record of the journal, for whoever comes after a crash on the way.
type floor struct {
	Epoch       uint64 `json:"epoch"`
	Incarnation string `json:"incarnation"`
	Kept        uint64 `json:"kept"`
}

func floorKey(partition int) string { return fmt.Sprintf("bridge/floor/%02d", partition) }

// renewal is the newest incarnation that was begun because of a restore. All partitions
// notice the same restore, in whichever process has them: one incarnation is enough.
type renewal struct {
	Incarnation string    `json:"incarnation"`
	At          time.Time `json:"at"`
}

const (
	renewalKey = "bridge/restored"
	// sameRestore is how long what a partition notices counts as that restore.
	sameRestore = 10 * time.Minute
)

// startOver prepares for reading a journal that storage knows in no part.
func (c *committer) startOver(ctx context.Context, partition int, epoch, kept uint64) error {
	if kept == 0 {
		return nil
	}
	incarnation, err := c.Store.Incarnation(ctx)
	if err != nil {
		return fmt.Errorf("incarnation: %w", err)
	}
	return c.note(ctx, floorKey(partition), floor{epoch, incarnation, kept})
}

// restored answers a storage that knows less than the journal was told it had:
// it was restored from a backup. Input is taken in again from the stored position on, and
// because event numbers are given out a second time, storage starts a new incarnation.
func (c *committer) restored(ctx context.Context, partition int, stored storage.Position, kept uint64) error {
	incarnation, err := c.Store.Incarnation(ctx)
	if err != nil {
		return fmt.Errorf("incarnation: %w", err)
	}
	now := floor{stored.Journal, incarnation, kept}
	var known floor
	if err := c.recall(ctx, floorKey(partition), &known); err != nil {
		return err
	}
	if known == now {
		return nil // still on the way
	}
	var last renewal
	if err := c.recall(ctx, renewalKey, &last); err != nil {
		return err
	}
	if last.Incarnation != incarnation || c.Now().Sub(last.At) > sameRestore {
		if now.Incarnation, err = c.Store.Renew(ctx, incarnation); err != nil {
			return fmt.Errorf("renew the incarnation: %w", err)
		}
		c.Log.WarnContext(ctx, "storage knows less than it did: it was restored from a backup; clients will sync anew",
			"partition", partition, "seq", stored.Seq, "kept", kept, "incarnation", now.Incarnation)
		if err := c.note(ctx, renewalKey, renewal{now.Incarnation, c.Now().UTC()}); err != nil {
			return err
		}
	}
	return c.note(ctx, floorKey(partition), now)
}

// note writes a record of the journal, recall reads it; one that does not exist
// or cannot be read leaves into as it is.
func (c *committer) note(ctx context.Context, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("note %s: %w", key, err)
	}
	put := journal.Put{Key: key, Value: value, If: journal.AnyVersion}
	if err := write(ctx, c.Journal, &journal.Submission{Puts: []journal.Put{put}}); err != nil {
		return fmt.Errorf("note %s: %w", key, err)
	}
	return nil
}

func (c *committer) recall(ctx context.Context, key string, into any) error {
	r, ok, err := c.Journal.Record(ctx, key)
	if err != nil {
		return fmt.Errorf("recall %s: %w", key, err)
	}
	if ok {
		_ = json.Unmarshal(r.Value, into) // as good as none when it is damaged
	}
	return nil
}
