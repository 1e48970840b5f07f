package client

import (
	"holdline/chat"
)

// place is how far an inbox was read: all events ≤ n of this incarnation. The
// zero place knows nothing.
type place struct {
	incarnation string
	n           uint64
	known       bool
}

func placeOf(e chat.EventID) place {
	incarnation, n, known := e.Parse()
	return place{incarnation, n, known}
}

func (p place) id() chat.EventID {
	if !p.known {
		return ""
	}
	return chat.NewEventID(p.incarnation, p.n)
}

// step is where an event stands, seen from a place.
type step int

const (
	unreadable step = iota // no event id
	stale                  // had already
	next                   // the one that follows
	ahead                  // events before it are missing
	foreign                // of another incarnation
)

// judge says where e stands. Seen from an unknown place only the first event
// follows; any other has missing ones before it.
func (p place) judge(e chat.EventID) step {
	q := placeOf(e)
	switch {
	case !q.known:
		return unreadable
	case p.known && q.incarnation != p.incarnation:
		return foreign
	case q.n == p.n+1:
		return next
	case q.n > p.n:
		return ahead
	}
	return stale
}
