package mqtt

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker/topics"
	"holdline/chat"
)

// Admission bounds how fast clients come in and speak, in the order of what a
// refusal costs: first connections, which wait in the kernel; then CONNECTs of one
// client; then publishes. The zero Admission bounds nothing.
//
// Addresses come last: hundreds of phones share one behind their provider, so it
// counts only what nobody was let in for. Whoever proves who it is gets in, whatever
// others at the same address do.
type Admission struct {
	Accept  Rate // connections over TCP and TLS, of all clients together
	Connect Rate // CONNECTs of one client of an account
	// FailedIPv4 and FailedIPv6 are CONNECTs that were refused before it was known
	// who it is, of one address, for IPv6 of one /64. Beyond it the answer does not say
	// what was wrong. Addresses of this machine are a proxy's and not counted.
	FailedIPv4, FailedIPv6 Rate
	// Takeovers is how often a session may be taken over within a minute, 0 for any
	// number. Then, for half a minute and longer each time, whoever has it keeps it: two
	// devices that share a client id would throw each other out for ever.
	Takeovers int
	// Publish are publishes of one connection, by role. MQTT 5 is refused what is too
	// early; MQTT 3.1.1, where a refusal cannot be said, is not read until it is time.
	Publish map[chat.Role]Rate
}

// DefaultAdmission is for a server that phones connect to.
func DefaultAdmission() Admission {
	return Admission{
		Accept: PerSecond(2000, 2000), Connect: PerSecond(1, 5),
		FailedIPv4: PerSecond(200, 200), FailedIPv6: PerSecond(20, 20), Takeovers: 15,
		Publish: map[chat.Role]Rate{
			chat.Customer: PerSecond(2, 20), chat.AgentRole: PerSecond(20, 100), chat.Device: PerSecond(5, 50),
		},
	}
}

const (
	// How long a client is asked to stay away: somewhere between, so that those who
	// came together do not come back together.
	retryAfterMin = 5 * time.Second
	retryAfterMax = 30 * time.Second
	// retryAfterProperty tells it, in milliseconds.
	retryAfterProperty = "ra"
)

// admission is what keeps to an Admission.
type admission struct {
	Admission
	clients    keyed
	ipv4, ipv6 keyed
	jail       jail

	mu     sync.Mutex // guards accept
	accept bucket
}

func newAdmission(a Admission) *admission {
	return &admission{
		Admission: a, clients: keyed{rate: a.Connect}, ipv4: keyed{rate: a.FailedIPv4}, ipv6: keyed{rate: a.FailedIPv6},
		jail: jail{allowed: a.Takeovers, m: map[uint64]*flapping{}},
	}
}

// paceAccept waits until one more connection may be accepted; meanwhile they wait
// in the kernel, where they cost nothing and TCP itself backs off.
func (a *admission) paceAccept(ctx context.Context) {
	for {
		a.mu.Lock()
		wait := a.accept.take(a.Accept, time.Now())
		a.mu.Unlock()
		if wait == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// clientKey is a client of an account.
func clientKey(m topics.Mount) uint64 {
	return maphash.Comparable(seed, struct {
		account chat.Account
		client  string
	}{m.Account, m.Client})
}

// let decides about a client that has proved who it is; takeover tells that its
// session has a connection. A client without an account is for development and always let in.
func (a *admission) let(m topics.Mount, takeover bool, now time.Time) (no *turnAway, after time.Duration) {
	if m.Account == (chat.Account{}) {
		return nil, 0
	}
	key := clientKey(m)
	if a.clients.take(key, now) > 0 {
		return &turnAway{packets.ErrConnectionRateExceeded, oldUnavailable, "this client connects too often; wait before the next time", "rate"}, retryAfter()
	}
	if !takeover {
		return nil, 0
	}
	if wait := a.jail.takeover(key, now); wait > 0 {
		return &turnAway{
			packets.ErrQuotaExceeded, oldUnavailable, "this session is taken over again and again; give each device a client id of its own", "takeovers",
		}, wait
	}
	return nil, 0
}

// failed counts a CONNECT that was refused before it was known who it is, and
// returns another refusal when there are too many from its address.
func (a *admission) failed(from net.Addr, now time.Time) (no *turnAway, after time.Duration) {
	ip, limit := a.limitFor(from)
	if limit == nil || limit.take(maphash.Comparable(seed, ip), now) == 0 {
		return nil, 0
	}
	return &turnAway{packets.ErrConnectionRateExceeded, oldUnavailable, "too many refused connections from this address", "address"}, retryAfter()
}

// limitFor is what an address counts as; nil for one that does not count.
func (a *admission) limitFor(from net.Addr) (netip.Prefix, *keyed) {
	t, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, nil
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits, limit := 32, &a.ipv4
	switch {
	case ip.IsLoopback():
		return netip.Prefix{}, nil
	case ip.Is6():
		bits, limit = 64, &a.ipv6 // what one customer of a provider has
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, nil // not an address at all
	}
	return p, limit
}

func retryAfter() time.Duration {
	return retryAfterMin + rand.N(retryAfterMax-retryAfterMin)
}

// retryProperty says how long to stay away.
func retryProperty(after time.Duration) []packets.UserProperty {
	if after == 0 {
		return nil
	}
	return []packets.UserProperty{{Key: retryAfterProperty, Val: strconv.FormatInt(after.Milliseconds(), 10)}}
}

// refused is the refusal of a CONNECT for err.
func (c *conn) refused(err error) *turnAway {
	t := refuseConnect(err)
	if c.mount.Client != "" { // it has proved who it is
		return t
	}
	no, after := c.srv.admission.failed(c.s.RemoteAddr(), time.Now())
	if no == nil {
		return t
	}
	c.retryAfter = after
	return no
}

// let decides whether the client, which has proved who it is, comes too often.
func (c *conn) let() error {
	c.since = time.Now().UTC()
	no, after := c.srv.admission.let(c.mount, c.srv.broker.Connected(c.mount), time.Now())
	if no == nil {
		return nil
	}
	c.retryAfter = after
	return no
}
