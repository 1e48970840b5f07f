// Package storagetest is the contract test of stores.
//
// Run takes every promise that package storage writes down and tries to break
// it, each on an empty store of its own: with stale leases, with forty writers
// at once, with units that fail half way. An engine that passes can stand in
// for any other; what differs between two engines belongs here before it is fixed.
//
// It does not test crashes, full disks or lost connections: those belong to
// each engine.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
	"holdline/storage"
)

// patience is how long one contract test may take: far more than any needs,
// and reached by a deadlock.
const patience = 2 * time.Minute

// Run tests a store. open returns a new, empty, migrated one; whoever opens closes it in a Cleanup.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, group := range []map[string]func(*fixture){
		fences, transactions, numbers, leases, events, jobs, conversations, agents, sessions, operators,
	} {
		names := make([]string, 0, len(group))
		for name := range group {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				group[name](&fixture{T: t, Store: open(t), ctx: ctx})
			})
		}
	}
}

// fixture is one test on one store.
type fixture struct {
	*testing.T
	storage.Store
	ctx context.Context
}

// noon is a time with nothing below the millisecond.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var (
	ada   = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	grace = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "grace"}
)

// conversationID is an id in the slot of a customer, the n-th of them.
func conversationID(customer chat.Account, n int) chat.ConversationID {
	var e [12]byte
	e[10], e[11] = byte(n>>8), byte(n)
	return chat.NewConversationID(customer.Slot(), e)
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) want(what string, got, want any) {
	f.Helper()
	if d := cmp.Diff(want, got); d != "" {
		f.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func (f *fixture) wantErr(what string, err error, want ...error) {
	f.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			f.Errorf("%s = %v, want %v", what, err, w)
		}
	}
}

func (f *fixture) transact(s storage.Scope, decide func(*storage.Unit) error) {
	f.Helper()
	f.must(f.Transact(f.ctx, s, decide))
}

// opened makes a customer's n-th conversation with one message in it.
func (f *fixture) opened(customer chat.Account, n int) chat.ConversationID {
	f.Helper()
	id := conversationID(customer, n)
	f.transact(storage.Scope{Accounts: []chat.Account{customer}}, func(u *storage.Unit) error {
		c := chat.Open(id, customer, "", chat.DefaultQueue, noon)
		u.Add(c.Number(customer, "", chat.Say{ID: "first", Kind: chat.Text, Text: "hello"}, noon))
		u.Touch(c)
		return nil
	})
	return id
}

// change loads one conversation of the tenant "main" and changes it.
func (f *fixture) change(id chat.ConversationID, by func(*chat.Conversation)) {
	f.Helper()
	f.transact(storage.Scope{ConversationsOf: "main", Conversations: []chat.ConversationID{id}}, func(u *storage.Unit) error {
		c, err := u.Conversation(id)
		if err != nil {
			return err
		}
		by(c)
		u.Touch(c)
		return nil
	})
}

// say is what a bridge does with one thing said: once per id, in the open conversation or a new one.
func (f *fixture) say(from chat.Account, say chat.Say, at time.Time) (storage.Said, error) {
	k := storage.SaidKey{Account: from, ID: say.ID}
	var result storage.Said
	err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{from}, Said: []storage.SaidKey{k}}, func(u *storage.Unit) error {
		was, ok := u.Said(k)
		if ok {
			result = was
			if was.Hash != say.Hash() {
				return chat.ErrConflict
			}
			return nil
		}
		c := u.Open(from)
		if c == nil {
			c = chat.Open(conversationID(from, int(at.UnixNano())), from, "", chat.DefaultQueue, at)
		}
		m := c.Number(from, "", say, at)
		u.Add(m)
		u.Touch(c)
		u.Remember(k, storage.Said{Hash: say.Hash(), Conversation: c.ID, Seq: m.Seq}, at)
		result, _ = u.Said(k)
		u.TellMessage(c, m)
		return nil
	})
	return result, err
}

// agent makes an agent of the tenant "main".
func (f *fixture) agent(id string) storage.AgentKey {
	f.Helper()
	f.must(f.PutAgent(f.ctx, storage.Credential{Agent: chat.Agent{Tenant: "main", ID: id, Name: id, Intent: chat.Available, Capacity: 5}, PasswordHash: "hash of " + id},
		true, storage.Audit{Tenant: "main", At: noon, Actor: "operator", Action: "create agent", Object: "agent/" + id}))
	return storage.AgentKey{Tenant: "main", ID: id}
}

// messages reads a whole conversation of the tenant "main", oldest first.
func (f *fixture) messages(id chat.ConversationID) []chat.Message {
	f.Helper()
	var all []chat.Message
	for before := uint64(0); ; {
		page, err := f.Messages(f.ctx, "main", id, before, storage.MaxMessages)
		f.must(err)
		all = append(all, page...)
		if len(page) < storage.MaxMessages {
			slices.Reverse(all)
			return all
		}
		before = page[len(page)-1].Seq
	}
}

// together runs n goroutines and returns the first error of each.
func together(n int, work func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = work(i) })
	}
	wg.Wait()
	return errs
}

func (f *fixture) allNil(errs []error) {
	f.Helper()
	for i, err := range errs {
		if err != nil {
			f.Errorf("writer %d: %v", i, err)
		}
	}
}

func customer(i int) chat.Account {
	return chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprintf("c%03d", i)}
}
