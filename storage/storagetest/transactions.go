package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"holdline/chat"
	"holdline/storage"
)

var transactions = map[string]func(*fixture){
	"an error of decide leaves nothing":                        decideError,
	"a panic in decide leaves nothing":                         decidePanic,
	"a cancelled transaction leaves nothing":                   cancelled,
	"text that cannot be stored is permanent":                  poison,
	"what people said is stored byte for byte":                 bytesKept,
	"the same row changed twice is written once":               twiceInOneUnit,
	"two hundred entries go in one transaction":                bulk,
	"overlapping transactions do not deadlock":                 overlapping,
	"a second transaction sees what the first one left behind": serial,
	"an empty scope is allowed":                                emptyScope,
}

// unchanged runs a transaction that must fail and checks that it left no trace.
func (f *fixture) unchanged(what string, s storage.Scope, want error) {
	f.Helper()
	s.Accounts = append(s.Accounts, grace)
	err := f.Transact(f.ctx, s, func(u *storage.Unit) error {
		f.writeAll(u, grace)
		return nil
	})
	f.wantErr(what, err, want)
	f.noTrace(grace)
}

// writeAll writes one of everything about an account.
func (f *fixture) writeAll(u *storage.Unit, a chat.Account) {
	u.Named(a, "Grace", noon)
	c := chat.Open(conversationID(a, 1), a, "Grace", chat.DefaultQueue, noon)
	m := c.Number(a, "Grace", chat.Say{ID: "m", Kind: chat.Text, Text: "text"}, noon)
	u.Touch(c)
	u.Add(m)
	u.Remember(storage.SaidKey{Account: a, ID: "m"}, storage.Said{Conversation: c.ID, Seq: 1}, noon)
	u.TellMessage(c, m)
	u.PutSession(storage.Session{Account: a, Client: "phone", Node: "n1", Epoch: 1, Up: true, Changed: noon})
	u.Schedule(storage.Job{ID: "job of " + a.Subject, Kind: "kind", At: noon})
	u.Audit(storage.Audit{Tenant: a.Tenant, At: noon, Actor: a.String(), Action: "say", Object: string(c.ID)})
}

// noTrace checks that nothing of writeAll is there.
func (f *fixture) noTrace(a chat.Account) {
	f.Helper()
	if _, err := f.Conversation(f.ctx, a.Tenant, conversationID(a, 1)); !errors.Is(err, chat.ErrNotFound) {
		f.Errorf("the conversation = %v, want not found", err)
	}
	if m := f.messages(conversationID(a, 1)); len(m) != 0 {
		f.Errorf("%d messages were written", len(m))
	}
	n, err := f.LastEvent(f.ctx, a.Inbox())
	f.must(err)
	e, err := f.Events(f.ctx, a.Inbox(), 0, 10)
	f.must(err)
	if n != 0 || len(e) != 0 {
		f.Errorf("%d events were written, the last number is %d", len(e), n)
	}
	s, err := f.Sessions(f.ctx, a)
	f.must(err)
	if len(s) != 0 {
		f.Errorf("%d sessions were written", len(s))
	}
	if _, ok, err := f.NextJob(f.ctx, []string{"kind"}); ok || err != nil {
		f.Errorf("a job was written (err %v)", err)
	}
	lines, err := f.AuditTrail(f.ctx, a.Tenant, string(conversationID(a, 1)), 10)
	f.must(err)
	if len(lines) != 0 {
		f.Errorf("%d audit lines were written", len(lines))
	}
	f.transact(storage.Scope{Accounts: []chat.Account{a}, Said: []storage.SaidKey{{Account: a, ID: "m"}}}, func(u *storage.Unit) error {
		if _, ok := u.Said(storage.SaidKey{Account: a, ID: "m"}); ok {
			f.Error("an id was remembered")
		}
		if name := u.Account(a).Name; name != "" {
			f.Errorf("the account was named %q", name)
		}
		return nil
	})
}

func decideError(f *fixture) {
	l := f.lease("input/08", "n1")
	no := errors.New("no")
	err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{grace}, Advance: []storage.Advance{{Partition: 8, Lease: l, To: storage.Position{Journal: 1, Seq: 1}}}},
		func(u *storage.Unit) error {
			f.writeAll(u, grace)
			return no
		})
	f.wantErr("Transact", err, no)
	f.noTrace(grace)
	p, err := f.Position(f.ctx, 8)
	f.must(err)
	f.want("position", p, storage.Position{})
}

