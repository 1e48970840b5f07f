package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
	"holdline/storage"
)

var conversations = map[string]func(*fixture){
	"a head is kept whole":                     headWhole,
	"a conversation that is not there":         headMissing,
	"a resolved conversation is loaded by id":  headByID,
	"heads are listed by who waits longest":    headsInOrder,
	"heads are chosen by every field":          headsChosen,
	"heads are paged without gap or repeat":    headsPaged,
	"messages are paged without gap or repeat": messagesPaged,
	"messages of many years are one thread":    messagesOfYears,
	"tenants do not meet":                      tenantsApart,
	"a conversation stays with its customer":   headStays,
}

// whole is a head with a value in every field.
func whole(c chat.Account) *chat.Conversation {
	return &chat.Conversation{
		Tenant: c.Tenant, ID: conversationID(c, 77), Customer: c, CustomerName: "Ada Lovelace", Queue: "returns",
		State: chat.Held, Holder: "bob", HolderName: "Bob", Epoch: 3, Accepted: true, Episode: 2, Seq: 12,
		LastAt: noon.Add(4 * time.Second), LastText: "where is it?", LastFrom: chat.Customer,
		Opened: noon.Add(time.Second), Since: noon.Add(2 * time.Second), Resolved: noon.Add(-time.Hour),
	}
}

func headWhole(f *fixture) {
	put := whole(ada)
	f.transact(storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		c := *put
		c.Since = c.Since.Add(999 * time.Microsecond).In(time.FixedZone("", 3600)) // below the millisecond, and not UTC
		u.Touch(&c)
		return nil
	})
	got, err := f.Conversation(f.ctx, "main", put.ID)
	f.must(err)
	f.want("head", got, put)
	if got.Since.Location() != time.UTC {
		f.Errorf("Since is in %v, want UTC", got.Since.Location())
	}
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	f.want("listed", list, []*chat.Conversation{put})
	f.transact(storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		f.want("loaded", u.Open(ada), put)
		return nil
	})
	// Every field is written again, to nothing too.
	none := &chat.Conversation{Tenant: "main", ID: put.ID, Customer: ada, State: chat.Resolved}
	f.change(put.ID, func(c *chat.Conversation) { *c = *none })
	got, err = f.Conversation(f.ctx, "main", put.ID)
	f.must(err)
	f.want("emptied", got, none)
}

func headMissing(f *fixture) {
	_, err := f.Conversation(f.ctx, "main", conversationID(ada, 1))
	f.wantErr("Conversation", err, chat.ErrNotFound)
	f.transact(storage.Scope{ConversationsOf: "main", Conversations: []chat.ConversationID{conversationID(ada, 1)}}, func(u *storage.Unit) error {
		_, err := u.Conversation(conversationID(ada, 1))
		f.wantErr("Unit.Conversation", err, chat.ErrNotFound)
		return nil
	})
	m, err := f.Messages(f.ctx, "main", conversationID(ada, 1), 0, 10)
	f.must(err)
	f.want("messages", m, []chat.Message{})
}

func headByID(f *fixture) {
	id := f.opened(ada, 1)
	f.change(id, func(c *chat.Conversation) { c.State, c.Resolved = chat.Resolved, noon })
	f.transact(storage.Scope{Accounts: []chat.Account{ada}, ConversationsOf: "main", Conversations: []chat.ConversationID{id}}, func(u *storage.Unit) error {
		if c := u.Open(ada); c != nil {
			f.Errorf("a resolved conversation is open: %v", c)
		}
		c, err := u.Conversation(id)
		if err != nil || c.State != chat.Resolved {
			f.Errorf("Conversation = %v, %v", c, err)
		}
		return nil
	})
}

func headStays(f *fixture) {
	id := f.opened(ada, 1)
	err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{grace}}, func(u *storage.Unit) error {
		f.writeAll(u, grace)
		c := u.Open(grace)
		c.State = chat.Resolved
		u.Touch(c)
		u.Touch(chat.Open(id, grace, "", chat.DefaultQueue, noon)) // an id that is taken
		return nil
	})
	f.wantErr("Transact", err, storage.ErrPermanent)
	f.noTrace(grace)
	c, err := f.Conversation(f.ctx, "main", id)
	f.must(err)
	f.want("customer", c.Customer, ada)
}

