package bridge

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// decision is what a group of items comes to. It is a pure function of the Unit
// and the items: when storage runs it again it comes to the same.
type decision struct {
	u     *storage.Unit
	grace time.Duration

	assign     bool // agentd has something to look at
	refused    map[chat.Reason]uint64
	duplicates uint64
	told       []chat.Inbox
	// here are the accounts whose presence changed in this group: the Unit lists
	// only those that were up on a node before it.
	here []chat.Account
}

// decide takes the items in their order. A panic is a mistake of ours about one
// of the items; it must cost that one, not the partition.
func decide(u *storage.Unit, items []*item, grace time.Duration) (d *decision, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", storage.ErrPermanent, r, debug.Stack())
		}
	}()
	d = &decision{u: u, grace: grace, refused: map[chat.Reason]uint64{}}
	for _, it := range items {
		switch it.deed {
		case toRefuse:
			d.refuse(it, it.refusal)
		case toSay, toCommand:
			if err := d.act(it); err != nil {
				if _, ok := chat.ReasonOf(err); !ok {
					return nil, err
				}
				d.refuse(it, chat.Refuse(it.id(), err))
			}
		case toPresence:
			d.presence(it)
		case toNodeStart:
			d.nodeStart(it)
		}
	}
	d.told = u.Told()
	return d, nil
}

// refuse tells the sender, numbered like everything else, that an item was
// not taken and why.
func (d *decision) refuse(it *item, r chat.Refusal) {
	d.refused[r.Reason]++
	d.u.Tell(it.account().Inbox(), chat.RefusedEvent(r, it.at()), it.at())
	if it.deed == toCommand {
		d.audit(it, "refuse "+string(it.command.Do), it.command.Conversation, "reason="+string(r.Reason))
	}
}

// act does what was said or commanded, once for ever: a repeat changes nothing,
// and its sender is told what became of it the first time. (An entry that is read
// again, after a crash of the journal say, is no repeat: nobody sent it again.)
// Nothing in the Unit is changed when it returns an error.
func (d *decision) act(it *item) error {
	hash, named := it.say.Hash(), it.say.Conversation
	if it.deed == toCommand {
		hash, named = it.command.Hash(), it.command.Conversation
	}
	key := it.said()
	if first, ok := d.u.Said(key); ok {
		if first.Hash != hash || named != "" && named != first.Conversation {
			return fmt.Errorf("%w: id %q was used before for something else; a new message needs a new id", chat.ErrConflict, key.ID)
		}
		d.duplicates++
		if storage.Time(storage.Millis(it.at())).After(first.At) {
			d.u.Tell(it.account().Inbox(), chat.DoneEvent(key.ID, first.Conversation, first.Seq, first.At), it.at())
		}
		return nil
	}
	var done storage.Said
	var err error
	switch {
	case it.deed == toCommand:
		done, err = d.command(it)
	case it.account().Role == chat.AgentRole:
		done, err = d.agentSays(it)
	default:
		done, err = d.customerSays(it)
	}
	if err != nil {
		return err
	}
	done.Hash = hash
	d.u.Remember(key, done, it.at())
	return nil
}

// customerSays puts a message into the conversation it names, or into the
// customer's open one, or into a new one.
func (d *decision) customerSays(it *item) (storage.Said, error) {
	a, at := it.account(), it.at()
	open := d.u.Open(a)
	c, change := open, ""
	switch named := it.say.Conversation; {
	case named != "":
		var err error
		if c, err = d.u.Conversation(named); err != nil {
			return storage.Said{}, err
		}
		if err := chat.May(a, chat.VerbSpeak, c); err != nil {
			return storage.Said{}, err
		}
		if c.IsOpen() {
			break
		}
		if open != nil { // a customer has one open conversation at most
			return storage.Said{}, fmt.Errorf("%w: conversation %s is resolved and %s is open; answer there", chat.ErrClosed, c.ID, open.ID)
		}
		if err := c.Reopen(at); err != nil {
			return storage.Said{}, err
		}
		change = "reopen"
	case c == nil:
		c, change = chat.Open(it.fresh, a, "", chat.DefaultQueue, at), "open"
	}
	c.CustomerName = cmp.Or(d.u.Account(a).Name, c.CustomerName, a.Subject) // as the newest token calls the customer
	done := d.add(it, c, c.CustomerName)
	if change != "" {
		d.u.TellHead(c, "", at)
		d.audit(it, change, c.ID, fmt.Sprintf("queue=%s episode=%d", c.Queue, c.Episode))
		d.assign = true
	}
	return done, nil
}

// add numbers what was said, stores it and tells everybody who is owed it.
func (d *decision) add(it *item, c *chat.Conversation, name string) storage.Said {
	m := c.Number(it.account(), name, it.say, it.at())
	d.u.Touch(c)
	d.u.Add(m)
	d.u.TellMessage(c, m)
	return storage.Said{Conversation: c.ID, Seq: m.Seq}
}

// agentSays adds an answer, if the agent owns the conversation under the epoch
// that the answer was written under.
func (d *decision) agentSays(it *item) (storage.Said, error) {
	agent, c, err := d.agentAnd(it, chat.VerbSpeak)
	if err != nil {
		return storage.Said{}, err
	}
	if err := c.Owned(agent.ID, it.say.Epoch); err != nil {
		return storage.Said{}, err
	}
	confirmed := c.Accepted
	done := d.add(it, c, agentName(agent))
	if !confirmed {
		d.u.TellHead(c, "", it.at()) // an answer confirms
	}
	return done, nil
}

