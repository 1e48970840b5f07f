package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"holdline/chat"
	"holdline/storage"
)

// Unpublished returns events not yet marked, by inbox and number.
func (s *Store) Unpublished(ctx context.Context, partition, limit int) ([]storage.Event, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	list := []storage.Event{}
	for _, i := range slices.SortedFunc(maps.Keys(s.inboxes), storage.CompareInboxes) {
		if i.Slot().Partition() != partition {
			continue
		}
		for _, e := range s.inboxes[i].events {
			if len(list) >= storage.Limit(limit, storage.MaxEvents) {
				return list, nil
			}
			if !e.published {
				list = append(list, e.copied())
			}
		}
	}
	return list, nil
}

// Published marks events under the publisher's lease.
func (s *Store) Published(ctx context.Context, l storage.Lease, events []storage.Event) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if !s.holds(l) {
		return fmt.Errorf("lease %s: %w", l.Name, storage.ErrFenced)
	}
	for _, e := range events {
		i := s.inboxes[e.Inbox]
		if i == nil {
			continue
		}
		if at, ok := slices.BinarySearchFunc(i.events, e.N, func(have event, n uint64) int { return cmp.Compare(have.N, n) }); ok {
			i.events[at].published = true
		}
	}
	return nil
}

// Events returns what an inbox was told after number n.
func (s *Store) Events(ctx context.Context, in chat.Inbox, n uint64, limit int) ([]storage.Event, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	list := []storage.Event{}
	if i := s.inboxes[in]; i != nil {
		for _, e := range i.events {
			if e.N > n && len(list) < storage.Limit(limit, storage.MaxEvents) {
				list = append(list, e.copied())
			}
		}
	}
	return list, nil
}

// LastEvent is the newest number of an inbox.
func (s *Store) LastEvent(ctx context.Context, in chat.Inbox) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if i := s.inboxes[in]; i != nil {
		return i.last, nil
	}
	return 0, nil
}

func (e event) copied() storage.Event {
	e.Body = slices.Clone(e.Body)
	return e.Event
}
