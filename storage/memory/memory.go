// Package memory is the storage fake: the whole contract in maps under one mutex.
//
// It passes storagetest like the engines do, so a test that uses it meets the
// same refusals, numbers and orders. A transaction works on copies that take
// the place of the originals when it commits; a refused one leaves no trace.
//
// It keeps nothing when the process ends, and is for tests only.
package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// Store implements storage.Store.
type Store struct {
	incarnation string

	// mu is held for a whole transaction, decide included: one at a time is
	// what makes the fake right, and decide does no I/O.
	mu            sync.Mutex
	closed        bool
	accounts      map[chat.Account]storage.Account
	said          map[storage.SaidKey]storage.Said
	conversations map[headKey]chat.Conversation
	messages      map[headKey][]chat.Message // by seq
	agents        map[storage.AgentKey]storage.Credential
	sessions      map[chat.Account]map[string]storage.Session
	inboxes       map[chat.Inbox]*inbox
	jobs          map[string]job
	leases        map[string]storage.Lease
	positions     map[int]storage.Position
	settings      map[chat.Tenant]storage.Configuration
	audit         []storage.Audit
}

type headKey struct {
	tenant chat.Tenant
	id     chat.ConversationID
}

type inbox struct {
	last   uint64
	events []event // by number
}

type event struct {
	storage.Event
	published bool
}

type job struct {
	storage.Job
	hidden time.Time // not due before
}

// New returns an empty store.
func New() *Store {
	return &Store{
		incarnation:   newIncarnation(),
		accounts:      map[chat.Account]storage.Account{},
		said:          map[storage.SaidKey]storage.Said{},
		conversations: map[headKey]chat.Conversation{},
		messages:      map[headKey][]chat.Message{},
		agents:        map[storage.AgentKey]storage.Credential{},
		sessions:      map[chat.Account]map[string]storage.Session{},
		inboxes:       map[chat.Inbox]*inbox{},
		jobs:          map[string]job{},
		leases:        map[string]storage.Lease{},
		positions:     map[int]storage.Position{},
		settings:      map[chat.Tenant]storage.Configuration{},
	}
}

func newIncarnation() string { return strings.ToLower(rand.Text()[:10]) }

var errClosed = errors.New("memory: the store is closed")

// enter locks the store, or says why the caller may not go on.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	return nil
}

// Ping returns nil until Close.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

// Close makes every later call fail.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Incarnation names this life of the storage.
func (s *Store) Incarnation(ctx context.Context) (string, error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	return s.incarnation, nil
}

// Renew starts another incarnation unless somebody did already.
func (s *Store) Renew(ctx context.Context, old string) (string, error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	if s.incarnation == old {
		s.incarnation = newIncarnation()
	}
	return s.incarnation, nil
}

// Configuration returns the newest revision.
func (s *Store) Configuration(ctx context.Context, t chat.Tenant) (storage.Configuration, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Configuration{}, err
	}
	defer s.mu.Unlock()
	c, ok := s.settings[t]
	if !ok {
		return c, chat.ErrNotFound
	}
	c.Body = slices.Clone(c.Body)
	return c, nil
}

// Configure stores the next revision.
func (s *Store) Configure(ctx context.Context, t chat.Tenant, c storage.Configuration) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if c.Revision != s.settings[t].Revision+1 {
		return chat.ErrConflict
	}
	c.Body, c.At = slices.Clone(c.Body), stored(c.At)
	s.settings[t] = c
	s.audit = append(s.audit, storage.ConfigureAudit(t, c))
	return nil
}

// AuditTrail returns the newest lines first.
func (s *Store) AuditTrail(ctx context.Context, t chat.Tenant, object string, limit int) ([]storage.Audit, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	lines := []storage.Audit{}
	for _, a := range slices.Backward(s.audit) {
		if a.Tenant == t && (object == "" || a.Object == object) {
			lines = append(lines, a)
		}
	}
	slices.SortStableFunc(lines, func(a, b storage.Audit) int { return b.At.Compare(a.At) })
	return lines[:min(len(lines), storage.Limit(limit, storage.MaxPage))], nil
}

// Maintain forgets events that were published before `before`.
func (s *Store) Maintain(ctx context.Context, _, before time.Time) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, i := range s.inboxes {
		i.events = slices.DeleteFunc(i.events, func(e event) bool { return e.published && e.At.Before(before) })
	}
	return nil
}

// stored is a time as an engine would give it back.
func stored(t time.Time) time.Time { return storage.Time(storage.Millis(t)) }
