package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// GraceKind is the kind of the job that ends an agent's grace. The bridge
// writes it in the transaction that takes down the agent's last session, and
// cancels it in the one that brings a session up.
const GraceKind = "grace"

var graceKinds = []string{GraceKind}

// GraceJob is the id of that job: one for each agent.
func GraceJob(k storage.AgentKey) string { return GraceKind + ":" + string(k.Tenant) + "/" + k.ID }

// gracePayload is the JSON of the job.
type gracePayload struct {
	Tenant chat.Tenant `json:"tenant"`
	Agent  string      `json:"agent"`
}

const (
	jobLease    = 30 * time.Second // a claimed job that nobody finishes is due again after it
	jobBatch    = 16
	returnBatch = 50 // conversations given back in one transaction
	// strayAfter is how much longer than the grace an agent may be seen holding
	// conversations without being there, before agentd acts without a job.
	strayAfter = 5 * time.Second
)

// endGrace does the grace jobs that are due. A job that fails is due again
// later and holds up no other.
func (d *Agentd) endGrace(ctx context.Context) error {
	for {
		jobs, err := d.dueJobs(ctx)
		if err != nil {
			return fmt.Errorf("due jobs: %w", err)
		}
		for _, j := range jobs {
			if err := d.endOne(ctx, j); err != nil {
				return err
			}
		}
		if len(jobs) < jobBatch {
			return nil
		}
	}
}

func (d *Agentd) dueJobs(ctx context.Context) ([]storage.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.Store.DueJobs(ctx, graceKinds, d.Now().UTC(), jobLease, jobBatch)
}

func (d *Agentd) endOne(ctx context.Context, j storage.Job) error {
	var p gracePayload
	err := json.Unmarshal(j.Payload, &p)
	if err != nil || p.Agent == "" || p.Tenant == "" {
		d.Log.ErrorContext(ctx, "grace job cannot be read and is dropped", "job", j.ID, "err", err)
		return d.finish(ctx, j)
	}
	k := storage.AgentKey{Tenant: p.Tenant, ID: p.Agent}
	if _, err = d.giveBack(ctx, k); err == nil {
		if j.ID != GraceJob(k) { // the decision removed the job of the right name, not this one
			return d.finish(ctx, j)
		}
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // claimed again after the lease
	}
	pause := backoff(j.Attempt, firstBackoff, maxBackoff)
	d.Log.WarnContext(ctx, "grace job failed", "agent", k.ID, "attempt", j.Attempt, "err", err, "pause", pause)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.Store.RetryJob(ctx, j, d.Now().UTC().Add(pause)); err != nil {
		return fmt.Errorf("retry job %s: %w", j.ID, err)
	}
	return nil
}

func (d *Agentd) finish(ctx context.Context, j storage.Job) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.Store.FinishJob(ctx, j); err != nil {
		return fmt.Errorf("finish job %s: %w", j.ID, err)
	}
	return nil
}

// gatherStrays is the net under the jobs: what a disabled agent holds goes back at once, and what
// an agent holds who has been away for more than the grace while this process watched. The latter
// happens when an accept was taken in after the grace had already ended, or through
// the HTTP API without a desk being connected. A failure is tried again later
// and keeps nobody else waiting. moved is true when something was given back.
func (d *Agentd) gatherStrays(ctx context.Context, agents []chat.Agent) (moved bool) {
	now := d.Now()
	seen := map[storage.AgentKey]time.Time{}
	for _, a := range agents {
		if a.Load == 0 || a.Reachable && !a.Disabled {
			continue
		}
		k := storage.AgentKey{Tenant: a.Tenant, ID: a.ID}
		since, known := d.strays[k]
		patience := d.Grace + strayAfter
		if a.Disabled {
			patience = strayAfter // between tries; the first one is at once
		}
		if !known {
			since = now
		}
		if a.Disabled && !known || now.Sub(since) >= patience {
			n, err := d.giveBack(ctx, k)
			if err != nil && ctx.Err() == nil {
				d.Log.WarnContext(ctx, "stray conversations not given back", "agent", k.ID, "err", err)
			}
			moved = moved || n > 0
			since = now
		}
		seen[k] = since
	}
	d.strays = seen
	return moved
}

