package agentd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdline/chat"
	"holdline/storage"
)

const (
	groupSize = 16 // assignments of one transaction: few, so that its locks are short
	maxGroups = 64 // of one round; what is left then waits for the next one
)

// deal gives waiting conversations to agents until nobody waits or nobody may
// take one more. again is true when somebody else was faster and it is worth
// looking again.
func (d *Agentd) deal(ctx context.Context, agents []chat.Agent) (again bool, err error) {
	for range maxGroups {
		waiting, err := d.waiting(ctx)
		if err != nil {
			return false, err
		}
		p := planFor(waiting, agents, d.Now().UTC())
		if len(p) == 0 {
			return false, nil
		}
		var given []gift
		err = d.transact(ctx, p.scope(d.Tenant), func(u *storage.Unit) (err error) {
			given, err = assign(u, d.Tenant, p, d.actor, d.Now().UTC())
			return err
		})
		if errors.Is(err, chat.ErrConflict) && !errors.Is(err, storage.ErrPermanent) {
			d.lost.Add(uint64(len(p)))
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("assign %d: %w", len(p), err)
		}
		d.assigned.Add(uint64(len(given)))
		d.lost.Add(uint64(len(p) - len(given)))
		for _, g := range given {
			d.Log.InfoContext(ctx, "conversation assigned", "conversation", g.conversation, "agent", g.agent, "waited", g.waited)
		}
		d.tellBridge(ctx)
		if agents, err = d.agents(ctx); err != nil {
			return false, err
		}
	}
	return true, nil
}

// waiting is the head of the queue.
func (d *Agentd) waiting(ctx context.Context) ([]*chat.Conversation, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := d.Store.Conversations(ctx, storage.ConversationQuery{
		Tenant: d.Tenant, States: []chat.State{chat.Waiting}, Limit: groupSize,
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, chat.CompareWaiting)
	if len(list) == 0 {
		d.oldest.Store(0)
	} else {
		d.oldest.Store(list[0].Since.UnixMicro())
	}
	return list, nil
}

// plan is what should happen by what was read without a lock.
type plan []pair

type pair struct {
	conversation chat.ConversationID
	agent        string
	candidates   int // who might have got it
}

// gift is an assignment that was made.
type gift struct {
	conversation chat.ConversationID
	agent        string
	waited       time.Duration
}

// planFor picks an agent for each conversation in turn, counting what it has
// planned as if it were done. It ends where nobody may take one more.
func planFor(waiting []*chat.Conversation, agents []chat.Agent, now time.Time) plan {
	agents = slices.Clone(agents)
	var p plan
	for _, c := range waiting {
		best, ok := chat.Pick(agents)
		if !ok {
			break
		}
		candidates := 0
		for i := range agents {
			if agents[i].MayTake() {
				candidates++
			}
		}
		i := slices.IndexFunc(agents, func(a chat.Agent) bool { return a.ID == best.ID })
		agents[i].Load++
		agents[i].IdleSince = now
		p = append(p, pair{c.ID, best.ID, candidates})
	}
	return p
}

// scope names what the plan touches, and nothing else, so that two processes
// hinder each other only where they want the same.
func (p plan) scope(t chat.Tenant) storage.Scope {
	s := storage.Scope{ConversationsOf: t}
	for _, w := range p {
		s.Conversations = append(s.Conversations, w.conversation)
		if k := (storage.AgentKey{Tenant: t, ID: w.agent}); !slices.Contains(s.Agents, k) {
			s.Agents = append(s.Agents, k)
		}
	}
	return s
}

// assign decides under the lock. The plan says which conversations and which
// agents are at hand; who gets what is picked anew from how they are now, so a
// plan that is out of date costs a turn and never a promise. When nothing of it can
// be done any more, assign returns chat.ErrConflict.
func assign(u *storage.Unit, t chat.Tenant, p plan, actor string, now time.Time) ([]gift, error) {
	var waiting []*chat.Conversation
	agents := map[string]*chat.Agent{}
	candidates := map[chat.ConversationID]int{}
	for _, w := range p {
		if c, err := u.Conversation(w.conversation); err == nil && c.State == chat.Waiting {
			waiting = append(waiting, c)
			candidates[c.ID] = w.candidates
		}
		if a, err := u.Agent(storage.AgentKey{Tenant: t, ID: w.agent}); err == nil {
			agents[w.agent] = a
		}
	}
	slices.SortFunc(waiting, chat.CompareWaiting)
	var given []gift
	for _, c := range waiting {
		present := make([]chat.Agent, 0, len(agents))
		for _, a := range agents {
			present = append(present, *a)
		}
		best, ok := chat.Pick(present)
		if !ok {
			break
		}
		a := agents[best.ID]
		if err := c.Assign(a.ID, a.Name); err != nil {
			return nil, err
		}
		a.Load++
		a.IdleSince = now
		u.Touch(c)
		u.Update(a)
		u.TellHead(c, "", now)
		u.Audit(storage.Audit{
			Tenant: t, At: now, Actor: actor, Action: "assign", Object: string(c.ID),
			Detail: fmt.Sprintf("agent=%s load=%d candidates=%d", a.ID, a.Load, candidates[c.ID]),
		})
		given = append(given, gift{c.ID, a.ID, now.Sub(c.Since)})
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("%w: nothing of the plan can be done any more", chat.ErrConflict)
	}
	return given, nil
}
