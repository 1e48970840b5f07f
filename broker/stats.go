package broker

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are figures for operators. Counters grow from the start of the process.
type Stats struct {
	Connections int // open now, with or without a session
	Online      int // sessions that are connected
	Sessions    int // all that are known, connected or not
	Replaying   int // connected sessions that read what they missed

	Accepted    uint64 // connections
	Turned      uint64 // connections turned away: too many at once
	Received    uint64 // publishes from clients
	Acked       uint64 // publishes of clients that were answered
	Delivered   uint64 // messages handed to connections
	Confirmed   uint64 // deliveries that clients acknowledged
	Skipped     uint64 // deliveries left out: expired, or too large for the client
	DroppedQoS0 uint64 // messages of QoS 0 for clients that did not keep up
	// QoS1Drops counts messages of QoS 1 that were dropped for want of room. There
	// is no place where this can happen: it is here to be watched.
	QoS1Drops uint64
	Takeovers uint64
	Panics    uint64            // connections that ended in a panic
	Throttled uint64            // publishes that came faster than their role's rate
	Refused   map[string]uint64 // publishes refused for good, by reason
	Rejected  map[string]uint64 // connections refused, by reason
}

// counters are the live Stats.
type counters struct {
	received, acked, delivered, confirmed, skipped, droppedQoS0, takeovers atomic.Uint64
	replaying                                                              atomic.Int64

	mu      sync.Mutex // guards refused
	refused map[string]uint64
}

func (c *counters) init() { c.refused = map[string]uint64{} }

func (c *counters) refuse(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reason]++
}

// Gauge is what a transport counts for the broker's Stats.
type Gauge struct {
	Connections              atomic.Int64
	Accepted, Turned, Panics atomic.Uint64
	Throttled                atomic.Uint64

	mu       sync.Mutex // guards rejected
	rejected map[string]uint64
}

// Reject counts a connection that was refused.
func (g *Gauge) Reject(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rejected == nil {
		g.rejected = map[string]uint64{}
	}
	g.rejected[reason]++
}

// Gauge is where the transports of this broker count their connections.
func (b *Broker) Gauge() *Gauge { return &b.gauge }

// Stats returns the figures as they are now.
func (b *Broker) Stats() Stats {
	c, g := &b.count, &b.gauge
	online := b.online.len()
	s := Stats{
		Connections: int(g.Connections.Load()), Online: online, Sessions: online + b.expiries.len(),
		Replaying: int(max(0, c.replaying.Load())),
		Accepted:  g.Accepted.Load(), Turned: g.Turned.Load(), Panics: g.Panics.Load(),
		Throttled: g.Throttled.Load(),
		Received:  c.received.Load(), Acked: c.acked.Load(), Delivered: c.delivered.Load(), Confirmed: c.confirmed.Load(),
		Skipped: c.skipped.Load(), DroppedQoS0: c.droppedQoS0.Load(), Takeovers: c.takeovers.Load(),
	}
	c.mu.Lock()
	s.Refused = maps.Clone(c.refused)
	c.mu.Unlock()
	g.mu.Lock()
	s.Rejected = maps.Clone(g.rejected)
	g.mu.Unlock()
	return s
}