// heads makes n open conversations, one per customer; each() sets them up.
func (f *fixture) heads(n int, each func(i int, c *chat.Conversation)) {
	f.Helper()
	var s storage.Scope
	for i := range n {
		s.Accounts = append(s.Accounts, customer(i))
	}
	f.transact(s, func(u *storage.Unit) error {
		for i := range n {
			c := chat.Open(conversationID(customer(i), i), customer(i), "", chat.DefaultQueue, noon)
			each(i, c)
			u.Touch(c)
		}
		return nil
	})
}

func headsInOrder(f *fixture) {
	f.heads(12, func(i int, c *chat.Conversation) { c.Since = noon.Add(time.Duration(i%4) * time.Second) })
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main", Limit: 100})
	f.must(err)
	f.want("heads", len(list), 12)
	for i := 1; i < len(list); i++ {
		if chat.CompareWaiting(list[i-1], list[i]) >= 0 {
			f.Errorf("%s %v comes before %s %v", list[i-1].ID, list[i-1].Since, list[i].ID, list[i].Since)
		}
	}
}

func headsChosen(f *fixture) {
	f.heads(24, func(i int, c *chat.Conversation) {
		c.State = []chat.State{chat.Waiting, chat.Held, chat.Resolved}[i%3]
		if c.State == chat.Held {
			c.Holder = []string{"bob", "eve"}[i/3%2]
		}
		c.Queue = []chat.QueueID{"main", "returns"}[i/6%2]
	})
	all, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	f.want("all", len(all), 24)
	for _, q := range []storage.ConversationQuery{
		{States: []chat.State{chat.Waiting}},
		{States: []chat.State{chat.Waiting, chat.Held}},
		{States: []chat.State{chat.Held}, Holder: "bob"},
		{Holder: "eve"},
		{Queue: "returns"},
		{Queue: "returns", States: []chat.State{chat.Waiting}},
		{Queue: "main", States: []chat.State{chat.Held}, Holder: "eve"},
		{Customer: "c004"},
		{Customer: "c004", States: []chat.State{chat.Waiting}},
		{Customer: "c004", Holder: "bob", Queue: "main", States: []chat.State{chat.Held}},
		{Customer: "nobody"},
	} {
		q.Tenant = "main"
		want := []*chat.Conversation{}
		for _, c := range all {
			ok := len(q.States) == 0
			for _, s := range q.States {
				ok = ok || c.State == s
			}
			if ok && (q.Queue == "" || c.Queue == q.Queue) && (q.Holder == "" || c.Holder == q.Holder) && (q.Customer == "" || c.Customer.Subject == q.Customer) {
				want = append(want, c)
			}
		}
		got, err := f.Conversations(f.ctx, q)
		f.must(err)
		f.want(fmt.Sprintf("%+v", q), got, want)
	}
}

func headsPaged(f *fixture) {
	f.heads(23, func(i int, c *chat.Conversation) { c.Since = noon.Add(time.Duration(i/9) * time.Second) })
	all, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	for _, size := range []int{1, 4, 23, 100} {
		q := storage.ConversationQuery{Tenant: "main", Queue: "main", States: []chat.State{chat.Waiting, chat.Held}, Limit: size}
		got := []*chat.Conversation{}
		for {
			page, err := f.Conversations(f.ctx, q)
			f.must(err)
			if len(page) == 0 {
				break
			}
			if len(page) > size {
				f.Fatalf("a page of %d has %d heads", size, len(page))
			}
			got = append(got, page...)
			last := page[len(page)-1]
			q.AfterSince, q.AfterID = last.Since, last.ID
		}
		f.want(fmt.Sprintf("pages of %d", size), got, all)
	}
}

func messagesPaged(f *fixture) {
	const total = 23
	for i := range total {
		_, err := f.say(ada, chat.Say{ID: chat.MessageID(fmt.Sprint(i)), Kind: chat.Text, Text: fmt.Sprint(i)}, noon.Add(time.Duration(i)*time.Second))
		f.must(err)
	}
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	for _, size := range []int{1, 5, total, 200} {
		seq := uint64(total)
		for before := uint64(0); seq > 0; {
			page, err := f.Messages(f.ctx, "main", list[0].ID, before, size)
			f.must(err)
			if len(page) == 0 || len(page) > size {
				f.Fatalf("a page of %d has %d messages before %d", size, len(page), before)
			}
			for _, m := range page {
				if m.Seq != seq || m.Text != fmt.Sprint(seq-1) {
					f.Fatalf("message %d (%q) where %d is due", m.Seq, m.Text, seq)
				}
				seq--
			}
			before = page[len(page)-1].Seq
		}
	}
	none, err := f.Messages(f.ctx, "main", list[0].ID, 1, 10)
	f.must(err)
	f.want("before the first", none, []chat.Message{})
}

