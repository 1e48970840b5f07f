package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// Transact runs one transaction: see storage.Scope.
func (s *Store) Transact(ctx context.Context, scope storage.Scope, decide func(*storage.Unit) error) error {
	scope, err := scope.Ordered()
	if err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock() // decide may panic
	if err := s.fence(scope); err != nil {
		return err
	}
	u := storage.NewUnit(s.load(scope))
	if err := decide(u); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := u.Changes()
	if err := c.Storable(); err != nil {
		return err
	}
	if err := s.unique(c); err != nil {
		return err
	}
	for _, a := range scope.Advance {
		s.positions[a.Partition] = a.To
	}
	for _, a := range scope.Accounts {
		if _, ok := s.accounts[a]; !ok {
			s.accounts[a] = storage.Account{Account: a}
		}
	}
	s.write(c)
	return nil
}

func (s *Store) fence(scope storage.Scope) error {
	for _, a := range scope.Advance {
		if !s.holds(a.Lease) || s.positions[a.Partition] != a.From {
			return fmt.Errorf("partition %d: %w", a.Partition, storage.ErrFenced)
		}
	}
	for _, l := range scope.Leases {
		if !s.holds(l) {
			return fmt.Errorf("lease %s: %w", l.Name, storage.ErrFenced)
		}
	}
	return nil
}

// load copies what the scope names, so that a transaction that fails changes nothing.
func (s *Store) load(scope storage.Scope) storage.Loaded {
	l := storage.Loaded{
		Accounts: map[chat.Account]*storage.Account{}, Said: map[storage.SaidKey]storage.Said{},
		Conversations: map[chat.ConversationID]*chat.Conversation{}, Agents: map[storage.AgentKey]*chat.Agent{},
		Sessions: map[chat.Account][]storage.Session{}, Nodes: map[storage.NodeKey][]chat.Account{},
		Missing: map[chat.ConversationID]bool{},
	}
	accounts := slices.Clone(scope.Accounts)
	for _, k := range scope.Nodes {
		l.Nodes[k] = s.on(k)
		accounts = append(accounts, l.Nodes[k]...)
	}
	for _, a := range accounts {
		row, ok := s.accounts[a]
		if !ok {
			row.Account = a
		}
		l.Accounts[a] = &row
		l.Sessions[a] = s.sessionsOf(a)
	}
	for _, k := range scope.Said {
		if was, ok := s.said[k]; ok {
			l.Said[k] = was
		}
	}
	for _, id := range scope.Conversations {
		if c, ok := s.conversations[headKey{scope.ConversationsOf, id}]; ok {
			l.Conversations[id] = &c
		} else {
			l.Missing[id] = true
		}
	}
	for _, c := range s.conversations {
		if _, ok := l.Accounts[c.Customer]; ok && c.IsOpen() && l.Conversations[c.ID] == nil {
			l.Conversations[c.ID] = &c
		}
	}
	for _, k := range scope.Agents {
		if c, ok := s.agents[k]; ok {
			a := s.present(c.Agent)
			l.Agents[k] = &a
		}
	}
	return l
}

// on lists the accounts of a partition that have a session up on a node.
func (s *Store) on(k storage.NodeKey) []chat.Account {
	list := []chat.Account{}
	for a, sessions := range s.sessions {
		if a.Slot().Partition() != k.Partition {
			continue
		}
		for _, x := range sessions {
			if x.Up && x.Node == k.Node {
				list = append(list, a)
				break
			}
		}
	}
	slices.SortFunc(list, storage.CompareAccounts)
	return list
}

// present adds to an agent what is derived.
func (s *Store) present(a chat.Agent) chat.Agent {
	a.Load = 0
	for _, c := range s.conversations {
		if c.Tenant == a.Tenant && c.State == chat.Held && c.Holder == a.ID {
			a.Load++
		}
	}
	a.Reachable = slices.ContainsFunc(s.sessionsOf(a.Account()), func(x storage.Session) bool { return x.Up })
	return a
}

