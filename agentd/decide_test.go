package agentd

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
	"holdline/storage"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func able(id string, load int) chat.Agent {
	return chat.Agent{Tenant: "main", ID: id, Name: id, Intent: chat.Available, Reachable: true, Capacity: 3, Load: load}
}

func waitingSince(id string, ago time.Duration) *chat.Conversation {
	customer := chat.Account{Tenant: "main", Role: chat.Customer, Subject: id}
	return chat.Open(chat.ConversationID(id), customer, id, chat.DefaultQueue, noon.Add(-ago))
}

// unitOf is a Unit as an engine would load it.
func unitOf(agents []chat.Agent, sessions []storage.Session, heads ...*chat.Conversation) *storage.Unit {
	l := storage.Loaded{
		Accounts: map[chat.Account]*storage.Account{}, Said: map[storage.SaidKey]storage.Said{},
		Conversations: map[chat.ConversationID]*chat.Conversation{}, Agents: map[storage.AgentKey]*chat.Agent{},
		Sessions: map[chat.Account][]storage.Session{}, Missing: map[chat.ConversationID]bool{},
	}
	for _, a := range agents {
		l.Agents[storage.AgentKey{Tenant: a.Tenant, ID: a.ID}] = &a
		l.Accounts[a.Account()] = &storage.Account{Account: a.Account()}
		l.Sessions[a.Account()] = sessions
	}
	for _, c := range heads {
		l.Conversations[c.ID] = c
	}
	return storage.NewUnit(l)
}

func TestThePlanIsFairAndStopsWhereNobodyMayTake(t *testing.T) {
	bob := able("bob", 1)
	bob.IdleSince = noon.Add(-time.Hour)
	ann := able("ann", 1)
	ann.IdleSince = noon.Add(-time.Minute)
	away := able("away", 0)
	away.Intent = chat.Away
	heads := []*chat.Conversation{
		waitingSince("1", time.Hour), waitingSince("2", 50*time.Minute), waitingSince("3", 40*time.Minute),
		waitingSince("4", 30*time.Minute), waitingSince("5", 20*time.Minute),
	}
	got := planFor(heads, []chat.Agent{ann, away, bob}, noon)
	want := plan{
		{"1", "bob", 2}, // as loaded as ann, but idle for longer
		{"2", "ann", 2},
		{"3", "ann", 2}, // both got one at noon: by id
		{"4", "bob", 1}, // ann is full
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(pair{})); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
}

func TestAssignDecidesByWhatItLocked(t *testing.T) {
	for _, tt := range []struct {
		name  string
		agent func(*chat.Agent)
		head  func(*chat.Conversation)
		want  error
	}{
		{"a waiting conversation and an able agent", nil, nil, nil},
		{"an agent with one place left", func(a *chat.Agent) { a.Load = 2 }, nil, nil},
		{"an agent who is full", func(a *chat.Agent) { a.Load = 3 }, nil, chat.ErrConflict},
		{"an agent whose desk is gone", func(a *chat.Agent) { a.Reachable = false }, nil, chat.ErrConflict},
		{"an agent who is busy", func(a *chat.Agent) { a.Intent = chat.Busy }, nil, chat.ErrConflict},
		{"an agent who is away", func(a *chat.Agent) { a.Intent = chat.Away }, nil, chat.ErrConflict},
		{"an agent who was disabled", func(a *chat.Agent) { a.Disabled = true }, nil, chat.ErrConflict},
		{"a conversation somebody took", nil, func(c *chat.Conversation) { c.Assign("eve", "Eve") }, chat.ErrConflict},
		{"a conversation that was resolved", nil, func(c *chat.Conversation) { c.State = chat.Resolved }, chat.ErrConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, c := able("ann", 0), waitingSince("1", time.Minute)
			if tt.agent != nil {
				tt.agent(&a)
			}
			if tt.head != nil {
				tt.head(c)
			}
			before := *c
			u := unitOf([]chat.Agent{a}, nil, c)
			given, err := assign(u, "main", plan{{c.ID, "ann", 1}}, "agentd", noon)
			if !errors.Is(err, tt.want) {
				t.Fatalf("assign = %v, want %v", err, tt.want)
			}
			if tt.want != nil {
				if d := cmp.Diff(before, *c); d != "" {
					t.Errorf("the conversation was changed all the same:\n%s", d)
				}
				return
			}
			if len(given) != 1 || c.Holder != "ann" || c.Epoch != before.Epoch+1 || !c.Since.Equal(before.Since) {
				t.Errorf("given %v, conversation %+v; want it held by ann, waiting time kept", given, *c)
			}
			ch := u.Changes()
			if len(ch.Agents) != 1 || !ch.Agents[0].IdleSince.Equal(noon) || ch.Agents[0].Load != a.Load+1 {
				t.Errorf("agents written: %+v, want ann with one more since noon", ch.Agents)
			}
			var told []string
			for _, e := range ch.Events {
				told = append(told, e.Inbox.String())
			}
			if d := cmp.Diff([]string{"main/customer/1", "main/queue/main", "main/agent/ann"}, told); d != "" {
				t.Errorf("who was told (-want +got):\n%s", d)
			}
			if len(ch.Audit) != 1 || ch.Audit[0].Action != "assign" || ch.Audit[0].Detail != "agent=ann load="+string('0'+rune(a.Load+1))+" candidates=1" {
				t.Errorf("audit = %+v", ch.Audit)
			}
		})
	}
}

