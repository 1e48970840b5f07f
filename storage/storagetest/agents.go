package storagetest

import (
	"time"

	"holdline/chat"
	"holdline/storage"
)

var agents = map[string]func(*fixture){
	"an agent is created once":          agentCreated,
	"an agent is changed":               agentChanged,
	"load is what an agent holds":       agentLoad,
	"an agent is reachable by sessions": agentReachable,
	"agents are listed by id":           agentsInOrder,
	"an agent's intent is decided":      agentIntent,
	"an agent that is not there":        agentMissing,
}

var byOperator = storage.Audit{Tenant: "main", At: noon, Actor: "operator", Action: "put agent", Object: "agent/bob", Detail: "by hand"}

func agentCreated(f *fixture) {
	want := storage.Credential{PasswordHash: "h1", Agent: chat.Agent{Tenant: "main", ID: "bob", Name: "Bob", Intent: chat.Busy, Capacity: 3, Disabled: true}}
	put := want
	put.Agent.Load, put.Agent.Reachable, put.Agent.IdleSince = 9, true, noon // not ours to say
	f.must(f.PutAgent(f.ctx, put, true, byOperator))
	got, err := f.Credential(f.ctx, storage.AgentKey{Tenant: "main", ID: "bob"})
	f.must(err)
	f.want("credential", got, want)
	f.wantErr("PutAgent again", f.PutAgent(f.ctx, put, true, byOperator), chat.ErrConflict)
	_, err = f.Credential(f.ctx, storage.AgentKey{Tenant: "main", ID: "Bob"})
	f.wantErr("Credential in another case", err, chat.ErrNotFound)
	lines, err := f.AuditTrail(f.ctx, "main", "agent/bob", 10)
	f.must(err)
	f.want("audit", lines, []storage.Audit{byOperator})
}

func agentChanged(f *fixture) {
	c := storage.Credential{PasswordHash: "h1", Agent: chat.Agent{Tenant: "main", ID: "bob", Name: "Bob", Intent: chat.Available, Capacity: 3}}
	f.wantErr("changing nobody", f.PutAgent(f.ctx, c, false, byOperator), chat.ErrNotFound)
	lines, err := f.AuditTrail(f.ctx, "main", "", 10)
	f.must(err)
	f.want("audit of nothing", len(lines), 0)
	k := f.agent("bob")
	f.transact(storage.Scope{Agents: []storage.AgentKey{k}}, func(u *storage.Unit) error {
		a, err := u.Agent(k)
		if err != nil {
			return err
		}
		a.IdleSince = noon
		u.Update(a)
		return nil
	})
	c.PasswordHash = ""
	c.Agent.Name, c.Agent.Disabled = "Robert", true
	f.must(f.PutAgent(f.ctx, c, false, byOperator))
	got, err := f.Credential(f.ctx, k)
	f.must(err)
	c.Agent.IdleSince, c.PasswordHash = noon, "hash of bob"
	f.want("credential", got, c)
	c.PasswordHash = "h2"
	f.must(f.PutAgent(f.ctx, c, false, byOperator))
	got, err = f.Credential(f.ctx, k)
	f.must(err)
	f.want("hash", got.PasswordHash, "h2")
}

func agentLoad(f *fixture) {
	k := f.agent("bob")
	f.agent("eve")
	f.heads(6, func(i int, c *chat.Conversation) {
		switch i {
		case 0, 1, 2:
			c.State, c.Holder = chat.Held, "bob"
		case 3:
			c.State, c.Holder = chat.Held, "eve"
		case 4:
			c.State, c.Holder = chat.Resolved, "bob" // who it was
		}
	})
	loads := func() (bob, eve int) {
		list, err := f.Agents(f.ctx, "main")
		f.must(err)
		return list[0].Load, list[1].Load
	}
	if bob, eve := loads(); bob != 3 || eve != 1 {
		f.Errorf("loads are %d and %d, want 3 and 1", bob, eve)
	}
	f.transact(storage.Scope{Agents: []storage.AgentKey{k}}, func(u *storage.Unit) error {
		a, err := u.Agent(k)
		if err != nil {
			return err
		}
		f.want("load under the lock", a.Load, 3)
		a.Load = 99 // counted, never stored
		u.Update(a)
		return nil
	})
	f.change(conversationID(customer(1), 1), func(c *chat.Conversation) { f.must(c.Requeue()) })
	if bob, eve := loads(); bob != 2 || eve != 1 {
		f.Errorf("loads are %d and %d, want 2 and 1", bob, eve)
	}
	c, err := f.Credential(f.ctx, k)
	f.must(err)
	f.want("load", c.Agent.Load, 2)
}

func agentReachable(f *fixture) {
	k := f.agent("bob")
	bob := chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "bob"}
	put := func(a chat.Account, client string, up bool) {
		f.transact(storage.Scope{Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
			u.PutSession(storage.Session{Account: a, Client: client, Node: "n1", Epoch: 1, Up: up, Changed: noon})
			return nil
		})
	}
	reachable := func(what string, want bool) {
		list, err := f.Agents(f.ctx, "main")
		f.must(err)
		f.want(what, list[0].Reachable, want)
		f.transact(storage.Scope{Agents: []storage.AgentKey{k}}, func(u *storage.Unit) error {
			a, err := u.Agent(k)
			if err != nil {
				return err
			}
			f.want(what+", under the lock", a.Reachable, want)
			return nil
		})
	}
	reachable("with no session", false)
	put(chat.Account{Tenant: "main", Role: chat.Customer, Subject: "bob"}, "phone", true)
	put(chat.Account{Tenant: "other", Role: chat.AgentRole, Subject: "bob"}, "desk", true)
	reachable("with sessions of others", false)
	put(bob, "desk-1", true)
	put(bob, "desk-2", true)
	reachable("with two desks", true)
	put(bob, "desk-1", false)
	reachable("with one desk left", true)
	put(bob, "desk-2", false)
	reachable("with none left", false)
}

func agentsInOrder(f *fixture) {
	for _, id := range []string{"b", "Z", "é", "a", "aa", "_"} {
		f.agent(id)
	}
	list, err := f.Agents(f.ctx, "main")
	f.must(err)
	var got []string
	for _, a := range list {
		got = append(got, a.ID)
	}
	f.want("agents", got, []string{"Z", "_", "a", "aa", "b", "é"})
}

func agentIntent(f *fixture) {
	k := f.agent("bob")
	f.transact(storage.Scope{Agents: []storage.AgentKey{k}}, func(u *storage.Unit) error {
		a, err := u.Agent(k)
		if err != nil {
			return err
		}
		a.Intent, a.IdleSince, a.Capacity, a.Name = chat.Away, noon.Add(time.Second), 99, "not by Update"
		u.Update(a)
		return nil
	})
	list, err := f.Agents(f.ctx, "main")
	f.must(err)
	f.want("agents", list, []chat.Agent{{Tenant: "main", ID: "bob", Name: "bob", Intent: chat.Away, Capacity: 5, IdleSince: noon.Add(time.Second)}})
}

func agentMissing(f *fixture) {
	k := storage.AgentKey{Tenant: "main", ID: "nobody"}
	_, err := f.Credential(f.ctx, k)
	f.wantErr("Credential", err, chat.ErrNotFound)
	f.transact(storage.Scope{Agents: []storage.AgentKey{k}}, func(u *storage.Unit) error {
		_, err := u.Agent(k)
		f.wantErr("Unit.Agent", err, chat.ErrNotFound)
		return nil
	})
	list, err := f.Agents(f.ctx, "main")
	f.must(err)
	f.want("agents", list, []chat.Agent{})
}
