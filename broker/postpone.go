package broker

import (
	"context"

	"holdline/broker/topics"
)

// Postpone answers a publish of QoS 0 or 1 that comes too early: with ErrBusy,
// in the order of the publishes. It is called instead of Publish.
func (s *Session) Postpone(ctx context.Context, p *Publish) error {
	s.b.count.received.Add(1)
	if p.QoS == 0 {
		return nil
	}
	if err := s.claim(ctx); err != nil {
		return err
	}
	return s.filled(ctx, p, ErrBusy)
}

// Connected reports whether the session of this client has a connection.
func (b *Broker) Connected(m topics.Mount) bool { return b.online.get(sessionKey(m)) != nil }