func TestAssignPicksAnewWhenThePlanIsOld(t *testing.T) {
	ann, bob := able("ann", 3), able("bob", 1) // ann has become full since the plan
	one, two := waitingSince("1", time.Minute), waitingSince("2", time.Hour)
	u := unitOf([]chat.Agent{ann, bob}, nil, one, two)
	given, err := assign(u, "main", plan{{"1", "ann", 2}, {"2", "bob", 2}}, "agentd", noon)
	if err != nil || len(given) != 2 || given[0].conversation != "2" {
		t.Fatalf("given %+v, %v; want both, the longest waiting first", given, err)
	}
	if one.Holder != "bob" || two.Holder != "bob" {
		t.Errorf("holders %q and %q, want bob for both: ann has no room", one.Holder, two.Holder)
	}
}

func TestGiveBackDecidesByWhatItLocked(t *testing.T) {
	const grace = 45 * time.Second
	down := func(ago time.Duration) []storage.Session {
		return []storage.Session{{Client: "a", Changed: noon.Add(-time.Hour)}, {Client: "b", Changed: noon.Add(-ago)}}
	}
	for _, tt := range []struct {
		name     string
		agent    func(*chat.Agent)
		sessions []storage.Session
		moved    int
		job      string // what becomes of it: cancelled, or the time it is due
	}{
		{"gone for exactly the grace", nil, down(grace), 1, "cancelled"},
		{"gone for a moment less", nil, down(grace - time.Millisecond), 0, "12:00:00.001"},
		{"went again after the job was written", nil, down(time.Second), 0, "12:00:44.000"},
		{"back on another device", func(a *chat.Agent) { a.Reachable = true }, append(down(time.Hour), storage.Session{Client: "c", Up: true, Changed: noon}), 0, "cancelled"},
		{"never had a desk", nil, nil, 1, "cancelled"},
		{"disabled with the desk still up", func(a *chat.Agent) { a.Reachable, a.Disabled = true, true }, []storage.Session{{Client: "c", Up: true}}, 1, "cancelled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, c, other := able("ann", 1), waitingSince("1", time.Hour), waitingSince("2", time.Hour)
			a.Reachable = false
			if tt.agent != nil {
				tt.agent(&a)
			}
			c.Assign("ann", "Ann")
			other.Assign("bob", "Bob") // taken over since the list was read
			u := unitOf([]chat.Agent{a}, tt.sessions, c, other)
			n, err := giveBack(u, storage.AgentKey{Tenant: "main", ID: "ann"}, []chat.ConversationID{"1", "2"}, true, "agentd", grace, noon)
			if err != nil || n != tt.moved {
				t.Fatalf("giveBack = %d, %v; want %d", n, err, tt.moved)
			}
			if other.Holder != "bob" {
				t.Errorf("bob's conversation is held by %q", other.Holder)
			}
			if moved := c.State == chat.Waiting; moved != (tt.moved == 1) || !c.Since.Equal(noon.Add(-time.Hour)) {
				t.Errorf("conversation %+v, want moved %v and its waiting time kept", *c, tt.moved == 1)
			}
			ch := u.Changes()
			job := ""
			for _, j := range ch.Jobs {
				job = j.At.Format("15:04:05.000")
			}
			if len(ch.Cancelled) > 0 && job == "" {
				job = "cancelled"
			}
			if job != tt.job {
				t.Errorf("job is %q, want %q", job, tt.job)
			}
			if tt.moved == 1 {
				var told []string
				for _, e := range ch.Events {
					told = append(told, e.Inbox.String())
				}
				if d := cmp.Diff([]string{"main/customer/1", "main/queue/main", "main/agent/ann"}, told); d != "" {
					t.Errorf("who was told, the former owner included (-want +got):\n%s", d)
				}
			}
		})
	}
}

func TestABatchThatIsNotTheLastKeepsTheJob(t *testing.T) {
	c := waitingSince("1", time.Hour)
	c.Assign("ann", "Ann")
	a := able("ann", 1)
	a.Reachable = false
	u := unitOf([]chat.Agent{a}, nil, c)
	if n, err := giveBack(u, storage.AgentKey{Tenant: "main", ID: "ann"}, []chat.ConversationID{"1"}, false, "agentd", time.Second, noon); n != 1 || err != nil {
		t.Fatalf("giveBack = %d, %v", n, err)
	}
	if ch := u.Changes(); len(ch.Cancelled) != 0 {
		t.Errorf("cancelled %v; a crash now would leave the rest with an agent who is gone", ch.Cancelled)
	}
}

func TestOneThatWasTakenDoesNotHoldUpTheOthers(t *testing.T) {
	taken, free := waitingSince("1", time.Hour), waitingSince("2", time.Minute)
	taken.Assign("eve", "Eve")
	u := unitOf([]chat.Agent{able("ann", 0)}, nil, taken, free)
	given, err := assign(u, "main", plan{{"1", "ann", 1}, {"2", "ann", 1}}, "agentd", noon)
	if err != nil || len(given) != 1 || free.Holder != "ann" || taken.Holder != "eve" {
		t.Errorf("given %+v, %v; holders %q and %q, want only the free one given to ann", given, err, taken.Holder, free.Holder)
	}
}
