package mqtt

import (
	"time"

	"holdline/broker"
)

// pauseTime is how long a client that was told to hold back has to, at least.
const pauseTime = 500 * time.Millisecond

// throttle keeps a connection to its rate of publishes.
type throttle struct {
	rate   Rate
	bucket bucket
	early  time.Time // of the latest publish that came too early; zero when it held back since
}

// take uses the rate once and returns 0, or how long it is too early.
//
// What a client had sent before it knew that it was too early is too early as a
// whole, even when some of it arrives in time: taking some would change the order of what it
// says. So it has to pause, or to wait until the whole burst is there again.
func (t *throttle) take(now time.Time) (wait time.Duration) {
	if !t.early.IsZero() && now.Sub(t.early) < pauseTime && !t.bucket.full(now) {
		t.early = now
		return pauseTime
	}
	t.early = time.Time{}
	if wait = t.bucket.take(t.rate, now); wait > 0 {
		t.early = now
	}
	return wait
}

// hold looks whether a publish comes too early. It returns true when the publish is
// dealt with: MQTT 5 is told to send it again later, and a QoS 0 publish is lost,
// as it may be. Everybody else, and QoS 2, where a repeat must not be taken for
// something new, waits here: what is not read stays with the client.
func (c *conn) hold(p *broker.Publish) (dealt bool, err error) {
	t := &c.throttle
	if t.rate.Every == 0 {
		return false, nil
	}
	if c.version == 5 && p.QoS < 2 {
		if t.take(time.Now()) == 0 {
			return false, nil
		}
		c.srv.gauge.Throttled.Add(1)
		return true, c.session.Postpone(c.ctx, p)
	}
	for first := true; ; first = false {
		wait := t.bucket.take(t.rate, time.Now())
		if wait == 0 {
			return false, nil
		}
		if first {
			c.srv.gauge.Throttled.Add(1)
			// What came before it is not to wait with it.
			if err := c.session.Flush(c.ctx); err != nil {
				return false, err
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return false, broker.ErrGone
		}
	}
}
