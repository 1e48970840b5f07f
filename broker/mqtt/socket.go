package mqtt

import (
	"errors"
	"net"
	"time"

	"holdline/chat"
)

// tuning is how a role's TCP sockets are set up.
type tuning struct {
	userTimeout time.Duration // unacknowledged data for so long means the peer is gone
	unsent      int           // bytes
	sendBuffer  int           // bytes; 0 leaves it to the kernel
	// keepAlive is off for phones: each probe wakes the radio. MQTT's own is enough.
	keepAlive net.KeepAliveConfig
}

var tunings = map[chat.Role]tuning{
	chat.Customer:  {20 * time.Second, 16 << 10, 32 << 10, net.KeepAliveConfig{}},
	chat.Device:    {45 * time.Second, 16 << 10, 16 << 10, net.KeepAliveConfig{}},
	chat.AgentRole: {10 * time.Second, 64 << 10, 0, net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 3}},
	chat.Service:   {20 * time.Second, 0, 0, net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}},
}

// unasked is for MQTT 3.1.1 clients that want no keep-alive and cannot be told
// of ours: without it, one that vanished would stay for ever.
var unasked = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Minute, Interval: time.Minute, Count: 3}

// tune sets what is known at accept, when nobody has said who is there.
func tune(c net.Conn) error {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	return errors.Join(t.SetNoDelay(true), setUserTimeout(t, 20*time.Second))
}

// tuneFor sets what the role asks for.
func tuneFor(c net.Conn, r chat.Role) error {
	t, ok := tcpOf(c)
	if !ok {
		return nil
	}
	set, ok := tunings[r]
	if !ok {
		return nil
	}
	err := setUserTimeout(t, set.userTimeout)
	if set.unsent > 0 {
		err = errors.Join(err, setUnsent(t, set.unsent))
	}
	if set.sendBuffer > 0 {
		err = errors.Join(err, t.SetWriteBuffer(set.sendBuffer))
	}
	if set.keepAlive.Enable {
		err = errors.Join(err, t.SetKeepAliveConfig(set.keepAlive))
	}
	return err
}