func messagesOfYears(f *fixture) {
	times := []time.Time{
		time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 30, 23, 59, 59, 999e6, time.UTC),
		time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), time.Now().UTC().Truncate(time.Millisecond), time.Date(2041, 5, 5, 0, 0, 0, 0, time.UTC),
	}
	var at []time.Time
	for i, now := range times {
		if i > 0 && now.Before(at[i-1]) {
			now = at[i-1]
		}
		at = append(at, now)
		_, err := f.say(ada, chat.Say{ID: chat.MessageID(fmt.Sprint(i)), Kind: chat.Text, Text: "x"}, now)
		f.must(err)
		f.must(f.Maintain(f.ctx, now, now.AddDate(-1, 0, 0)))
	}
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	messages := f.messages(list[0].ID)
	f.want("messages", len(messages), len(times))
	for i, m := range messages {
		if m.Seq != uint64(i+1) || !m.At.Equal(at[i]) {
			f.Errorf("message %d is %d at %v, want %v", i+1, m.Seq, m.At, at[i])
		}
	}
}

func tenantsApart(f *fixture) {
	here, there := ada, chat.Account{Tenant: "other", Role: chat.Customer, Subject: "ada"}
	id := conversationID(ada, 1) // the same id in both: bad luck, no more
	for _, a := range []chat.Account{here, there} {
		f.transact(storage.Scope{Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
			c := chat.Open(id, a, string(a.Tenant), chat.DefaultQueue, noon)
			u.Add(c.Number(a, string(a.Tenant), chat.Say{ID: "m", Kind: chat.Text, Text: string(a.Tenant)}, noon))
			u.Touch(c)
			u.TellHead(c, "", noon)
			u.PutSession(storage.Session{Account: a, Client: "phone", Node: string(a.Tenant), Up: true, Changed: noon})
			u.Audit(storage.Audit{Tenant: a.Tenant, At: noon, Action: "say", Object: "o", Actor: string(a.Tenant)})
			return nil
		})
		f.must(f.PutAgent(f.ctx, storage.Credential{Agent: chat.Agent{Tenant: a.Tenant, ID: "bob", Name: string(a.Tenant), Intent: chat.Away}}, true,
			storage.Audit{Tenant: a.Tenant, At: noon, Object: "agent/bob"}))
		f.must(f.Configure(f.ctx, a.Tenant, storage.Configuration{Revision: 1, Body: []byte(a.Tenant)}))
	}
	for _, tenant := range []chat.Tenant{"main", "other"} {
		f.Run(string(tenant), func(t *testing.T) {
			f := &fixture{T: t, Store: f.Store, ctx: f.ctx}
			c, err := f.Conversation(f.ctx, tenant, id)
			f.must(err)
			f.want("head", c.CustomerName, string(tenant))
			m, err := f.Messages(f.ctx, tenant, id, 0, 10)
			f.must(err)
			if len(m) != 1 || m[0].Text != string(tenant) || m[0].From.Tenant != tenant {
				t.Errorf("messages = %v", m)
			}
			heads, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: tenant, Customer: "ada"})
			f.must(err)
			f.want("heads", len(heads), 1)
			agents, err := f.Agents(f.ctx, tenant)
			f.must(err)
			if len(agents) != 1 || agents[0].Name != string(tenant) {
				t.Errorf("agents = %v", agents)
			}
			sessions, err := f.Sessions(f.ctx, chat.Account{Tenant: tenant, Role: chat.Customer, Subject: "ada"})
			f.must(err)
			if len(sessions) != 1 || sessions[0].Node != string(tenant) {
				t.Errorf("sessions = %v", sessions)
			}
			settings, err := f.Configuration(f.ctx, tenant)
			f.must(err)
			f.want("settings", string(settings.Body), string(tenant))
			lines, err := f.AuditTrail(f.ctx, tenant, "o", 10)
			f.must(err)
			if d := cmp.Diff([]storage.Audit{{Tenant: tenant, At: noon, Action: "say", Object: "o", Actor: string(tenant)}}, lines); d != "" {
				t.Errorf("audit: %s", d)
			}
			n, err := f.LastEvent(f.ctx, chat.DefaultQueue.Inbox(tenant))
			f.must(err)
			f.want("LastEvent", n, uint64(1))
		})
	}
}
