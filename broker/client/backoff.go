package client

import (
	"math/rand/v2"
	"time"
)

const (
	backoffBase = time.Second
	// stable is how long a link must live before the next cut counts as the first.
	stable = time.Minute
)

// backoff spreads reconnects: full jitter, rand(0, min(cap, base × 2^n)). It is
// full and not a few percent because a thousand phones lose the same tower at
// the same moment.
type backoff struct {
	cap   time.Duration
	tries int
	rand  func() float64 // in [0, 1)
}

// next is how long to wait after a connection that lived so long.
func (b *backoff) next(lived time.Duration) time.Duration {
	if lived >= stable {
		b.tries = 0
	}
	limit := doubled(backoffBase, b.tries, b.cap)
	b.tries++
	return time.Duration(b.random() * float64(limit))
}

// spread is a wait somewhere in the first half to one and a half of d, for
// servers that ask for d: the hint is the same for everybody.
func (b *backoff) spread(d time.Duration) time.Duration {
	return time.Duration((0.5 + b.random()) * float64(d))
}

func (b *backoff) random() float64 {
	if b.rand == nil {
		return rand.Float64()
	}
	return b.rand()
}

// doubled is base × 2^n, at most limit.
func doubled(base time.Duration, n int, limit time.Duration) time.Duration {
	for ; n > 0 && base < limit; n-- {
		base *= 2
	}
	return min(base, limit)
}
