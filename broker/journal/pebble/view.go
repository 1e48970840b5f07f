package pebble

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

// view is the database as of one batch: what readers of records and inboxes
// see once that batch is synced. It closes when its last user lets go.
type view struct {
	*pebble.Snapshot
	users int // guarded by views.mu
}

func newView(s *pebble.Snapshot) *view { return &view{Snapshot: s, users: 1} }

// views holds the view of the newest synced batch.
type views struct {
	mu      sync.Mutex
	current *view
}

// show replaces the current view; nil shows nothing any more.
func (vs *views) show(v *view) {
	vs.mu.Lock()
	old := vs.current
	vs.current = v
	vs.mu.Unlock()
	if old != nil {
		vs.let(old)
	}
}

// get returns the current view; the caller lets go of it.
func (vs *views) get() (*view, error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if vs.current == nil {
		return nil, journal.ErrClosed
	}
	vs.current.users++
	return vs.current, nil
}

// let lets go of a view. Its snapshot closes without error.
func (vs *views) let(v *view) {
	vs.mu.Lock()
	v.users--
	last := v.users == 0
	vs.mu.Unlock()
	if last {
		_ = v.Close() // never fails
	}
}
