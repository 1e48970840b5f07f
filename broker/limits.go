package broker

import (
	"time"

	"holdline/chat"
)

// Limits are what one kind of client may do. They differ by role and are
// constants: topics.md states them.
type Limits struct {
	// Inbound is how many QoS 1 publishes of the client may wait for their
	// acknowledgement; Window how many deliveries may wait for the client's.
	Inbound, Window int
	// PacketBytes bounds one packet of the client.
	PacketBytes int
	// Subscriptions bounds the filters of one session.
	Subscriptions int
	// KeepAliveMin and KeepAliveMax bound the keep-alive; Max is also what a
	// client gets that asks for none. A zero Max leaves the client's choice alone.
	KeepAliveMin, KeepAliveMax time.Duration
}

var (
	customerLimits  = Limits{16, 16, 64 << 10, 8, 60 * time.Second, 540 * time.Second}
	agentLimits     = Limits{32, 64, 128 << 10, 32, 15 * time.Second, 60 * time.Second}
	deviceLimits    = Limits{8, 8, 128 << 10, 8, 60 * time.Second, 1200 * time.Second}
	serviceLimits   = Limits{1024, 1024, 256 << 10, 1024, 5 * time.Second, 1200 * time.Second}
	anonymousLimits = Limits{1024, 1024, 256 << 10, 1024, 0, 0}
)

// LimitsOf are the limits of a role; the empty role is that of clients without an account.
func LimitsOf(r chat.Role) Limits {
	switch r {
	case chat.Customer:
		return customerLimits
	case chat.AgentRole:
		return agentLimits
	case chat.Device:
		return deviceLimits
	case chat.Service:
		return serviceLimits
	}
	return anonymousLimits
}

const (
	// MaxClientBytes bounds a client id.
	MaxClientBytes = 128
	// refusalsAllowed within refusalsWithin, then the connection ends: a client
	// that is wrong that often does not listen.
	refusalsAllowed = 10
	refusalsWithin  = time.Minute
	// pendingBytes bounds what waits in memory for one connection's socket. A
	// session that has more to come reads it from the journal when there is room.
	pendingBytes = 256 << 10
	// batchEntries and batchBytes bound one submission of a reader.
	batchEntries = 128
	batchBytes   = 256 << 10
	// patience is how long the journal may take before a client is told to come back.
	patience = 10 * time.Second
)
