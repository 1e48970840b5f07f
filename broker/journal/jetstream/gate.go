package jetstream

import (
	"sync"

	"holdline/broker/journal"
)

// gate lets the readers finish before the connections close.
type gate struct {
	mu      sync.Mutex
	closed  bool
	readers sync.WaitGroup // only added to while the gate is open
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return journal.ErrClosed
	}
	g.readers.Add(1)
	return nil
}

func (g *gate) leave() { g.readers.Done() }

// shut lets nobody in any more. It reports whether it was open.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := !g.closed
	g.closed = true
	return open
}

// wait returns when everybody has left.
func (g *gate) wait() { g.readers.Wait() }