// giveBack puts what an agent holds back into the queue, if it is so decided
// under the lock, and says how many conversations that were.
func (d *Agentd) giveBack(ctx context.Context, k storage.AgentKey) (int, error) {
	total := 0
	for {
		n, more, err := giveBackSome(ctx, d.Store, k, d.actor, d.Grace, d.Now().UTC())
		if err != nil {
			return total, fmt.Errorf("give back what %s holds: %w", k.ID, err)
		}
		if n > 0 {
			total += n
			d.requeued.Add(uint64(n))
			d.Log.InfoContext(ctx, "conversations given back", "agent", k.ID, "conversations", n)
			d.tellBridge(ctx)
		}
		if !more || n == 0 {
			return total, nil
		}
	}
}

// giveBackSome is one transaction of giving back; more says that there may be others to move.
func giveBackSome(ctx context.Context, s storage.Store, k storage.AgentKey, actor string, grace time.Duration, now time.Time) (n int, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	held, err := s.Conversations(ctx, storage.ConversationQuery{
		Tenant: k.Tenant, States: []chat.State{chat.Held}, Holder: k.ID, Limit: returnBatch,
	})
	if err != nil {
		return 0, false, err
	}
	more = len(held) == returnBatch
	scope := storage.Scope{
		Accounts:        []chat.Account{accountOf(k)},
		ConversationsOf: k.Tenant,
		Agents:          []storage.AgentKey{k},
	}
	for _, c := range held {
		scope.Conversations = append(scope.Conversations, c.ID)
	}
	err = s.Transact(ctx, scope, func(u *storage.Unit) (err error) {
		n, err = giveBack(u, k, scope.Conversations, !more, actor, grace, now)
		return err
	})
	return n, more, err
}

// giveBack decides under the lock. An agent who is reachable again keeps
// everything and the job is gone; one whose grace is not over is looked at again when it
// is; otherwise each conversation goes back to wait, its waiting time kept. The
// job ends in the transaction that gives back the last of them, so a crash
// leaves it due, and doing it again moves nothing twice.
//
// The session rows are locked with the account, so neither a desk that comes
// back nor one that leaves once more can slip in between.
func giveBack(u *storage.Unit, k storage.AgentKey, held []chat.ConversationID, last bool, actor string, grace time.Duration, now time.Time) (int, error) {
	job := GraceJob(k)
	a, err := u.Agent(k)
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return 0, err
	}
	why := "unknown agent"
	switch {
	case a == nil:
	case a.Disabled:
		why = "disabled"
	default:
		up, changed := lastSeen(u.Sessions(accountOf(k)))
		if up || a.Reachable {
			u.Cancel(job)
			return 0, nil
		}
		if over := changed.Add(grace); now.Before(over) {
			u.Schedule(newGraceJob(k, over))
			return 0, nil
		}
		why = "unreachable"
	}
	n := 0
	for _, id := range held {
		c, err := u.Conversation(id)
		if err != nil || c.State != chat.Held || c.Holder != k.ID {
			continue // resolved, given back or taken over meanwhile
		}
		if err := c.Requeue(); err != nil {
			return 0, err
		}
		u.Touch(c)
		u.TellHead(c, k.ID, now)
		u.Audit(storage.Audit{
			Tenant: k.Tenant, At: now, Actor: actor, Action: "requeue", Object: string(c.ID),
			Detail: "agent=" + k.ID + " reason=" + why,
		})
		n++
	}
	if last {
		u.Cancel(job)
	}
	return n, nil
}

// lastSeen reports whether a session is up, and else when the last one ended;
// the zero time when there never was one.
func lastSeen(sessions []storage.Session) (up bool, changed time.Time) {
	for _, s := range sessions {
		up = up || s.Up
		if s.Changed.After(changed) {
			changed = s.Changed
		}
	}
	return up, changed
}

func newGraceJob(k storage.AgentKey, at time.Time) storage.Job {
	payload, err := json.Marshal(gracePayload{k.Tenant, k.ID})
	if err != nil {
		panic(err) // two strings: cannot happen
	}
	return storage.Job{ID: GraceJob(k), Kind: GraceKind, At: at, Payload: payload}
}

func accountOf(k storage.AgentKey) chat.Account {
	return chat.Account{Tenant: k.Tenant, Role: chat.AgentRole, Subject: k.ID}
}
