package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
)

const (
	// pingPatience is the time for an answer to a ping on an idle link, where the
	// radio may be asleep; probePatience the time when we already suspect the link.
	pingPatience  = 10 * time.Second
	probePatience = 3 * time.Second
)

var errSilent = errors.New("no answer to a ping")

// heartbeat pings when the keep-alive interval passed without traffic, and at
// once when probed. paho's own pinger pings right after CONNACK, notices a dead
// link only a whole interval later, and cannot be asked.
//
// It implements paho.Pinger.
type heartbeat struct {
	silent func()        // ends the connection
	probes chan struct{} // capacity 1: a second probe while one waits is the same probe
	answer chan struct{} // capacity 1

	mu          sync.Mutex
	sent, heard time.Time
}

func newHeartbeat(silent func()) *heartbeat {
	now := time.Now()
	return &heartbeat{silent: silent, probes: make(chan struct{}, 1), answer: make(chan struct{}, 1), sent: now, heard: now}
}

// probe asks for a sign of life soon; without one the connection ends.
func (h *heartbeat) probe() { poke(h.probes) }

// poke leaves a token in a channel of capacity 1.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run pings until ctx ends, or returns why the link is dead.
func (h *heartbeat) Run(ctx context.Context, conn net.Conn, keepAlive uint16) error {
	interval := time.Duration(keepAlive) * time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if interval > 0 {
			timer.Reset(time.Until(h.quietSince().Add(interval)))
			due = timer.C
		}
		patience := pingPatience
		select {
		case <-ctx.Done():
			return nil
		case <-due:
			if time.Since(h.quietSince()) < interval {
				continue
			}
		case <-h.probes:
			patience = probePatience
		}
		if err := h.ping(ctx, conn, patience); err != nil {
			return err
		}
	}
}

// ping writes a PINGREQ and waits for anything at all to arrive.
func (h *heartbeat) ping(ctx context.Context, conn net.Conn, patience time.Duration) error {
	select {
	case <-h.answer: // of an earlier ping
	default:
	}
	asked := time.Now()
	written := make(chan error, 1)
	go func() {
		_, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(conn)
		written <- err
	}()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-h.answer:
		return <-written
	case <-wait.C:
		if h.heardAfter(asked) {
			return <-written // a long packet is on its way in: the link lives
		}
		h.silent()
		<-written // at once: the socket is closed
		return errSilent
	case <-ctx.Done():
		_ = conn.Close() // paho does the same at this moment
		<-written
		return nil
	}
}

// quietSince is when the more silent of the two directions was last used.
func (h *heartbeat) quietSince() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent.Before(h.heard) {
		return h.sent
	}
	return h.heard
}

func (h *heartbeat) heardAfter(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard.After(t)
}

// PacketSent is called for every write, by the link.
func (h *heartbeat) PacketSent() {
	h.mu.Lock()
	h.sent = time.Now()
	h.mu.Unlock()
}

// PacketReceived is called by paho for every packet.
func (h *heartbeat) PacketReceived() {
	h.mu.Lock()
	h.heard = time.Now()
	h.mu.Unlock()
}

// PingResp is called by paho.
func (h *heartbeat) PingResp() { poke(h.answer) }

// SetDebug does nothing: we log in our own way.
func (h *heartbeat) SetDebug(log.Logger) {}
