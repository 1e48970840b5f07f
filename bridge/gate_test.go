package bridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
	"holdline/storage"
)

// gate is a store that a test can watch and stand in the way of.
type gate struct {
	storage.Store
	// before is called before a transaction and may refuse it; after when it is
	// over, and may change what the caller learns of it.
	before func(ctx context.Context, s storage.Scope, decide func(*storage.Unit) error) error
	after  func(s storage.Scope, err error) error
	// reading is called before the reads that requests are answered from.
	reading  func(ctx context.Context) error
	renewals atomic.Int64 // of the incarnation

	// died tells that a process has to be started again by revive, which await does.
	died   chan struct{}
	revive func()

	mu      sync.Mutex
	changed chan struct{} // closed and replaced by every write
}

func newGate(s storage.Store) *gate { return &gate{Store: s, changed: make(chan struct{})} }

func (g *gate) poke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) Transact(ctx context.Context, s storage.Scope, decide func(*storage.Unit) error) error {
	defer g.poke()
	if g.before != nil {
		if err := g.before(ctx, s, decide); err != nil {
			return err
		}
	}
	err := g.Store.Transact(ctx, s, decide)
	if g.after != nil {
		err = g.after(s, err)
	}
	return err
}

func (g *gate) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	defer g.poke()
	return g.Store.Published(ctx, l, events)
}

func (g *gate) Claim(ctx context.Context, name, holder string, known uint64, now time.Time, ttl time.Duration) (storage.Lease, error) {
	defer g.poke()
	return g.Store.Claim(ctx, name, holder, known, now, ttl)
}

func (g *gate) Yield(ctx context.Context, l storage.Lease) error {
	defer g.poke()
	return g.Store.Yield(ctx, l)
}

func (g *gate) Renew(ctx context.Context, old string) (string, error) {
	g.renewals.Add(1)
	return g.Store.Renew(ctx, old)
}

func (g *gate) LastEvent(ctx context.Context, in chat.Inbox) (uint64, error) {
	if g.reading != nil {
		if err := g.reading(ctx); err != nil {
			return 0, err
		}
	}
	return g.Store.LastEvent(ctx, in)
}

// await returns when missing says "" after some write; it fails the test with
// what is missing otherwise.
func (g *gate) await(t *testing.T, missing func() string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		what := missing()
		if what == "" {
			return
		}
		select {
		case <-changed:
		case <-g.died:
			g.revive()
		case <-deadline:
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// errDead is what a process that was killed gets to see: nothing it asks for happens.
var errDead = errors.New("dead")

// mortal is the world as one process sees it, which can be killed: at the n-th
// call that changes something, before the call or after it has taken effect.
type mortal struct {
	calls atomic.Int64
	at    int64 // the call to die at; 0 for never
	late  bool  // after its effect
	dead  atomic.Bool
	died  chan struct{}
	once  sync.Once
}

func newMortal(at int64, late bool) *mortal {
	return &mortal{at: at, late: late, died: make(chan struct{})}
}

func (m *mortal) kill() {
	m.dead.Store(true)
	m.once.Do(func() { close(m.died) })
}

// do runs one call that changes something.
func (m *mortal) do(call func() error) error {
	if m.dead.Load() {
		return errDead
	}
	last := m.calls.Add(1) == m.at
	if last && !m.late {
		m.kill()
		return errDead
	}
	err := call()
	if last {
		m.kill()
	}
	if m.dead.Load() {
		return errDead
	}
	return err
}

// mortalStore is the store of a mortal process.
type mortalStore struct {
	storage.Store
	*mortal
}

func (s mortalStore) Transact(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) error {
	return s.do(func() error { return s.Store.Transact(ctx, scope, decide) })
}

func (s mortalStore) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	return s.do(func() error { return s.Store.Published(ctx, l, events) })
}

func (s mortalStore) Claim(ctx context.Context, name, holder string, known uint64, now time.Time, ttl time.Duration) (storage.Lease, error) {
	if s.dead.Load() {
		return storage.Lease{}, errDead
	}
	return s.Store.Claim(ctx, name, holder, known, now, ttl)
}

func (s mortalStore) Yield(ctx context.Context, l storage.Lease) error {
	if s.dead.Load() {
		return errDead
	}
	return s.Store.Yield(ctx, l)
}

// mortalJournal is the journal of a mortal process.
type mortalJournal struct {
	journal.Journal
	*mortal
}

func (j mortalJournal) Append(ctx context.Context, s *journal.Submission) error {
	err := j.do(func() error {
		durable := make(chan journal.Result, 1)
		theirs := *s
		theirs.Done = func(r journal.Result) { durable <- r }
		if err := j.Journal.Append(ctx, &theirs); err != nil {
			return err
		}
		r := <-durable
		if !j.dead.Load() {
			s.Done(r)
		}
		return nil
	})
	if errors.Is(err, errDead) {
		return journal.ErrClosed
	}
	return err
}

func (j mortalJournal) Keep(ctx context.Context, partition int, seq uint64) error {
	if j.dead.Load() {
		return journal.ErrClosed
	}
	return j.Journal.Keep(ctx, partition, seq)
}

func (j mortalJournal) Announce(ctx context.Context, a journal.Announcement) error {
	if j.dead.Load() {
		return journal.ErrClosed
	}
	return j.Journal.Announce(ctx, a)
}

func (j mortalJournal) ReadPartition(ctx context.Context, partition int, after uint64, limit int) ([]*journal.Entry, error) {
	if j.dead.Load() {
		return nil, journal.ErrClosed
	}
	return j.Journal.ReadPartition(ctx, partition, after, limit)
}

// logTo logs to the test, until it ends.
func logTo(t *testing.T) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}