func decidePanic(f *fixture) {
	func() {
		defer func() {
			if recover() == nil {
				f.Error("an account outside the scope was handed out")
			}
		}()
		_ = f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{grace}}, func(u *storage.Unit) error {
			f.writeAll(u, grace)
			u.Account(ada)
			return nil
		})
	}()
	f.noTrace(grace) // and the locks are free
}

func cancelled(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx)
	err := f.Transact(ctx, storage.Scope{Accounts: []chat.Account{grace}}, func(u *storage.Unit) error {
		f.writeAll(u, grace)
		cancel()
		return nil
	})
	f.wantErr("Transact, cancelled on the way", err, context.Canceled)
	err = f.Transact(ctx, storage.Scope{Accounts: []chat.Account{grace}}, func(*storage.Unit) error {
		f.Error("decide ran for a cancelled context")
		return nil
	})
	f.wantErr("Transact, cancelled before", err, context.Canceled)
	_, err = f.Events(ctx, grace.Inbox(), 0, 1)
	f.wantErr("Events, cancelled", err, context.Canceled)
	f.noTrace(grace)
}

func poison(f *fixture) {
	for what, bad := range map[string]string{"U+0000": "a\x00b", "not UTF-8": "a\xffb"} {
		err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{grace, ada}}, func(u *storage.Unit) error {
			f.writeAll(u, grace)
			u.Named(ada, bad, noon)
			return nil
		})
		f.wantErr("Transact with a name of "+what, err, storage.ErrPermanent)
		err = f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{grace}}, func(u *storage.Unit) error {
			f.writeAll(u, grace)
			u.PutSession(storage.Session{Account: grace, Client: bad, Node: "n1", Up: true})
			return nil
		})
		f.wantErr("Transact with a client of "+what, err, storage.ErrPermanent)
		err = f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{{Tenant: "main", Role: chat.Customer, Subject: bad}}}, func(*storage.Unit) error { return nil })
		f.wantErr("Transact with an account of "+what, err, storage.ErrPermanent)
		err = f.PutAgent(f.ctx, storage.Credential{Agent: chat.Agent{Tenant: "main", ID: bad}}, true, storage.Audit{})
		f.wantErr("PutAgent with an id of "+what, err, storage.ErrPermanent)
	}
	// A client id may have 65535 bytes, and is part of a key.
	for size, want := range map[int]error{storage.MaxKeyBytes: nil, storage.MaxKeyBytes + 1: storage.ErrPermanent, 65535: storage.ErrPermanent} {
		random := rand.NewChaCha8([32]byte{}) // nothing that compresses
		client := make([]byte, size)
		for i := range client {
			client[i] = byte('0' + random.Uint64()%64)
		}
		err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
			u.PutSession(storage.Session{Account: ada, Client: string(client), Node: "n1", Up: true})
			return nil
		})
		if !errors.Is(err, want) {
			f.Errorf("Transact with a client of %d bytes = %v, want %v", size, err, want)
		}
	}
	f.noTrace(grace)
}

func bytesKept(f *fixture) {
	text := "null \x00, broken \xff\xfe, 退款 🙂, " + strings.Repeat("long ", 3000)
	id := conversationID(ada, 1)
	f.transact(storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		c := chat.Open(id, ada, "", chat.DefaultQueue, noon)
		m := c.Number(ada, "", chat.Say{ID: "m", Kind: chat.Text, Text: text}, noon)
		c.LastText = "cut \xe9\x80"
		u.Add(m)
		u.Touch(c)
		u.Tell(ada.Inbox(), chat.MessageEvent(m), noon)
		u.Schedule(storage.Job{ID: "j", Kind: "k", At: noon, Payload: []byte("\x00\xff")})
		return nil
	})
	f.want("text", f.messages(id)[0].Text, text)
	c, err := f.Conversation(f.ctx, "main", id)
	f.must(err)
	f.want("preview", c.LastText, "cut \xe9\x80")
	due, err := f.DueJobs(f.ctx, []string{"k"}, noon, time.Minute, 1)
	f.must(err)
	if len(due) != 1 || string(due[0].Payload) != "\x00\xff" {
		f.Errorf("DueJobs = %v, want the payload as it was", due)
	}
}

