package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// connectPatience bounds each of: the socket, CONNECT to CONNACK, SUBSCRIBE to SUBACK.
const connectPatience = 10 * time.Second

// Run connects, keeps connected and returns when ctx ends, or with an error
// when going on makes no sense: ErrTakenOver, ErrStopped, a callback's error, or
// a state that cannot be written. ready is called once, when the first
// connection is up; it may be nil.
func (c *Client) Run(ctx context.Context, ready func()) error {
	if c.running.Swap(true) {
		return errors.New("client runs already")
	}
	defer c.running.Store(false)
	wait := backoff{cap: c.cfg.BackoffCap, rand: c.cfg.rand}
	retried := false // with a fresh token, at once
	for {
		began := time.Now()
		up, err := c.connect(ctx, func() {
			if ready != nil {
				ready()
				ready = nil
			}
		})
		var ended *Ended
		if ctx.Err() != nil && (err == nil || errors.As(err, &ended)) {
			return nil
		}
		if !errors.As(err, &ended) {
			return err
		}
		lived := time.Duration(0)
		if up {
			lived = time.Since(began)
		}
		if lived >= stable {
			retried = false
		}
		do, final := ended.judge()
		pause := wait.next(lived)
		switch {
		case do == stop:
			c.log.ErrorContext(ctx, "connection ended for good", "err", final)
			c.tell(Link{Err: final})
			return final
		case do == refresh:
			c.token = ""
			if !retried {
				retried, pause = true, 0
			}
		case ended.Spread:
			pause = time.Duration(wait.random() * float64(ended.After))
		case ended.After > 0:
			pause = max(pause, wait.spread(ended.After))
		}
		c.log.WarnContext(ctx, "not connected", "err", ended, "lived", lived, "retry", pause)
		c.tell(Link{Err: ended, Retry: pause})
		if err := sleep(ctx, pause); err != nil {
			return nil
		}
	}
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) tell(l Link) {
	if c.cfg.OnLink != nil {
		c.cfg.OnLink(l)
	}
}

// password is the token to connect with.
func (c *Client) password(ctx context.Context) (string, error) {
	if c.token == "" {
		ctx, cancel := context.WithTimeout(ctx, connectPatience)
		defer cancel()
		t, err := c.cfg.Token(ctx)
		if err != nil {
			return "", fmt.Errorf("fetch a token: %w", err)
		}
		c.token = t
	}
	return c.token, nil
}