// command does what an agent does to a conversation.
func (d *decision) command(it *item) (storage.Said, error) {
	cmd, at := it.command, it.at()
	verb := map[chat.Action]chat.Verb{
		chat.ActAccept: chat.VerbAccept, chat.ActRelease: chat.VerbRelease, chat.ActResolve: chat.VerbResolve,
	}[cmd.Do]
	agent, c, err := d.agentAnd(it, verb)
	if err != nil {
		return storage.Said{}, err
	}
	epoch, confirmed := c.Epoch, c.Accepted
	if cmd.Do == chat.ActAccept {
		err = c.Accept(agent.ID, agentName(agent)) // whatever the agent's capacity: a person decided
	} else if err = c.Owned(agent.ID, cmd.Epoch); err == nil {
		if cmd.Do == chat.ActRelease {
			err = c.Requeue()
		} else {
			err = c.Resolve(at)
		}
	}
	if err != nil {
		return storage.Said{}, err
	}
	if c.Epoch != epoch { // the owner changed
		if cmd.Do == chat.ActAccept {
			agent.Load++
			agent.IdleSince = at
			d.u.Update(agent)
		} else {
			agent.Load--
		}
		d.assign = true
	}
	if c.Epoch != epoch || c.Accepted != confirmed {
		d.u.Touch(c)
		d.u.TellHead(c, agent.ID, at)
	}
	d.u.Tell(it.account().Inbox(), chat.DoneEvent(cmd.ID, c.ID, 0, at), at)
	d.audit(it, string(cmd.Do), c.ID, fmt.Sprintf("epoch=%d", c.Epoch))
	return storage.Said{Conversation: c.ID}, nil
}

// agentAnd returns who acts and on what, if that is allowed at all. A token is
// not enough: the agent must be on the staff, and not disabled.
func (d *decision) agentAnd(it *item, do chat.Verb) (*chat.Agent, *chat.Conversation, error) {
	agent, err := d.u.Agent(it.agent())
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return nil, nil, fmt.Errorf("%w: %s is not an agent here", chat.ErrForbidden, it.account().Subject)
	case err != nil:
		return nil, nil, err
	case agent.Disabled:
		return nil, nil, fmt.Errorf("%w: agent %s is disabled", chat.ErrForbidden, agent.ID)
	}
	c, err := d.u.Conversation(it.conversation())
	if err != nil {
		return nil, nil, err
	}
	return agent, c, chat.May(it.account(), do, c)
}

func agentName(a *chat.Agent) string { return cmp.Or(a.Name, a.ID) }

func (d *decision) audit(it *item, action string, c chat.ConversationID, detail string) {
	d.u.Audit(storage.Audit{
		Tenant: it.account().Tenant, At: it.at(), Actor: it.account().String(), Action: action, Object: string(c), Detail: detail,
	})
}

// presence notes that a session came or went.
func (d *decision) presence(it *item) {
	p, a := it.presence, it.account()
	d.here = append(d.here, a)
	for _, s := range d.u.Sessions(a) {
		if s.Client == it.source.Client && s.Epoch == p.Epoch && it.at().Before(s.Changed) {
			return // an entry that is read again; what came after it is known
		}
	}
	if p.Up {
		d.u.Named(a, p.Name, it.at())
	}
	d.put(storage.Session{Account: a, Client: it.source.Client, Node: p.Node, Epoch: p.Epoch, Up: p.Up, Changed: it.at()})
}

// nodeStart takes down every session that was up on a node that has started
// since. A session that came up later is not meant.
func (d *decision) nodeStart(it *item) {
	seen := map[chat.Account]bool{}
	for _, list := range [][]chat.Account{d.u.On(it.node()), d.here} {
		for _, a := range list {
			if seen[a] || a.Slot().Partition() != it.entry.Partition {
				continue
			}
			seen[a] = true
			var down []storage.Session
			for _, s := range d.u.Sessions(a) {
				if s.Up && s.Node == it.source.Node && !s.Changed.After(it.at()) {
					s.Up, s.Changed = false, it.at()
					down = append(down, s)
				}
			}
			for _, s := range down {
				d.put(s)
			}
		}
	}
}

// put writes a session and starts or ends the grace of an agent whose last
// session went or whose first came.
func (d *decision) put(s storage.Session) {
	before := d.isUp(s.Account)
	if !d.u.PutSession(s) || s.Account.Role != chat.AgentRole {
		return
	}
	after := d.isUp(s.Account)
	if before == after {
		return
	}
	d.assign = true
	job := "grace:" + string(s.Account.Tenant) + "/" + s.Account.Subject
	d.u.Cancel(job)
	if after {
		return
	}
	payload, _ := json.Marshal(map[string]string{ // strings only: cannot fail
		"tenant": string(s.Account.Tenant), "agent": s.Account.Subject,
	})
	d.u.Schedule(storage.Job{ID: job, Kind: "grace", At: s.Changed.Add(d.grace), Payload: payload})
}

func (d *decision) isUp(a chat.Account) bool {
	for _, s := range d.u.Sessions(a) {
		if s.Up {
			return true
		}
	}
	return false
}
