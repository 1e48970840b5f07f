package broker

import (
	"context"
	"slices"
	"strings"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

// Grant is the answer to one filter of a SUBSCRIBE.
type Grant struct {
	QoS byte
	Err error // refused: chat.ErrInvalid, chat.ErrForbidden, ErrShared or ErrQuota
}

// Subscribe adds filters to the session, or changes how they are served. It
// returns when the change is durable. A filter that was there keeps its place: what
// the client has not seen of it still comes.
//
// An error means that nothing was changed and the connection must end.
func (s *Session) Subscribe(ctx context.Context, asked []Subscription) ([]Grant, error) {
	at, err := s.b.place(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	var scans []scan
	grants := make([]Grant, len(asked))
	for n, a := range asked {
		a.QoS = min(a.QoS, 2)
		full, err := s.mountFilter(a.Filter)
		if err != nil {
			grants[n].Err = err
			continue
		}
		sub := &subscription{Subscription: a, from: at, full: full}
		i := held(subs, a.Filter)
		switch {
		case i >= 0:
			sub.from = subs[i].from
			subs[i] = sub
		case holding(subs) >= s.limits.Subscriptions:
			grants[n].Err = ErrQuota
			continue
		default:
			subs = append(subs, sub)
		}
		grants[n].QoS = a.QoS
		if a.RetainHandling == 0 || a.RetainHandling == 1 && i < 0 { // [MQTT-3.3.1-9, 3.3.1-10, 3.3.1-11]
			scans = append(scans, scansOf(sub, at)...)
		}
	}
	if err := s.change(ctx, subs, scans); err != nil {
		return nil, err
	}
	return grants, nil
}

// mountFilter is Mount.Subscribe, with what cannot be subscribed to at all.
func (s *Session) mountFilter(filter string) ([]string, error) {
	if err := topics.ValidFilter(filter); err != nil {
		return nil, err
	}
	if strings.HasPrefix(filter, "$share/") || filter == "$share" {
		return nil, ErrShared
	}
	full, err := s.mount.Subscribe(filter)
	if err != nil {
		return nil, err
	}
	for _, f := range full {
		if err := topics.ValidFilter(f); err != nil { // too long or deep once it is mounted
			return nil, err
		}
	}
	return full, nil
}

// held is the index of the filter among the subs that are not given up, or -1.
func held(subs []*subscription, filter string) int {
	return slices.IndexFunc(subs, func(s *subscription) bool { return s.Filter == filter && s.until == 0 })
}

// holding counts the subs that are not given up.
func holding(subs []*subscription) (n int) {
	for _, s := range subs {
		if s.until == 0 {
			n++
		}
	}
	return n
}

// Unsubscribe takes filters away and returns, for each, whether it was there.
// It returns when the change is durable. What was already sent is seen through.
func (s *Session) Unsubscribe(ctx context.Context, filters []string) ([]bool, error) {
	s.mu.Lock()
	subs := slices.Clone(s.subs)
	sent, inFlight := s.deliver.sent, s.deliver.window.waiting > 0
	s.mu.Unlock()
	was := make([]bool, len(filters))
	for i, f := range filters {
		at := held(subs, f)
		if at < 0 {
			continue
		}
		was[i] = true
		if inFlight && subs[at].QoS > 0 {
			ending := *subs[at]
			ending.until = sent
			subs[at] = &ending
		} else {
			subs = slices.Delete(subs, at, at+1)
		}
	}
	if !slices.Contains(was, true) {
		return was, nil
	}
	return was, s.change(ctx, subs, nil)
}

// change gives the session another list of subscriptions, durably first, and
// owes it what is retained under some of them.
func (s *Session) change(ctx context.Context, subs []*subscription, scans []scan) error {
	if err := s.lockRecord(ctx); err != nil {
		return ErrGone
	}
	s.mu.Lock()
	cursor := s.cursor()
	subs = slices.DeleteFunc(subs, func(x *subscription) bool { return x.until != 0 && x.until <= cursor })
	r := s.picture()
	r.subs = subs
	r.owed.rescan(subs, scans)
	durable := s.durable
	s.mu.Unlock()
	if durable {
		if err := s.writeRecord(ctx, &r); err != nil {
			return err
		}
	} else {
		s.unlockRecord()
	}
	s.mu.Lock()
	if !s.closed {
		s.deliver.owed.rescan(subs, scans)
		s.resubscribe(subs)
	}
	queue := s.wantsPump()
	s.mu.Unlock()
	if queue {
		s.b.pumps.add(s)
	}
	return nil
}

// resubscribe puts the new list to work; s.mu is held. The session falls behind
// for a moment: what the follower routes meanwhile by the old list is read instead.
func (s *Session) resubscribe(subs []*subscription) {
	old := s.subs
	for _, sub := range subs {
		if !slices.Contains(old, sub) {
			s.index(sub)
		}
	}
	for _, sub := range old {
		if !slices.Contains(subs, sub) {
			s.unindex(sub)
		}
	}
	at := s.deliver.next
	if s.deliver.live {
		at = max(at, s.b.routed.Load())
	}
	s.fallBehind(at)
	s.setSubs(subs)
}

// setSubs replaces the list and what is derived from it; s.mu is held.
func (s *Session) setSubs(subs []*subscription) {
	s.subs, s.filters = subs, filtersOf(subs)
	s.overlap = overlapping(s.filters)
	s.revision++
}

// overlapping reports whether some topic may match two of the filters. Filters
// without wildcards, of which a session may have many, are only compared by name.
func overlapping(filters []journal.Filter) bool {
	seen := make(map[string]bool, len(filters))
	for _, f := range filters {
		if seen[f] {
			return true
		}
		seen[f] = true
	}
	for i, f := range filters {
		if !strings.ContainsAny(f, "+#") {
			continue
		}
		for j, g := range filters {
			if i != j && intersect(f, g) {
				return true
			}
		}
	}
	return false
}

func filtersOf(subs []*subscription) []journal.Filter {
	filters := make([]journal.Filter, 0, len(subs))
	for _, sub := range subs {
		filters = append(filters, sub.full...)
	}
	return filters
}

// intersect reports whether some topic matches both filters.
func intersect(a, b string) bool {
	for {
		x, resta, morea := strings.Cut(a, "/")
		y, restb, moreb := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !morea && !moreb:
			return true
		case !morea:
			return restb == "#"
		case !moreb:
			return resta == "#"
		}
		a, b = resta, restb
	}
}
