// Package agentd decides who answers next.
//
// It gives each waiting conversation, the longest waiting first, to an agent
// who is available, reachable and has room, and it gives back to the queue what
// an agent holds whose every desk session has been gone past the grace, or who
// was disabled. It also keeps the agents themselves: their credentials and
// their intent.
//
// What it reads is only a hint: every decision is made again, by the rules of
// package chat, on the rows that its transaction has locked, and is written
// with its events and its audit line in that transaction. So any number of
// agentd processes may run at once and a conversation still has one owner and
// an agent never more than there is room for; the loser of a race looks again.
// It is woken by an announcement, by the time at which a grace ends, and once a
// second in case an announcement was lost.
//
// It does not read the journal, does not know MQTT, and holds nothing in memory
// that a restart would miss: who is reachable is what the bridge has stored.
package agentd

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// Part is the name agentd listens for: announce topics.Wake(Part) after
// committing anything that may change who answers.
const Part = "agentd"

const (
	callTimeout  = 10 * time.Second       // of one read or transaction
	spacing      = 20 * time.Millisecond  // between rounds: wakes within it are one
	firstBackoff = 100 * time.Millisecond // after a round that failed
	maxBackoff   = 5 * time.Second
)

// Config is what an Agentd needs. Store and Journal have no default.
type Config struct {
	Node    string          // names this process in the audit trail
	Tenant  chat.Tenant     // default chat.DefaultTenant
	Store   storage.Store   //
	Journal journal.Journal // for announcements only
	Log     *slog.Logger    // default: silence
	// Grace is how long an agent whose every session is gone keeps the
	// conversations; default chat.Grace.
	Grace time.Duration
	// Poll is how often agentd looks without having been woken; default 1 s.
	Poll time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Stats are figures for operators. Counters grow from the start of the process.
type Stats struct {
	Rounds   uint64 // times agentd looked
	Assigned uint64 // conversations given to an agent
	Requeued uint64 // conversations given back to the queue
	Lost     uint64 // assignments somebody else was faster with
	Failures uint64 // rounds that ended with an error
	// Oldest is since when the first of the queue waits; zero when nobody does.
	Oldest time.Time
}

// Agentd is one process's share of routing. Make it with New.
type Agentd struct {
	Config
	actor  string
	strays map[storage.AgentKey]time.Time // since when each is seen holding while unreachable; of Run's goroutine

	rounds, assigned, requeued, lost, failures atomic.Uint64
	oldest                                     atomic.Int64 // UnixMicro; 0 for nobody
}

// New returns an Agentd that does nothing until Run.
func New(c Config) *Agentd {
	if c.Tenant == "" {
		c.Tenant = chat.DefaultTenant
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Grace <= 0 {
		c.Grace = chat.Grace
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	d := &Agentd{Config: c, actor: Part, strays: map[storage.AgentKey]time.Time{}}
	if c.Node != "" {
		d.actor += "/" + c.Node
	}
	return d
}

// Stats may be called at any time from any goroutine.
func (d *Agentd) Stats() Stats {
	s := Stats{
		Rounds: d.rounds.Load(), Assigned: d.assigned.Load(), Requeued: d.requeued.Load(),
		Lost: d.lost.Load(), Failures: d.failures.Load(),
	}
	if us := d.oldest.Load(); us != 0 {
		s.Oldest = time.UnixMicro(us).UTC()
	}
	return s
}

// Run deals conversations until ctx ends, and then returns nil. An error of
// the storage is logged and met with a growing pause, never with giving up.
func (d *Agentd) Run(ctx context.Context, ready func()) error {
	wake := make(chan struct{}, 1) // full means: already woken, which is enough
	stop := d.Journal.Listen(func(a journal.Announcement) {
		if a.Topic == topics.Wake(Part) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	ready()
	for tries := 0; ; {
		d.rounds.Add(1)
		again, err := d.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		listen, wait := wake, spacing
		switch {
		case err != nil:
			d.failures.Add(1)
			listen, wait = nil, backoff(tries, firstBackoff, maxBackoff) // waking up does not shorten it
			tries++
			d.Log.WarnContext(ctx, "round failed", "err", err, "pause", wait)
		case again: // lost a race: look again soon, but not in step with the winner
			listen, wait = nil, backoff(tries, spacing, d.Poll)
			tries++
		default:
			tries = 0
			if !pause(ctx, nil, spacing) {
				return nil
			}
			wait = d.untilDue(ctx)
		}
		if !pause(ctx, listen, wait) {
			return nil
		}
	}
}

// round does everything there is to do now. again asks for another soon.
func (d *Agentd) round(ctx context.Context) (again bool, err error) {
	if err := d.endGrace(ctx); err != nil {
		return false, err
	}
	agents, err := d.agents(ctx)
	if err != nil {
		return false, err
	}
	d.shutOut(ctx, agents)
	if d.gatherStrays(ctx, agents) { // loads have changed
		if agents, err = d.agents(ctx); err != nil {
			return false, err
		}
	}
	return d.deal(ctx, agents)
}

// untilDue is how long there is nothing to do by the clock: to the next grace
// job, and one Poll at most. An error counts as a Poll; the next round will meet it.
func (d *Agentd) untilDue(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	at, ok, err := d.Store.NextJob(ctx, graceKinds)
	if err != nil || !ok {
		return d.Poll
	}
	return min(max(at.Sub(d.Now()), 0), d.Poll)
}

func (d *Agentd) agents(ctx context.Context) ([]chat.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.Store.Agents(ctx, d.Tenant)
}

func (d *Agentd) transact(ctx context.Context, s storage.Scope, decide func(*storage.Unit) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.Store.Transact(ctx, s, decide)
}

// tellBridge says that there are event rows to publish. Nobody needs it to
// arrive: the bridge also looks by itself.
func (d *Agentd) tellBridge(ctx context.Context) { wakeUp(ctx, d.Journal, "bridge") }

func wakeUp(ctx context.Context, j journal.Journal, part string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_ = j.Announce(ctx, journal.Announcement{Topic: topics.Wake(part)}) // may be lost by contract
}

// pause waits until woken or for at least `wait`; false when ctx ended. A nil wake waits the whole time.
func pause(ctx context.Context, wake <-chan struct{}, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// backoff doubles from first to limit, give or take a half so that processes which
// failed together do not come back together.
func backoff(tries int, first, limit time.Duration) time.Duration {
	d := min(first<<min(tries, 16), limit)
	return d/2 + rand.N(d)
}
