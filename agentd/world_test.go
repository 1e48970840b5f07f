package agentd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdline/agentd"
	"holdline/broker/journal"
	jmemory "holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
	smemory "holdline/storage/memory"
)

// world is a store and a journal, and what the bridge would do to them.
type world struct {
	t       *testing.T
	store   storage.Store
	journal journal.Journal
	open    func() storage.Store // of each agentd; store when nil
}

func newWorld(t *testing.T) *world { return worldOn(t, smemory.New()) }

func worldOn(t *testing.T, s storage.Store) *world {
	w := &world{t: t, store: s, journal: jmemory.New()}
	t.Cleanup(func() {
		w.journal.Close()
		w.store.Close()
	})
	return w
}

func key(id string) storage.AgentKey { return storage.AgentKey{Tenant: chat.DefaultTenant, ID: id} }

func account(r chat.Role, id string) chat.Account {
	return chat.Account{Tenant: chat.DefaultTenant, Role: r, Subject: id}
}

// run starts n instances of agentd that end with the test.
func (w *world) run(n int) (all []*agentd.Agentd, stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	for i := range n {
		store := w.store
		if w.open != nil {
			store = w.open()
		}
		d := agentd.New(agentd.Config{Node: fmt.Sprintf("n%d", i), Store: store, Journal: w.journal})
		all = append(all, d)
		ready := make(chan struct{})
		running.Go(func() {
			if err := d.Run(ctx, func() { close(ready) }); err != nil {
				w.t.Errorf("Run = %v, want nil at the end of its context", err)
			}
		})
		<-ready
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	w.t.Cleanup(stop)
	return all, stop
}

// hire makes an agent without the price of a password hash.
func (w *world) hire(id string, capacity int) {
	w.t.Helper()
	a := chat.Agent{Tenant: chat.DefaultTenant, ID: id, Name: "Agent " + id, Intent: chat.Available, Capacity: capacity}
	by := storage.Audit{Tenant: chat.DefaultTenant, At: time.Now(), Actor: "test", Action: "agent add", Object: id}
	if err := w.store.PutAgent(w.t.Context(), storage.Credential{Agent: a, PasswordHash: "x"}, true, by); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) transact(s storage.Scope, decide func(*storage.Unit) error) {
	w.t.Helper()
	if err := w.store.Transact(w.t.Context(), s, decide); err != nil {
		w.t.Fatal(err)
	}
}

// session does what the bridge does when a session of an agent comes or goes.
func (w *world) session(agent, client string, epoch uint64, up bool) {
	w.t.Helper()
	w.sessionAt(agent, client, epoch, up, time.Now().UTC())
}

func (w *world) sessionAt(agent, client string, epoch uint64, up bool, now time.Time) {
	w.t.Helper()
	a := account(chat.AgentRole, agent)
	w.transact(storage.Scope{Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
		u.PutSession(storage.Session{Account: a, Client: client, Node: "b", Epoch: epoch, Up: up, Changed: now})
		if slices.ContainsFunc(u.Sessions(a), func(s storage.Session) bool { return s.Up }) {
			u.Cancel("grace:main/" + agent)
			return nil
		}
		payload, _ := json.Marshal(map[string]string{"tenant": "main", "agent": agent})
		u.Schedule(storage.Job{ID: "grace:main/" + agent, Kind: "grace", At: now.Add(chat.Grace), Payload: payload})
		return nil
	})
}

// wait opens a waiting conversation of a customer.
func (w *world) wait(customer string, since time.Time) chat.ConversationID {
	w.t.Helper()
	a := account(chat.Customer, customer)
	var entropy [12]byte
	copy(entropy[:], customer)
	id := chat.NewConversationID(a.Slot(), entropy)
	w.transact(storage.Scope{Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
		c := chat.Open(id, a, customer, chat.DefaultQueue, since.UTC())
		u.Touch(c)
		u.TellHead(c, "", since)
		return nil
	})
	return id
}

// change does to a conversation what a command would.
func (w *world) change(id chat.ConversationID, do func(*chat.Conversation) error) {
	w.t.Helper()
	w.transact(storage.Scope{Conversations: []chat.ConversationID{id}, ConversationsOf: chat.DefaultTenant}, func(u *storage.Unit) error {
		c, err := u.Conversation(id)
		if err != nil {
			return err
		}
		former := c.Holder
		if err := do(c); err != nil {
			return err
		}
		u.Touch(c)
		u.TellHead(c, former, time.Now())
		return nil
	})
}

func (w *world) wake() {
	if err := w.journal.Announce(w.t.Context(), journal.Announcement{Topic: topics.Wake(agentd.Part)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) conversation(id chat.ConversationID) *chat.Conversation {
	w.t.Helper()
	c, err := w.store.Conversation(w.t.Context(), chat.DefaultTenant, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) wantHolder(id chat.ConversationID, want string) {
	w.t.Helper()
	if c := w.conversation(id); c.Holder != want || (want == "") != (c.State == chat.Waiting) {
		w.t.Errorf("conversation is %s, held by %q; want holder %q", c.State, c.Holder, want)
	}
}

func (w *world) agents() map[string]chat.Agent {
	w.t.Helper()
	list, err := w.store.Agents(w.t.Context(), chat.DefaultTenant)
	if err != nil {
		w.t.Fatal(err)
	}
	m := map[string]chat.Agent{}
	for _, a := range list {
		m[a.ID] = a
	}
	return m
}

// audits are the actions noted about a conversation, oldest first.
func (w *world) audits(object string) (actions []string) {
	w.t.Helper()
	lines, err := w.store.AuditTrail(w.t.Context(), chat.DefaultTenant, object, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range slices.Backward(lines) {
		actions = append(actions, l.Action)
	}
	return actions
}