func twiceInOneUnit(f *fixture) {
	k := f.agent("bob")
	id := f.opened(ada, 1)
	f.transact(storage.Scope{Accounts: []chat.Account{ada, ada}, Agents: []storage.AgentKey{k, k},
		ConversationsOf: "main", Conversations: []chat.ConversationID{id, id}}, func(u *storage.Unit) error {
		u.Named(ada, "A", noon)
		u.Named(ada, "Ada", noon)
		for epoch := range uint64(3) {
			u.PutSession(storage.Session{Account: ada, Client: "phone", Node: "n1", Epoch: epoch + 1, Up: epoch != 1, Changed: noon})
		}
		c := u.Open(ada)
		u.Touch(c)
		c.HolderName = "changed after Touch"
		u.Touch(c)
		a, err := u.Agent(k)
		if err != nil {
			return err
		}
		a.Intent = chat.Busy
		u.Update(a)
		a.Intent = chat.Away
		u.Update(a)
		u.Schedule(storage.Job{ID: "j", Kind: "k", At: noon})
		u.Schedule(storage.Job{ID: "j", Kind: "k", At: noon.Add(time.Hour)})
		u.Schedule(storage.Job{ID: "gone", Kind: "k", At: noon})
		u.Cancel("gone")
		u.Cancel("gone")
		u.Cancel("back")
		u.Schedule(storage.Job{ID: "back", Kind: "k", At: noon.Add(time.Minute)})
		return nil
	})
	s, err := f.Sessions(f.ctx, ada)
	f.must(err)
	f.want("sessions", s, []storage.Session{{Account: ada, Client: "phone", Node: "n1", Epoch: 3, Up: true, Changed: noon}})
	c, err := f.Conversation(f.ctx, "main", id)
	f.must(err)
	f.want("head", c.HolderName, "changed after Touch")
	list, err := f.Agents(f.ctx, "main")
	f.must(err)
	f.want("intent", list[0].Intent, chat.Away)
	due, err := f.DueJobs(f.ctx, []string{"k"}, noon.Add(time.Hour), time.Minute, 9)
	f.must(err)
	if len(due) != 2 || due[0].ID != "back" || due[1].ID != "j" || !due[1].At.Equal(noon.Add(time.Hour)) {
		f.Errorf("DueJobs = %v, want back, then j at its last time", due)
	}
	f.transact(storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		f.want("name", u.Account(ada).Name, "Ada")
		return nil
	})
}

func bulk(f *fixture) {
	const people, each = 50, 4
	var scope storage.Scope
	for i := range people {
		scope.Accounts = append(scope.Accounts, customer(i))
		for n := range each {
			scope.Said = append(scope.Said, storage.SaidKey{Account: customer(i), ID: chat.MessageID(fmt.Sprintf("m%d", n))})
		}
	}
	l := f.lease("input/09", "n1")
	scope.Advance = []storage.Advance{{Partition: 9, Lease: l, To: storage.Position{Journal: 1, Seq: people * each}}}
	f.transact(scope, func(u *storage.Unit) error {
		for n := range each { // the people take turns, as they do in a journal
			for i := range people {
				a := customer(i)
				c := u.Open(a)
				if c == nil {
					c = chat.Open(conversationID(a, i), a, a.Subject, chat.DefaultQueue, noon)
				}
				say := chat.Say{ID: chat.MessageID(fmt.Sprintf("m%d", n)), Kind: chat.Text, Text: fmt.Sprintf("%d of %s", n, a.Subject)}
				m := c.Number(a, a.Subject, say, noon)
				u.Named(a, a.Subject, noon)
				u.Add(m)
				u.Touch(c)
				u.Remember(storage.SaidKey{Account: a, ID: say.ID}, storage.Said{Hash: say.Hash(), Conversation: c.ID, Seq: m.Seq}, noon)
				u.TellMessage(c, m)
				u.PutSession(storage.Session{Account: a, Client: "phone", Node: "n1", Epoch: uint64(n), Up: true, Changed: noon})
				u.Audit(storage.Audit{Tenant: a.Tenant, At: noon, Actor: a.String(), Action: "say", Object: string(c.ID)})
			}
		}
		return nil
	})
	for i := range people {
		a := customer(i)
		messages := f.messages(conversationID(a, i))
		if len(messages) != each {
			f.Fatalf("%s has %d messages, want %d", a, len(messages), each)
		}
		for n, m := range messages {
			want := chat.Message{Tenant: "main", Conversation: conversationID(a, i), Seq: uint64(n + 1), ID: chat.MessageID(fmt.Sprintf("m%d", n)),
				From: a, Name: a.Subject, Kind: chat.Text, Text: fmt.Sprintf("%d of %s", n, a.Subject), At: noon}
			f.want("message", m, want)
		}
	}
	queue, err := f.Events(f.ctx, chat.DefaultQueue.Inbox("main"), 0, storage.MaxEvents)
	f.must(err)
	if len(queue) != people*each {
		f.Fatalf("the queue was told %d events, want %d", len(queue), people*each)
	}
	for i, e := range queue {
		if e.N != uint64(i+1) || !strings.Contains(string(e.Body), fmt.Sprintf(`"%d of c%03d"`, i/people, i%people)) {
			f.Fatalf("event %d of the queue is number %d: %s", i+1, e.N, e.Body)
		}
	}
	lines, err := f.AuditTrail(f.ctx, "main", "", storage.MaxPage)
	f.must(err)
	f.want("audit lines", len(lines), people*each)
}