// unique refuses what a unique index would.
func (s *Store) unique(c storage.Changes) error {
	said := map[storage.SaidKey]bool{}
	for _, n := range c.Said {
		if _, ok := s.said[n.Key]; ok || said[n.Key] {
			return fmt.Errorf("%w: %w: %s said %q before", storage.ErrPermanent, chat.ErrConflict, n.Key.Account, n.Key.ID)
		}
		said[n.Key] = true
	}
	open := map[chat.Account]chat.ConversationID{}
	changed := map[headKey]bool{}
	for _, h := range c.Conversations {
		k := headKey{h.Tenant, h.ID}
		if have, ok := s.conversations[k]; ok && have.Customer != h.Customer {
			return fmt.Errorf("%w: conversation %s is another customer's", storage.ErrPermanent, h.ID)
		}
		changed[k] = true
	}
	for k, h := range s.conversations {
		if h.IsOpen() && !changed[k] {
			open[h.Customer] = h.ID
		}
	}
	for _, h := range c.Conversations {
		if !h.IsOpen() {
			continue
		}
		if other, ok := open[h.Customer]; ok {
			return fmt.Errorf("%w: %w: %s has conversation %s open", storage.ErrPermanent, chat.ErrConflict, h.Customer, other)
		}
		open[h.Customer] = h.ID
	}
	return nil
}

func (s *Store) write(c storage.Changes) {
	for _, a := range c.Accounts {
		row := *a
		row.Seen = stored(row.Seen)
		s.accounts[a.Account] = row
	}
	for _, h := range c.Conversations {
		head := *h
		for _, t := range []*time.Time{&head.LastAt, &head.Opened, &head.Since, &head.Resolved} {
			*t = stored(*t)
		}
		s.conversations[headKey{h.Tenant, h.ID}] = head
	}
	for _, m := range c.Messages {
		m.At = stored(m.At)
		k := headKey{m.Tenant, m.Conversation}
		s.messages[k] = append(s.messages[k], m)
	}
	for _, n := range c.Said {
		s.said[n.Key] = n.Said
	}
	for _, a := range c.Agents {
		k := storage.AgentKey{Tenant: a.Tenant, ID: a.ID}
		if row, ok := s.agents[k]; ok {
			row.Agent.Intent, row.Agent.IdleSince = a.Intent, stored(a.IdleSince)
			s.agents[k] = row
		}
	}
	for _, x := range c.Sessions {
		x.Changed = stored(x.Changed)
		if s.sessions[x.Account] == nil {
			s.sessions[x.Account] = map[string]storage.Session{}
		}
		s.sessions[x.Account][x.Client] = x
	}
	for _, id := range c.Cancelled {
		delete(s.jobs, id)
	}
	for _, j := range c.Jobs {
		j.At, j.Attempt, j.Claim, j.Payload = stored(j.At), 0, 0, slices.Clone(j.Payload)
		s.jobs[j.ID] = job{Job: j, hidden: j.At}
	}
	for _, a := range c.Audit {
		a.At = stored(a.At)
		s.audit = append(s.audit, a)
	}
	for _, e := range c.Events {
		i := s.inboxes[e.Inbox]
		if i == nil {
			i = &inbox{}
			s.inboxes[e.Inbox] = i
		}
		i.last++
		e.N, e.At, e.Body = i.last, stored(e.At), slices.Clone(e.Body)
		i.events = append(i.events, event{Event: e})
	}
}

func (s *Store) sessionsOf(a chat.Account) []storage.Session {
	list := make([]storage.Session, 0, len(s.sessions[a]))
	list = slices.AppendSeq(list, maps.Values(s.sessions[a]))
	slices.SortFunc(list, func(a, b storage.Session) int { return strings.Compare(a.Client, b.Client) })
	return list
}
