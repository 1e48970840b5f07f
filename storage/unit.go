package storage

import (
	"fmt"
	"time"

	"holdline/chat"
)

// Unit is one transaction in memory: what the Scope loaded, and what was
// decided. Engines fill Loaded, run decide, and write Changes; the Unit in
// between is the same for all of them.
//
// A Unit is used by one goroutine. Asking for what the Scope did not name
// panics: that is a mistake in the caller, and would be a missing lock.
type Unit struct {
	loaded  Loaded
	changes Changes
	open    map[chat.Account]chat.ConversationID
	touched map[chat.ConversationID]bool
	seqs    map[chat.ConversationID]uint64 // of the heads as they were loaded
}

// Loaded is what an engine read under its locks.
type Loaded struct {
	Accounts      map[chat.Account]*Account
	Said          map[SaidKey]Said
	Conversations map[chat.ConversationID]*chat.Conversation
	Agents        map[AgentKey]*chat.Agent
	Sessions      map[chat.Account][]Session
	Nodes         map[NodeKey][]chat.Account
	// Missing are the named conversations that do not exist.
	Missing map[chat.ConversationID]bool
}

// Account is the row of an account.
type Account struct {
	Account chat.Account
	Name    string // as the newest token called it
	Seen    time.Time
}

// NewUnit starts a unit on what was loaded. Only engines call it.
func NewUnit(l Loaded) *Unit {
	u := &Unit{loaded: l, open: map[chat.Account]chat.ConversationID{}, touched: map[chat.ConversationID]bool{}, seqs: map[chat.ConversationID]uint64{}}
	for id, c := range l.Conversations {
		u.seqs[id] = c.Seq
		if c.IsOpen() {
			u.open[c.Customer] = id
		}
	}
	return u
}

// Changes is what was decided. Only engines call it, once, after decide.
func (u *Unit) Changes() Changes {
	for id := range u.touched {
		u.changes.Conversations = append(u.changes.Conversations, u.loaded.Conversations[id])
	}
	u.changes.tidy()
	u.changes.gap = u.gap()
	return u.changes
}

// gap returns an error unless the messages follow the last one of their
// conversation without a gap, and its head will say so. It holds for engines that
// cannot have a unique index on (conversation, seq), too.
func (u *Unit) gap() error {
	last := map[chat.ConversationID]uint64{}
	for _, m := range u.changes.Messages {
		if _, ok := last[m.Conversation]; !ok {
			last[m.Conversation] = u.seqs[m.Conversation]
		}
		if last[m.Conversation]++; m.Seq != last[m.Conversation] || !u.touched[m.Conversation] {
			return fmt.Errorf("%w: %w: message %d does not follow in conversation %s", ErrPermanent, chat.ErrConflict, m.Seq, m.Conversation)
		}
	}
	for id, seq := range last {
		if head := u.loaded.Conversations[id].Seq; head != seq {
			return fmt.Errorf("%w: %w: conversation %s is at %d with messages up to %d", ErrPermanent, chat.ErrConflict, id, head, seq)
		}
	}
	return nil
}

// Account returns an account of the Scope.
func (u *Unit) Account(a chat.Account) *Account {
	r, ok := u.loaded.Accounts[a]
	if !ok {
		panic(fmt.Sprintf("storage: account %s is not in the scope", a))
	}
	return r
}

// Named notes how an account is called now, when that is news. An empty name keeps the old one.
func (u *Unit) Named(a chat.Account, name string, now time.Time) {
	r := u.Account(a)
	if name == "" || r.Name == name {
		return
	}
	r.Name, r.Seen = name, now
	u.changes.Accounts = append(u.changes.Accounts, r)
}

// Said returns what became of an id the first time.
func (u *Unit) Said(k SaidKey) (Said, bool) {
	s, ok := u.loaded.Said[k]
	return s, ok
}

// Remember makes the id of something said permanent.
func (u *Unit) Remember(k SaidKey, s Said, at time.Time) {
	s.At = Time(Millis(at))
	u.loaded.Said[k] = s
	u.changes.Said = append(u.changes.Said, NewSaid{k, s, at})
}

// Conversation returns a head of the Scope to read and change; chat.ErrNotFound
// when there is no such conversation. Call Touch after changing it.
func (u *Unit) Conversation(id chat.ConversationID) (*chat.Conversation, error) {
	if c, ok := u.loaded.Conversations[id]; ok {
		return c, nil
	}
	if !u.loaded.Missing[id] {
		panic(fmt.Sprintf("storage: conversation %s is not in the scope", id))
	}
	return nil, fmt.Errorf("%w: conversation %s", chat.ErrNotFound, id)
}

// Open returns the open conversation of a customer in the Scope, nil when there is none.
func (u *Unit) Open(customer chat.Account) *chat.Conversation {
	u.Account(customer)
	if id, ok := u.open[customer]; ok {
		return u.loaded.Conversations[id]
	}
	return nil
}