func overlapping(f *fixture) {
	const writers, rounds, people = 16, 12, 24
	var keys []storage.AgentKey
	for i := range 4 {
		keys = append(keys, f.agent(fmt.Sprintf("agent%d", i)))
	}
	var ids []chat.ConversationID
	for i := range people / 2 { // the other half has never been seen
		ids = append(ids, f.opened(customer(i), i))
	}
	told := make([][people]int, writers)
	f.allNil(together(writers, func(w int) error {
		random := rand.New(rand.NewPCG(uint64(w), 1))
		for range rounds {
			var s storage.Scope
			s.ConversationsOf = "main"
			for _, i := range random.Perm(people)[:6] {
				s.Accounts = append(s.Accounts, customer(i))
			}
			for _, i := range random.Perm(len(ids))[:4] {
				s.Conversations = append(s.Conversations, ids[i])
			}
			for _, i := range random.Perm(len(keys))[:2] {
				s.Agents = append(s.Agents, keys[i])
			}
			if err := f.Transact(f.ctx, s, func(u *storage.Unit) error {
				for _, a := range s.Accounts {
					u.PutSession(storage.Session{Account: a, Client: "phone", Node: "n1", Epoch: 1, Up: true, Changed: noon})
					u.Tell(a.Inbox(), chat.Event{Type: chat.TypeDone}, noon)
				}
				for _, id := range s.Conversations {
					c, err := u.Conversation(id)
					if err != nil {
						return err
					}
					u.Add(c.Number(c.Customer, "", chat.Say{Kind: chat.Text, Text: "x"}, noon))
					u.Touch(c)
				}
				for _, k := range s.Agents {
					a, err := u.Agent(k)
					if err != nil {
						return err
					}
					u.Update(a)
				}
				return nil
			}); err != nil {
				return err
			}
			for _, a := range s.Accounts {
				var i int
				fmt.Sscanf(a.Subject, "c%d", &i)
				told[w][i]++
			}
		}
		return nil
	}))
	for i := range people {
		want := 0
		for w := range writers {
			want += told[w][i]
		}
		n, err := f.LastEvent(f.ctx, customer(i).Inbox())
		f.must(err)
		f.want("events of "+customer(i).Subject, n, uint64(want))
	}
}

func serial(f *fixture) {
	first, err := f.say(ada, chat.Say{ID: "1", Kind: chat.Text, Text: "one"}, noon)
	f.must(err)
	second, err := f.say(ada, chat.Say{ID: "2", Kind: chat.Text, Text: "two"}, noon)
	f.must(err)
	f.want("second", second, storage.Said{Hash: second.Hash, Conversation: first.Conversation, Seq: 2, At: noon})
}

func emptyScope(f *fixture) {
	f.transact(storage.Scope{}, func(u *storage.Unit) error {
		u.Tell(ada.Inbox(), chat.Event{Type: chat.TypeDone}, noon)
		return nil
	})
	n, err := f.LastEvent(f.ctx, ada.Inbox())
	f.must(err)
	f.want("LastEvent", n, uint64(1))
	f.transact(storage.Scope{}, func(*storage.Unit) error { return nil })
}
