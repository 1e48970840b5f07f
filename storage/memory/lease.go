package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdline/storage"
)

// Claim takes or renews a lease.
func (s *Store) Claim(ctx context.Context, name, holder string, known uint64, now time.Time, ttl time.Duration) (storage.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Lease{}, err
	}
	defer s.mu.Unlock()
	l := s.leases[name]
	running := l.Holder != "" && stored(now).Before(l.Until)
	switch {
	case running && l.Holder != holder, running && known != 0 && known != l.Epoch:
		return storage.Lease{}, fmt.Errorf("claim %s: %w", name, storage.ErrFenced)
	case !running || known == 0:
		l.Epoch++
	}
	l.Name, l.Holder, l.Until = name, holder, stored(now.Add(ttl))
	s.leases[name] = l
	return l, nil
}

// Yield gives a lease back early.
func (s *Store) Yield(ctx context.Context, l storage.Lease) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.holds(l) {
		s.leases[l.Name] = storage.Lease{Name: l.Name, Epoch: l.Epoch}
	}
	return nil
}

// holds reports whether a lease is still the caller's.
func (s *Store) holds(l storage.Lease) bool {
	have := s.leases[l.Name]
	return l.Holder != "" && have.Holder == l.Holder && have.Epoch == l.Epoch
}

// Leases lists those whose name begins with prefix.
func (s *Store) Leases(ctx context.Context, prefix string) ([]storage.Lease, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	list := []storage.Lease{}
	for _, l := range s.leases {
		if l.Holder != "" && strings.HasPrefix(l.Name, prefix) {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b storage.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Position reads how far a partition is stored.
func (s *Store) Position(ctx context.Context, partition int) (storage.Position, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Position{}, err
	}
	defer s.mu.Unlock()
	return s.positions[partition], nil
}
