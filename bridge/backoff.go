package bridge

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 20 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// backoff waits longer after each failure in a row, with jitter, so that many
// processes do not come back to an ailing server at once.
type backoff struct{ failures int }

// pause is how long to wait after one more failure: 20 ms at first, at most 5 s.
func (b *backoff) pause() time.Duration {
	d := min(backoffFirst<<min(b.failures, 10), backoffMost)
	b.failures++
	return d/2 + rand.N(d/2)
}

func (b *backoff) reset() { b.failures = 0 }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
