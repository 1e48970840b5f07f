package memory

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"holdline/storage"
)

// DueJobs claims jobs that are due.
func (s *Store) DueJobs(ctx context.Context, kinds []string, now time.Time, lease time.Duration, limit int) ([]storage.Job, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	due := []job{}
	for _, j := range s.jobs {
		if slices.Contains(kinds, j.Kind) && !j.hidden.After(stored(now)) {
			due = append(due, j)
		}
	}
	slices.SortFunc(due, func(a, b job) int { return cmp.Or(a.hidden.Compare(b.hidden), cmp.Compare(a.ID, b.ID)) })
	list := []storage.Job{}
	claim := rand.Uint64()
	for _, j := range due[:min(len(due), storage.Limit(limit, storage.MaxPage))] {
		j.At = j.hidden
		j.Attempt++
		j.Claim = claim
		j.hidden = stored(now.Add(lease))
		s.jobs[j.ID] = j
		j.Payload = slices.Clone(j.Payload)
		list = append(list, j.Job)
	}
	return list, nil
}

// claimed reports whether j is the newest claim of its job.
func (s *Store) claimed(j storage.Job) bool {
	have, ok := s.jobs[j.ID]
	return ok && have.Attempt == j.Attempt && have.Claim == j.Claim
}

// FinishJob removes a job unless it was claimed again.
func (s *Store) FinishJob(ctx context.Context, j storage.Job) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.claimed(j) {
		delete(s.jobs, j.ID)
	}
	return nil
}

// RetryJob makes a job due again at `at`.
func (s *Store) RetryJob(ctx context.Context, j storage.Job, at time.Time) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.claimed(j) {
		have := s.jobs[j.ID]
		have.hidden = stored(at)
		s.jobs[j.ID] = have
	}
	return nil
}

// NextJob is when the next job of the kinds is due.
func (s *Store) NextJob(ctx context.Context, kinds []string) (at time.Time, ok bool, err error) {
	if err := s.enter(ctx); err != nil {
		return time.Time{}, false, err
	}
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if slices.Contains(kinds, j.Kind) && (!ok || j.hidden.Before(at)) {
			at, ok = j.hidden, true
		}
	}
	return at, ok, nil
}
