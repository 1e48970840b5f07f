package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/killpoint"
)

const (
	// checkpointEvery and checkpointAcks are how much of a client's progress a
	// crash may forget. Forgetting costs duplicates, never messages.
	checkpointEvery = time.Second
	checkpointAcks  = 64
	// refreshEvery bounds how old the cursor of a session is that gets nothing, so that
	// it is not read from the beginning, or cut by retention, after a crash.
	refreshEvery = time.Hour
	refreshLook  = time.Minute
)

// checkpoints are the sessions whose cursor moved since it was written.
type checkpoints struct {
	mu     sync.Mutex
	soon   []*Session // at the next tick
	now    []*Session
	urgent chan struct{} // holds one
}

func (c *checkpoints) add(s *Session, urgent bool) {
	c.mu.Lock()
	if !urgent {
		c.soon = append(c.soon, s)
		c.mu.Unlock()
		return
	}
	c.now = append(c.now, s)
	c.mu.Unlock()
	select {
	case c.urgent <- struct{}{}:
	default:
	}
}

func (c *checkpoints) take(all bool) (list []*Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, c.now = c.now, nil
	if all {
		list = append(list, c.soon...)
		c.soon = nil
	}
	return list
}

// checkpoint writes cursors until ctx ends, and looks after what must be seen
// to now and then.
func (b *Broker) checkpoint(ctx context.Context) {
	tick, look := time.NewTicker(checkpointEvery), time.NewTicker(refreshLook)
	defer tick.Stop()
	defer look.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-b.checkpoints.urgent:
		case <-look.C:
			b.refresh(time.Now())
			b.sweepRetained(ctx, time.Now())
		case <-tick.C:
			all = true
			b.checkLife()
		}
		for _, s := range b.checkpoints.take(all) {
			if err := s.save(ctx); err != nil && ctx.Err() == nil {
				b.Log.WarnContext(ctx, "cursor not saved", "device", s.mount.Client, "err", err)
			}
		}
	}
}

// refresh marks the sessions whose record is old.
func (b *Broker) refresh(now time.Time) {
	for _, s := range b.online.all() {
		if now.UnixNano()-s.written.Load() < int64(refreshEvery) {
			continue
		}
		s.mu.Lock()
		if s.durable && !s.dirty && !s.closed {
			s.dirty = true
			b.checkpoints.add(s, false)
		}
		s.mu.Unlock()
	}
}

// checkLife ends the sessions of an older life of the journal: their cursors
// may point at other entries than they did.
func (b *Broker) checkLife() {
	life := b.j.Tail().Epoch
	if b.life.Swap(life) == life {
		return
	}
	for _, s := range b.online.all() {
		if s.life == life {
			continue
		}
		s.mu.Lock()
		s.lost = true
		s.mu.Unlock()
		s.link.Close(SessionLost)
	}
}

// save submits the session's record with its cursor. It does not wait for the
// disk. When another write is under way it comes again at the next tick.
func (s *Session) save(ctx context.Context) error {
	select {
	case s.rec <- struct{}{}:
	default:
		s.b.checkpoints.add(s, false)
		return nil
	}
	s.mu.Lock()
	if !s.dirty || s.closed {
		s.mu.Unlock()
		s.unlockRecord()
		return nil
	}
	s.dirty, s.unsaved = false, 0
	r := s.picture()
	s.mu.Unlock()
	err := s.b.j.Append(ctx, &journal.Submission{
		Puts: []journal.Put{{Key: s.key, Value: r.encode(), If: s.version}},
		Done: s.saved,
	})
	if err != nil {
		s.unlockRecord()
	}
	return err
}

// saved is the journal's answer; it is called from the journal's goroutine.
func (s *Session) saved(r journal.Result) {
	switch {
	case r.Err == nil:
		s.version = r.Version
		s.written.Store(time.Now().UnixNano())
		killpoint.At(killpoint.Checkpointed)
	case errors.Is(r.Err, journal.ErrConflict):
		s.link.Close(TakenOver) // the record is somebody else's by now
	default:
		s.b.failed(r.Err)
	}
	s.unlockRecord()
}
