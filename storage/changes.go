package storage

import (
	"cmp"
	"slices"
	"time"

	"holdline/chat"
)

// Changes is what an engine writes: everything at most once, the last state
// of it, in an order that no unique index objects to on the way. Events keep the
// order they were told in, which is the order of their numbers.
type Changes struct {
	Accounts      []*Account           // those whose Name or Seen changed
	Conversations []*chat.Conversation // the closed ones first: a customer has one open at any time
	Messages      []chat.Message
	Said          []NewSaid
	Events        []Event // N is assigned by the engine
	Agents        []*chat.Agent
	Sessions      []Session
	Jobs          []Job    // replaces one with the same id
	Cancelled     []string // job ids, removed before Jobs are written
	Audit         []Audit

	gap error // set when the messages do not follow what is stored
}

// NewSaid is a new row of what was said.
type NewSaid struct {
	Key  SaidKey
	Said Said
	At   time.Time
}

// tidy makes of what was noted, in the order it was noted, what Changes promises.
func (c *Changes) tidy() {
	c.Accounts = last(c.Accounts, func(a *Account) chat.Account { return a.Account })
	c.Agents = last(c.Agents, func(a *chat.Agent) AgentKey { return AgentKey{a.Tenant, a.ID} })
	c.Sessions = last(c.Sessions, func(s Session) sessionKey { return sessionKey{s.Account, s.Client} })
	c.Jobs = last(c.Jobs, func(j Job) string { return j.ID })
	slices.SortFunc(c.Conversations, func(a, b *chat.Conversation) int {
		return cmp.Or(openness(a)-openness(b), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	slices.Sort(c.Cancelled)
	c.Cancelled = slices.Compact(c.Cancelled)
}

type sessionKey struct {
	account chat.Account
	client  string
}

func openness(c *chat.Conversation) int {
	if c.IsOpen() {
		return 1
	}
	return 0
}

// last keeps the last of those with the same key, in order.
func last[T any, K comparable](list []T, key func(T) K) []T {
	at := make(map[K]int, len(list))
	for i, v := range list {
		at[key(v)] = i
	}
	if len(at) == len(list) {
		return list
	}
	kept := make([]T, 0, len(at))
	for i, v := range list {
		if at[key(v)] == i {
			kept = append(kept, v)
		}
	}
	return kept
}

// Storable returns ErrPermanent when messages leave a gap, or a text among the
// changes is one that not every engine can store. What people said is kept as
// bytes, where anything goes. Only engines call it.
func (c *Changes) Storable() error {
	if c.gap != nil {
		return c.gap
	}
	for _, a := range c.Accounts {
		if err := storable("account", nil, a.Name); err != nil {
			return err
		}
	}
	for _, h := range c.Conversations {
		if err := storable("conversation",
			[]string{string(h.Tenant), string(h.ID), string(h.Customer.Role), h.Customer.Subject, string(h.Queue), h.Holder},
			h.CustomerName, h.HolderName, string(h.LastFrom)); err != nil {
			return err
		}
	}
	for _, m := range c.Messages {
		if err := storable("message", []string{string(m.Tenant), string(m.Conversation)},
			string(m.ID), string(m.From.Role), m.From.Subject, m.Name, string(m.Kind)); err != nil {
			return err
		}
	}
	for _, n := range c.Said {
		if err := storable("id", []string{string(n.Key.Account.Tenant), string(n.Key.Account.Role), n.Key.Account.Subject, string(n.Key.ID)},
			string(n.Said.Conversation)); err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		if err := storable("inbox", []string{string(e.Inbox.Tenant), e.Inbox.Kind, e.Inbox.Name}); err != nil {
			return err
		}
	}
	for _, s := range c.Sessions {
		if err := storable("session", []string{s.Client, s.Node}); err != nil {
			return err
		}
	}
	for _, j := range c.Jobs {
		if err := storable("job", []string{j.ID, j.Kind}); err != nil {
			return err
		}
	}
	for _, id := range c.Cancelled {
		if err := storable("job", []string{id}); err != nil {
			return err
		}
	}
	for _, a := range c.Audit {
		if err := storable("audit", []string{string(a.Tenant), a.Object}, a.Actor, a.Action, a.Detail); err != nil {
			return err
		}
	}
	return nil
}

// Storable is Changes.Storable for a credential and the audit line of its change.
func (c Credential) Storable(by Audit) error {
	if err := storable("audit", []string{string(by.Tenant), by.Object}, by.Actor, by.Action, by.Detail); err != nil {
		return err
	}
	return storable("agent", []string{string(c.Agent.Tenant), c.Agent.ID}, c.Agent.Name, string(c.Agent.Intent), c.PasswordHash)
}
