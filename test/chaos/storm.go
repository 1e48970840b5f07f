package chaos

import (
	"context"
	"math/rand/v2"
	"time"
)

// Storm is a time of random faults. The same seed draws the same faults, though
// which bytes they hit depends on the moment.
type Storm struct {
	Seed  uint64
	Every time.Duration // one fault per so long, on average
	// Silence is how long a frozen or deaf link stays so before it is reset; nobody
	// hears of the end before. 0 is one second.
	Silence time.Duration
}

// Tally counts the faults of a storm.
type Tally struct{ Cuts, Resets, MidPacket, Freezes, Deaf int }

// Total is the number of faults.
func (t Tally) Total() int { return t.Cuts + t.Resets + t.MidPacket + t.Freezes + t.Deaf }

// Storm spoils random open links of the proxy until ctx ends, then ends those
// that it left silent, and returns.
func (p *Proxy) Storm(ctx context.Context, s Storm) Tally {
	if s.Silence == 0 {
		s.Silence = time.Second
	}
	type silent struct {
		link  *Link
		until time.Time
	}
	var (
		tally  Tally
		quiet  []silent
		random = rand.New(rand.NewPCG(s.Seed, 1))
		next   = time.NewTimer(0)
	)
	defer next.Stop()
	defer func() {
		for _, q := range quiet {
			q.link.Reset()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return tally
		case now := <-next.C:
			next.Reset(time.Duration(random.Int64N(int64(2*s.Every))) + 1)
			for len(quiet) > 0 && now.After(quiet[0].until) {
				quiet[0].link.Reset()
				quiet = quiet[1:]
			}
			links := p.Links()
			if len(links) == 0 {
				continue
			}
			l := links[random.IntN(len(links))]
			switch random.IntN(6) {
			case 0:
				l.Cut()
				tally.Cuts++
			case 1:
				l.Reset()
				tally.Resets++
			case 2:
				l.CutAfter(Up, 1+random.IntN(300))
				tally.MidPacket++
			case 3:
				l.CutAfter(Down, 1+random.IntN(300))
				tally.MidPacket++
			case 4:
				l.Freeze(Both)
				quiet = append(quiet, silent{l, now.Add(s.Silence)})
				tally.Freezes++
			case 5:
				l.Swallow(Direction(1 + random.IntN(2)))
				quiet = append(quiet, silent{l, now.Add(s.Silence)})
				tally.Deaf++
			}
		}
	}
}
