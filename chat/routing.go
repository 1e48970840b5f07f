package chat

import (
	"cmp"
	"time"
)

// Intent is what an agent wants: stored, and changed by nobody but people.
// Whether the agent can be reached is another matter (see Agent.Reachable).
type Intent string

// The intents of an agent.
const (
	Available Intent = "available"
	Busy      Intent = "busy"
	Away      Intent = "away"
)

// Valid reports whether i is one of the three intents.
func (i Intent) Valid() bool { return i == Available || i == Busy || i == Away }

// DefaultCapacity is how many conversations a new agent holds at once.
const DefaultCapacity = 5

// Grace is how long an agent whose every session is gone keeps the conversations.
const Grace = 45 * time.Second

// Agent is a person who answers, as routing sees them.
type Agent struct {
	Tenant    Tenant
	ID        string // the subject of the agent's account; also the sign-in name
	Name      string
	Disabled  bool
	Intent    Intent
	Capacity  int
	Load      int       // conversations held now
	IdleSince time.Time // when the last conversation was given; zero for never
	// Reachable is true while one of the agent's desk sessions is up.
	Reachable bool
}

// Account is the agent as a party to conversations.
func (a Agent) Account() Account { return Account{a.Tenant, AgentRole, a.ID} }

// MayTake reports whether routing may give the agent one more conversation.
func (a Agent) MayTake() bool {
	return !a.Disabled && a.Reachable && a.Intent == Available && a.Load < a.Capacity
}

// Pick chooses who answers next: available and reachable with room, then the
// least loaded, then the longest idle, then by id so that the choice is
// always the same. ok is false when nobody may take one more.
func Pick(agents []Agent) (best Agent, ok bool) {
	for _, a := range agents {
		if a.MayTake() && (!ok || before(a, best)) {
			best, ok = a, true
		}
	}
	return best, ok
}

func before(a, b Agent) bool {
	return cmp.Or(
		cmp.Compare(a.Load, b.Load),
		a.IdleSince.Compare(b.IdleSince),
		cmp.Compare(a.ID, b.ID),
	) < 0
}

// CompareWaiting orders a queue: who waits longest is first. The order is total.
func CompareWaiting(a, b *Conversation) int {
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
}
