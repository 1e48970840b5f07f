package mqtt

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rate is how often something may happen: once in Every in the long run, and
// Burst times at once. The zero Rate has no limit.
type Rate struct {
	Every time.Duration
	Burst int
}

// PerSecond makes a Rate.
func PerSecond(n float64, burst int) Rate {
	return Rate{Every: time.Duration(float64(time.Second) / n), Burst: burst}
}

// ParseRate reads "2/20", two in a second and twenty at once, or "off".
func ParseRate(s string) (Rate, error) {
	if s == "off" {
		return Rate{}, nil
	}
	sustained, atOnce, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(sustained, 64)
	burst, err2 := strconv.Atoi(atOnce)
	if err != nil || err2 != nil || !(n >= 0.001 && n <= 1e6) || burst < 1 || burst > 1e6 {
		return Rate{}, fmt.Errorf("%q is not a rate; write 2/20 for two a second and twenty at once, or off", s)
	}
	return PerSecond(n, burst), nil
}

// bucket is what a Rate has left for somebody: when it will be full again, in
// Unix nanoseconds. The zero bucket is full.
type bucket int64

// take uses the rate once and returns 0, or how long it is too early.
func (b *bucket) take(r Rate, now time.Time) (wait time.Duration) {
	if r.Every == 0 {
		return 0
	}
	at := now.UnixNano()
	next := max(int64(*b), at) + int64(r.Every)
	if wait = time.Duration(next-at) - r.Every*time.Duration(r.Burst); wait > 0 {
		return wait
	}
	*b = bucket(next)
	return 0
}

func (b bucket) full(now time.Time) bool { return int64(b) <= now.UnixNano() }

const (
	// maxBuckets bounds how many are remembered. When there are that many, none of
	// them full, who comes new is not limited: what bounds the accepts still holds.
	maxBuckets = 1 << 16
	// Full buckets are forgotten so often.
	sweepEvery    = 10 * time.Second
	sweepWhenFull = time.Second
)

// keyed is a bucket for each key. Keys are hashed: nobody who does not know the
// seed can make two of them meet.
type keyed struct {
	rate Rate

	mu    sync.Mutex
	m     map[uint64]bucket
	swept time.Time
}

// take uses the key's rate once and returns 0, or how long it is too early.
func (k *keyed) take(key uint64, now time.Time) (wait time.Duration) {
	if k.rate.Every == 0 {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[uint64]bucket{}
	}
	if since := now.Sub(k.swept); since > sweepEvery || len(k.m) >= maxBuckets && since > sweepWhenFull {
		for key, b := range k.m {
			if b.full(now) {
				delete(k.m, key)
			}
		}
		k.swept = now
	}
	b, ok := k.m[key]
	if !ok && len(k.m) >= maxBuckets {
		return 0
	}
	if wait = b.take(k.rate, now); wait == 0 {
		k.m[key] = b
	}
	return wait
}

// seed makes keys that nobody outside can foresee.
var seed = maphash.MakeSeed()