// Touch notes that the head changed (or is new) and will be written.
func (u *Unit) Touch(c *chat.Conversation) {
	u.loaded.Conversations[c.ID] = c
	u.touched[c.ID] = true
	if c.IsOpen() {
		u.open[c.Customer] = c.ID
	} else if u.open[c.Customer] == c.ID {
		delete(u.open, c.Customer)
	}
}

// Add stores a numbered message of a conversation that is touched, too. Its
// seq must be the next one.
func (u *Unit) Add(m chat.Message) { u.changes.Messages = append(u.changes.Messages, m) }

// Tell appends an event to an inbox; its number is taken at the commit.
func (u *Unit) Tell(i chat.Inbox, e chat.Event, at time.Time) {
	u.changes.Events = append(u.changes.Events, Event{Inbox: i, Body: e.Body(), At: at})
}

// Told lists the inboxes that events were appended to, each once.
func (u *Unit) Told() []chat.Inbox {
	var told []chat.Inbox
	seen := map[chat.Inbox]bool{}
	for _, e := range u.changes.Events {
		if !seen[e.Inbox] {
			seen[e.Inbox] = true
			told = append(told, e.Inbox)
		}
	}
	return told
}

// Agent returns an agent of the Scope to read and change; chat.ErrNotFound
// when there is none. Call Update after changing it. Load is what the agent held at the
// time of the lock; who assigns in this Unit adds to it.
func (u *Unit) Agent(k AgentKey) (*chat.Agent, error) {
	if a, ok := u.loaded.Agents[k]; ok {
		return a, nil
	}
	return nil, fmt.Errorf("%w: agent %s", chat.ErrNotFound, k.ID)
}

// Update notes that Intent or IdleSince of an agent changed.
func (u *Unit) Update(a *chat.Agent) {
	for _, have := range u.changes.Agents {
		if have == a {
			return
		}
	}
	u.changes.Agents = append(u.changes.Agents, a)
}

// Sessions returns the sessions of an account in the Scope.
func (u *Unit) Sessions(a chat.Account) []Session {
	u.Account(a)
	return u.loaded.Sessions[a]
}

// On returns the accounts that had a session up on a node of the Scope.
func (u *Unit) On(k NodeKey) []chat.Account { return u.loaded.Nodes[k] }

// PutSession writes a session as it is now. An older epoch than the known one
// changes nothing, but for a session that came up later than what is known: epochs
// are counted in the journal, and one that was lost counts from the beginning again.
func (u *Unit) PutSession(s Session) (changed bool) {
	list := u.loaded.Sessions[s.Account]
	for i := range list {
		if list[i].Client == s.Client {
			if anew := s.Up && s.Changed.After(list[i].Changed); s.Epoch < list[i].Epoch && !anew {
				return false
			}
			list[i] = s
			u.changes.Sessions = append(u.changes.Sessions, s)
			return true
		}
	}
	u.loaded.Sessions[s.Account] = append(list, s)
	u.changes.Sessions = append(u.changes.Sessions, s)
	return true
}

// Schedule writes a job, replacing one with the same id; Cancel removes it.
func (u *Unit) Schedule(j Job) { u.changes.Jobs = append(u.changes.Jobs, j) }

// Cancel removes a job that is no longer wanted; a missing one is no error.
func (u *Unit) Cancel(id string) {
	kept := u.changes.Jobs[:0]
	for _, j := range u.changes.Jobs {
		if j.ID != id {
			kept = append(kept, j)
		}
	}
	u.changes.Jobs = kept
	u.changes.Cancelled = append(u.changes.Cancelled, id)
}

// Audit adds a line to the audit trail.
func (u *Unit) Audit(a Audit) { u.changes.Audit = append(u.changes.Audit, a) }

// TellMessage tells everybody who is owed a message: the customer (all
// devices, the sender's included) and the owner, or the queue while nobody owns it.
func (u *Unit) TellMessage(c *chat.Conversation, m chat.Message) {
	e := chat.MessageEvent(m)
	u.Tell(c.Customer.Inbox(), e, m.At)
	if c.State == chat.Held {
		u.Tell(chat.Account{Tenant: c.Tenant, Role: chat.AgentRole, Subject: c.Holder}.Inbox(), e, m.At)
	} else {
		u.Tell(c.Queue.Inbox(c.Tenant), e, m.At)
	}
}

// TellHead tells everybody who is owed a change of a conversation's state or
// owner: the customer, the queue, the owner, and the former owner if there was one.
func (u *Unit) TellHead(c *chat.Conversation, former string, at time.Time) {
	u.Tell(c.Customer.Inbox(), chat.HeadEvent(c, chat.ForCustomer), at)
	e := chat.HeadEvent(c, chat.ForAgent)
	u.Tell(c.Queue.Inbox(c.Tenant), e, at)
	if c.Holder != "" {
		u.Tell(chat.Account{Tenant: c.Tenant, Role: chat.AgentRole, Subject: c.Holder}.Inbox(), e, at)
	}
	if former != "" && former != c.Holder {
		u.Tell(chat.Account{Tenant: c.Tenant, Role: chat.AgentRole, Subject: former}.Inbox(), e, at)
	}
}
