package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"holdline/chat"
)

// Inbox is the record of one numbered stream of events as one device saw it:
// repeats put aside, everything that must not happen noted.
type Inbox struct {
	name string

	mu      sync.Mutex
	began   bool
	life    string // the incarnation
	last    uint64
	events  []chat.Event // by number, each once
	bodies  [][]byte
	first   uint64
	repeats int
	faults  []string
}

// take adds what arrived; fresh is false for a repeat.
func (i *Inbox) take(payload []byte) (e chat.Event, fresh bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := json.Unmarshal(payload, &e); err != nil {
		i.fault("unreadable event %.80q: %v", payload, err)
		return e, false
	}
	life, n, ok := e.Event.Parse()
	switch {
	case !ok || n == 0:
		i.fault("event id %q", e.Event)
		return e, false
	case !i.began:
		i.began, i.life, i.first, i.last = true, life, n, n-1
	case life != i.life:
		i.fault("event %s is of another incarnation than %s", e.Event, i.life)
	}
	switch {
	case n <= i.last:
		i.repeats++
		if n >= i.first && !bytes.Equal(i.bodies[n-i.first], payload) {
			i.fault("event %s came twice with different content: %.120q and %.120q", e.Event, i.bodies[n-i.first], payload)
		}
		return e, false
	case n > i.last+1:
		i.fault("event %s after %d: %d are missing", e.Event, i.last, n-i.last-1)
		for m := i.last + 1; m < n; m++ { // keep the numbering usable
			i.events, i.bodies = append(i.events, chat.Event{}), append(i.bodies, nil)
		}
	}
	i.last = n
	i.events, i.bodies = append(i.events, e), append(i.bodies, payload)
	return e, true
}

func (i *Inbox) fault(format string, a ...any) {
	if len(i.faults) < 20 {
		i.faults = append(i.faults, i.name+": "+fmt.Sprintf(format, a...))
	}
}

// Events are all that arrived, each once, in order.
func (i *Inbox) Events() []chat.Event {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.events[:len(i.events):len(i.events)]
}

// Last is the newest event number.
func (i *Inbox) Last() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.last
}

// Faults are what must not have happened.
func (i *Inbox) Faults() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.faults[:len(i.faults):len(i.faults)]
}

// Repeats is how often an event came again, as QoS 1 allows.
func (i *Inbox) Repeats() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.repeats
}
