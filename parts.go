package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// part is one of the things that make up a process. run blocks until ctx ends
// and everything it started is gone; it calls ready once when it works.
type part struct {
	name string
	run  func(ctx context.Context, ready func()) error
}

// startLimit and stopLimit bound how long one part may take to start and to stop.
const (
	startLimit = 60 * time.Second
	stopLimit  = 15 * time.Second
)

// runParts starts the parts in order, each when the one before is ready, calls
// ready, and waits until ctx ends or a part fails. Then stopping is called and the
// parts are stopped in reverse: the front door opens last and closes first.
func runParts(ctx context.Context, log *slog.Logger, parts []part, ready, stopping func()) error {
	type running struct {
		part
		cancel context.CancelFunc
		done   chan struct{}
		err    error
	}
	var started []*running
	failed := make(chan *running, len(parts))

	start := func(p part) error {
		// A part outlives ctx on purpose: it is stopped in its turn, below.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{part: p, cancel: cancel, done: make(chan struct{})}
		isReady := make(chan struct{})
		go func() {
			defer close(r.done)
			r.err = p.run(partCtx, func() { close(isReady) })
			failed <- r
		}()
		started = append(started, r)
		timer := time.NewTimer(startLimit)
		defer timer.Stop()
		select {
		case <-isReady:
			return nil
		case <-r.done:
			return fmt.Errorf("%s ended before it was ready: %w", p.name, r.err)
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return fmt.Errorf("%s was not ready after %s", p.name, startLimit)
		}
	}

	err := func() error {
		for _, p := range parts {
			if ctx.Err() != nil {
				return nil
			}
			if err := start(p); err != nil {
				return err
			}
		}
		if ctx.Err() == nil {
			ready()
		}
		select {
		case <-ctx.Done():
			return nil
		case r := <-failed:
			return fmt.Errorf("%s stopped: %w", r.name, errors.Join(r.err, errors.New("it should have gone on")))
		}
	}()

	stopping()
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		r.cancel()
		timer := time.NewTimer(stopLimit)
		select {
		case <-r.done:
			if r.err != nil && !errors.Is(r.err, context.Canceled) && err == nil {
				err = fmt.Errorf("%s: %w", r.name, r.err)
			}
		case <-timer.C:
			log.Error("part did not stop in time", "part", r.name, "limit", stopLimit)
			err = errors.Join(err, fmt.Errorf("%s did not stop within %s", r.name, stopLimit))
		}
		timer.Stop()
	}
	return err
}
