package mqtt

import (
	"sync"
	"time"
)

const (
	jailWithin = time.Minute
	// A session that is taken over too often stays with whoever has it for jailTerm,
	// and for twice as long each time again, until it was left in peace for jailMemory.
	jailTerm    = 30 * time.Second
	jailTermMax = 15 * time.Minute
	jailMemory  = time.Hour
	// maxFlapping bounds the sessions that are watched; those beyond are not.
	maxFlapping = 10_000
)

// jail watches how often sessions are taken over.
type jail struct {
	allowed int // within jailWithin; 0 for any number

	mu    sync.Mutex
	m     map[uint64]*flapping
	swept time.Time
}

// flapping is a session that was taken over lately.
type flapping struct {
	last  []time.Time // the latest takeovers, oldest first
	until time.Time   // no takeover before
	term  time.Duration
}

func (f *flapping) forgotten(now time.Time) bool {
	quiet := jailWithin
	if f.term > 0 {
		quiet = jailMemory
	}
	return now.Sub(f.last[len(f.last)-1]) > quiet && now.After(f.until)
}

// takeover counts a takeover and returns 0, or how long it is too early for one.
func (j *jail) takeover(key uint64, now time.Time) (wait time.Duration) {
	if j.allowed == 0 {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Sub(j.swept) > jailWithin {
		for key, f := range j.m {
			if f.forgotten(now) {
				delete(j.m, key)
			}
		}
		j.swept = now
	}
	f := j.m[key]
	if f == nil {
		if len(j.m) >= maxFlapping {
			return 0
		}
		f = &flapping{}
		j.m[key] = f
	} else if f.forgotten(now) {
		*f = flapping{}
	}
	if now.Before(f.until) {
		return f.until.Sub(now)
	}
	if len(f.last) >= j.allowed && now.Sub(f.last[0]) < jailWithin {
		f.term = min(max(2*f.term, jailTerm), jailTermMax)
		f.until = now.Add(f.term)
		return f.term
	}
	if len(f.last) >= j.allowed {
		f.last = f.last[:copy(f.last, f.last[1:])]
	}
	f.last = append(f.last, now)
	return 0
}
