package bridge

import (
	"context"
	"errors"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// append puts events into the journal and returns those that are in it then, and
// the first event of each inbox that would have left a gap.
func (p *publisher) append(ctx context.Context, incarnation string, events []storage.Event) (appended, gaps []storage.Event, err error) {
	// All at once, in order, in pieces of a bounded size.
	var pieces [][]storage.Event
	var waits []func() error
	for rest := events; len(rest) > 0; {
		n := piece(rest, func(int) bool { return true })
		wait, err := submit(ctx, p.journal, entries(incarnation, rest[:n]))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
		if err != nil {
			waits = append(waits, func() error { return err })
			break
		}
		waits = append(waits, wait)
	}
	gap := false
	for i, wait := range waits {
		switch e := wait(); {
		case err != nil || gap: // what came after a failure tells nothing
		case errors.Is(e, journal.ErrGap):
			gap = true
		case e != nil:
			err = e
		default:
			appended = append(appended, pieces[i]...)
		}
	}
	if !gap || err != nil {
		return appended, nil, err
	}
	for rest := events[len(appended):]; len(rest) > 0; { // inbox by inbox, to find the one
		n := piece(rest, func(i int) bool { return rest[i].Inbox == rest[0].Inbox && rest[i].N == rest[i-1].N+1 })
		switch err := write(ctx, p.journal, entries(incarnation, rest[:n])); {
		case errors.Is(err, journal.ErrGap):
			gaps = append(gaps, rest[0])
		case err != nil:
			return appended, gaps, err
		default:
			appended = append(appended, rest[:n]...)
		}
		rest = rest[n:]
	}
	return appended, gaps, nil
}

// piece is how many events go into one submission: at least one, then while
// with agrees and the size is bounded.
func piece(events []storage.Event, with func(i int) bool) int {
	n, size := 1, len(events[0].Body)
	for n < len(events) && with(n) && size+len(events[n].Body) <= publishBytes {
		size += len(events[n].Body)
		n++
	}
	return n
}

func entries(incarnation string, events []storage.Event) *journal.Submission {
	s := &journal.Submission{Entries: make([]journal.Entry, len(events))}
	for i, e := range events {
		s.Entries[i] = journal.Entry{
			Topic: topics.Inbox(e.Inbox), Payload: chat.Numbered(chat.NewEventID(incarnation, e.N), e.Body),
			Partition: journal.NoPartition, Inbox: incarnation + ":" + e.Inbox.String(), Event: e.N,
		}
	}
	return s
}

// submit appends and returns how to wait for it to be durable.
func submit(ctx context.Context, j journal.Journal, s *journal.Submission) (wait func() error, err error) {
	done := make(chan error, 1)
	s.Done = func(r journal.Result) { done <- r.Err }
	if err := j.Append(ctx, s); err != nil {
		return nil, err
	}
	return func() error {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}

// write appends and waits until it is durable.
func write(ctx context.Context, j journal.Journal, s *journal.Submission) error {
	wait, err := submit(ctx, j, s)
	if err != nil {
		return err
	}
	return wait()
}
