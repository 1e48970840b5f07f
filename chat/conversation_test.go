package chat_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdline/chat"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ada  = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	bob  = chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "bob"}
)

func open() *chat.Conversation {
	return chat.Open(chat.NewConversationID(ada.Slot(), [12]byte{1}), ada, "Ada", chat.DefaultQueue, noon)
}

// in puts a new conversation into a state.
func in(t *testing.T, s chat.State) *chat.Conversation {
	t.Helper()
	c := open()
	if s == chat.Held || s == chat.Resolved {
		if err := c.Assign("bob", "Bob"); err != nil {
			t.Fatal(err)
		}
	}
	if s == chat.Resolved {
		if err := c.Resolve(noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestTransitions(t *testing.T) {
	assign := func(c *chat.Conversation) error { return c.Assign("eve", "Eve") }
	acceptOther := func(c *chat.Conversation) error { return c.Accept("eve", "Eve") }
	acceptOwn := func(c *chat.Conversation) error { return c.Accept("bob", "Bob") }
	requeue := func(c *chat.Conversation) error { return c.Requeue() }
	resolve := func(c *chat.Conversation) error { return c.Resolve(noon) }
	for _, tt := range []struct {
		name string
		from chat.State
		do   func(*chat.Conversation) error
		want error
		to   chat.State
	}{
		{"waiting is assigned", chat.Waiting, assign, nil, chat.Held},
		{"held is not taken away", chat.Held, assign, chat.ErrConflict, chat.Held},
		{"resolved is not assigned", chat.Resolved, assign, chat.ErrConflict, chat.Resolved},
		{"waiting is accepted", chat.Waiting, acceptOther, nil, chat.Held},
		{"one's own is confirmed", chat.Held, acceptOwn, nil, chat.Held},
		{"another's is not accepted", chat.Held, acceptOther, chat.ErrConflict, chat.Held},
		{"resolved is not accepted", chat.Resolved, acceptOwn, chat.ErrClosed, chat.Resolved},
		{"held goes back to wait", chat.Held, requeue, nil, chat.Waiting},
		{"waiting is not put back", chat.Waiting, requeue, chat.ErrConflict, chat.Waiting},
		{"held is resolved", chat.Held, resolve, nil, chat.Resolved},
		{"waiting is not resolved", chat.Waiting, resolve, chat.ErrConflict, chat.Waiting},
		{"resolved is not resolved again", chat.Resolved, resolve, chat.ErrConflict, chat.Resolved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := in(t, tt.from)
			before := *c
			err := tt.do(c)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if c.State != tt.to {
				t.Errorf("state = %s, want %s", c.State, tt.to)
			}
			if err != nil && *c != before {
				t.Errorf("a refused step changed %+v to %+v", before, *c)
			}
		})
	}
}

func TestOwnerEpochGrowsWithEveryOwner(t *testing.T) {
	c := open()
	last := c.Epoch
	for i, step := range []func() error{
		func() error { return c.Assign("bob", "Bob") },
		c.Requeue,
		func() error { return c.Accept("eve", "Eve") },
		func() error { return c.Resolve(noon) },
		func() error { return c.Reopen(noon.Add(time.Hour)) },
		func() error { return c.Assign("bob", "Bob") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if c.Epoch <= last {
			t.Errorf("step %d: epoch %d, want more than %d", i, c.Epoch, last)
		}
		last = c.Epoch
	}
}

func TestOnlyTheOwnerUnderTheEpochOwns(t *testing.T) {
	c := in(t, chat.Held)
	for _, tt := range []struct {
		agent string
		epoch uint64
		want  error
	}{
		{"bob", c.Epoch, nil}, {"bob", c.Epoch - 1, chat.ErrNotOwner}, {"bob", c.Epoch + 1, chat.ErrNotOwner}, {"eve", c.Epoch, chat.ErrNotOwner},
	} {
		if err := c.Owned(tt.agent, tt.epoch); !errors.Is(err, tt.want) {
			t.Errorf("Owned(%s, %d) = %v, want %v", tt.agent, tt.epoch, err, tt.want)
		}
	}
	if err := in(t, chat.Waiting).Owned("", 0); !errors.Is(err, chat.ErrNotOwner) {
		t.Errorf("nobody owns a waiting one: %v", err)
	}
	if err := in(t, chat.Resolved).Owned("bob", 2); !errors.Is(err, chat.ErrClosed) {
		t.Errorf("resolved: %v", err)
	}
}

func TestWaitingTimeIsKeptWhenGivenBack(t *testing.T) {
	c := in(t, chat.Held)
	if err := c.Requeue(); err != nil {
		t.Fatal(err)
	}
	if !c.Since.Equal(noon) || c.Holder != "" || c.Accepted {
		t.Errorf("after requeue: %+v", c)
	}
}

func TestReopening(t *testing.T) {
	c := in(t, chat.Resolved)
	c.Seq = 7
	if err := c.Reopen(c.Resolved.Add(chat.ReopenWindow)); err != nil {
		t.Fatal(err)
	}
	if c.State != chat.Waiting || c.Episode != 2 || c.Seq != 7 || c.Holder != "" {
		t.Errorf("reopened: %+v", c)
	}
	c = in(t, chat.Resolved)
	if err := c.Reopen(c.Resolved.Add(chat.ReopenWindow + 1)); !errors.Is(err, chat.ErrClosed) {
		t.Errorf("too late: %v, want ErrClosed", err)
	}
	c = in(t, chat.Held)
	before := *c
	if err := c.Reopen(noon); err != nil || *c != before {
		t.Errorf("an open one is left alone: %v, %+v", err, c)
	}
}

func TestNumbersHaveNoGapsAndTimeNeverFalls(t *testing.T) {
	c := open()
	times := []time.Duration{0, time.Second, -time.Hour, 2 * time.Second, 2 * time.Second}
	last := time.Time{}
	for i, d := range times {
		m := c.Number(ada, "Ada", chat.Say{ID: "x", Kind: chat.Text, Text: "hello"}, noon.Add(d))
		if m.Seq != uint64(i+1) {
			t.Errorf("seq = %d, want %d", m.Seq, i+1)
		}
		if m.At.Before(last) {
			t.Errorf("at fell from %s to %s", last, m.At)
		}
		last = m.At
	}
}

func TestPick(t *testing.T) {
	agent := func(id string, load int, idle time.Duration, change func(*chat.Agent)) chat.Agent {
		a := chat.Agent{Tenant: "main", ID: id, Intent: chat.Available, Capacity: 3, Load: load, IdleSince: noon.Add(idle), Reachable: true}
		if change != nil {
			change(&a)
		}
		return a
	}
	never := func(a *chat.Agent) { a.IdleSince = time.Time{} }
	for _, tt := range []struct {
		name   string
		agents []chat.Agent
		want   string
	}{
		{"nobody", nil, ""},
		{"least loaded", []chat.Agent{agent("a", 2, 0, nil), agent("b", 1, 0, nil)}, "b"},
		{"longest idle of the least loaded", []chat.Agent{agent("a", 1, time.Minute, nil), agent("b", 1, 0, nil)}, "b"},
		{"who never had one is idle longest", []chat.Agent{agent("a", 0, 0, nil), agent("b", 0, 0, never)}, "b"},
		{"id decides in the end", []chat.Agent{agent("b", 0, 0, nil), agent("a", 0, 0, nil)}, "a"},
		{"full", []chat.Agent{agent("a", 3, 0, nil)}, ""},
		{"unreachable", []chat.Agent{agent("a", 0, 0, func(a *chat.Agent) { a.Reachable = false })}, ""},
		{"busy", []chat.Agent{agent("a", 0, 0, func(a *chat.Agent) { a.Intent = chat.Busy })}, ""},
		{"away", []chat.Agent{agent("a", 0, 0, func(a *chat.Agent) { a.Intent = chat.Away })}, ""},
		{"disabled", []chat.Agent{agent("a", 0, 0, func(a *chat.Agent) { a.Disabled = true })}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 4 { // in any order
				rand.Shuffle(len(tt.agents), func(i, j int) { tt.agents[i], tt.agents[j] = tt.agents[j], tt.agents[i] })
				got, ok := chat.Pick(tt.agents)
				if got.ID != tt.want || ok != (tt.want != "") {
					t.Errorf("Pick = %q, %t, want %q", got.ID, ok, tt.want)
				}
			}
		})
	}
}

func TestQueueOrderIsLongestWaitThenID(t *testing.T) {
	at := func(id string, d time.Duration) *chat.Conversation {
		return &chat.Conversation{ID: chat.ConversationID(id), Since: noon.Add(d)}
	}
	list := []*chat.Conversation{at("b", 0), at("c", -time.Second), at("a", 0)}
	slices.SortFunc(list, chat.CompareWaiting)
	if list[0].ID != "c" || list[1].ID != "a" || list[2].ID != "b" {
		t.Errorf("order %s %s %s", list[0].ID, list[1].ID, list[2].ID)
	}
}

func TestMay(t *testing.T) {
	c := open()
	eve := chat.Account{Tenant: "main", Role: chat.Customer, Subject: "eve"}
	other := chat.Account{Tenant: "other", Role: chat.AgentRole, Subject: "bob"}
	service := chat.Account{Tenant: "main", Role: chat.Service, Subject: "export"}
	device := chat.Account{Tenant: "main", Role: chat.Device, Subject: "d"}
	for _, tt := range []struct {
		who  chat.Account
		do   chat.Verb
		want bool
	}{
		{ada, chat.VerbSpeak, true}, {ada, chat.VerbRead, true}, {ada, chat.VerbResolve, false}, {ada, chat.VerbAccept, false},
		{eve, chat.VerbSpeak, false}, {eve, chat.VerbRead, false},
		{bob, chat.VerbSpeak, true}, {bob, chat.VerbResolve, true}, {other, chat.VerbRead, false},
		{service, chat.VerbRead, true}, {service, chat.VerbSpeak, false}, {device, chat.VerbRead, false},
	} {
		err := chat.May(tt.who, tt.do, c)
		if (err == nil) != tt.want || err != nil && !errors.Is(err, chat.ErrForbidden) {
			t.Errorf("May(%s, %s) = %v, want %t", tt.who, tt.do, err, tt.want)
		}
	}
}
