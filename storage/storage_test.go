package storage

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
)

var (
	noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ada  = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	bob  = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "bob"}
)

func TestCodecGivesBackWhatItSealed(t *testing.T) {
	var c Codec
	for _, plain := range [][]byte{nil, {}, {0}, []byte("text"), {0xff, 0, 1}} {
		sealed := c.Seal(plain)
		if sealed[0] != 0 {
			t.Errorf("Seal(%q) is under key %d, want 0 for plain", plain, sealed[0])
		}
		got, err := c.Open(sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Open(Seal(%q)) = %q, %v", plain, got, err)
		}
	}
}

func TestCodecRefusesWhatItCannotOpen(t *testing.T) {
	for _, sealed := range [][]byte{nil, {}, {1, 'x'}, {255}} {
		if got, err := (Codec{}).Open(sealed); err == nil {
			t.Errorf("Open(%v) = %q, want an error", sealed, got)
		}
	}
}

func TestTimesAreKeptToTheMillisecond(t *testing.T) {
	for _, tt := range []struct{ in, want time.Time }{
		{time.Time{}, time.Time{}},
		{noon.Add(1999 * time.Microsecond), noon.Add(time.Millisecond)},
		{noon.In(time.FixedZone("", 7200)), noon},
		{time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if got := Time(Millis(tt.in)); !got.Equal(tt.want) || got.Location() != time.UTC {
			t.Errorf("Time(Millis(%v)) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestLimit(t *testing.T) {
	for _, tt := range []struct{ n, want int }{{-1, 200}, {0, 200}, {1, 1}, {200, 200}, {201, 200}} {
		if got := Limit(tt.n, 200); got != tt.want {
			t.Errorf("Limit(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
}

func TestAScopeIsOrderedWithoutChangingTheCallers(t *testing.T) {
	given := Scope{
		Accounts:      []chat.Account{bob, ada, bob},
		Conversations: []chat.ConversationID{"b", "a", "b"},
		Agents:        []AgentKey{{"main", "z"}, {"main", "a"}, {"a", "z"}},
		Said:          []SaidKey{{bob, "1"}, {ada, "2"}, {ada, "1"}, {ada, "1"}},
		Nodes:         []NodeKey{{"n2", 1}, {"n1", 2}, {"n1", 1}, {"n1", 1}},
		Leases:        []Lease{{Name: "b"}, {Name: "a"}, {Name: "b"}},
		Advance:       []Advance{{Partition: 2, Lease: Lease{Name: InputLease(2)}}, {Partition: 1, Lease: Lease{Name: InputLease(1)}}},
	}
	got, err := given.Ordered()
	if err != nil {
		t.Fatal(err)
	}
	want := Scope{
		Accounts:      []chat.Account{ada, bob},
		Conversations: []chat.ConversationID{"a", "b"},
		Agents:        []AgentKey{{"a", "z"}, {"main", "a"}, {"main", "z"}},
		Said:          []SaidKey{{ada, "1"}, {ada, "2"}, {bob, "1"}},
		Nodes:         []NodeKey{{"n1", 1}, {"n1", 2}, {"n2", 1}},
		Leases:        []Lease{{Name: "a"}, {Name: "b"}},
		Advance:       []Advance{given.Advance[1], given.Advance[0]},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Ordered (-want +got):\n%s", d)
	}
	if given.Accounts[0] != bob || given.Advance[0].Partition != 2 {
		t.Error("the caller's slices were sorted")
	}
}

func TestAScopeThatCannotBe(t *testing.T) {
	one := Advance{Partition: 1, Lease: Lease{Name: InputLease(1)}}
	for name, tt := range map[string]struct {
		scope Scope
		want  error
	}{
		"another partition's lease": {Scope{Advance: []Advance{{Partition: 1, Lease: Lease{Name: "input/02"}}}}, ErrFenced},
		"a partition moved twice":   {Scope{Advance: []Advance{one, one}}, ErrPermanent},
		"an account with U+0000":    {Scope{Accounts: []chat.Account{{Tenant: "main", Role: chat.Customer, Subject: "a\x00"}}}, ErrPermanent},
		"an id that is not UTF-8":   {Scope{Said: []SaidKey{{ada, "\xff"}}}, ErrPermanent},
		"a conversation":            {Scope{Conversations: []chat.ConversationID{"\x00"}}, ErrPermanent},
		"an agent of endless name":  {Scope{Agents: []AgentKey{{"main", strings.Repeat("a", MaxKeyBytes+1)}}}, ErrPermanent},
		"a node":                    {Scope{Nodes: []NodeKey{{Node: "\x00"}}}, ErrPermanent},
	} {
		if _, err := tt.scope.Ordered(); !errors.Is(err, tt.want) {
			t.Errorf("%s: Ordered = %v, want %v", name, err, tt.want)
		}
	}
}

// unit is one on two accounts and an open conversation of ada's.
func unit() (*Unit, *chat.Conversation) {
	c := chat.Open("00", ada, "", chat.DefaultQueue, noon)
	c.Seq = 4
	return NewUnit(Loaded{
		Accounts:      map[chat.Account]*Account{ada: {Account: ada}, bob: {Account: bob}},
		Said:          map[SaidKey]Said{},
		Conversations: map[chat.ConversationID]*chat.Conversation{c.ID: c},
		Sessions:      map[chat.Account][]Session{},
		Missing:       map[chat.ConversationID]bool{"gone": true},
	}), c
}

func TestAUnitPanicsForWhatItsScopeDidNotName(t *testing.T) {
	other := chat.Account{Tenant: "other", Role: chat.Customer, Subject: "ada"}
	for name, ask := range map[string]func(*Unit){
		"an account":     func(u *Unit) { u.Account(other) },
		"an open one":    func(u *Unit) { u.Open(other) },
		"sessions":       func(u *Unit) { u.Sessions(other) },
		"a name":         func(u *Unit) { u.Named(other, "x", noon) },
		"a conversation": func(u *Unit) { _, _ = u.Conversation("unnamed") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			u, _ := unit()
			ask(u)
		})
	}
	u, _ := unit()
	if _, err := u.Conversation("gone"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("a named one that is missing = %v", err)
	}
}

func TestAUnitKnowsWhatIsOpenNow(t *testing.T) {
	u, c := unit()
	if u.Open(ada) != c || u.Open(bob) != nil {
		t.Error("what was loaded as open is not")
	}
	c.State = chat.Resolved
	u.Touch(c)
	if u.Open(ada) != nil {
		t.Error("a resolved one is open")
	}
	next := chat.Open("01", ada, "", chat.DefaultQueue, noon)
	u.Touch(next)
	if u.Open(ada) != next {
		t.Error("a new one is not open")
	}
	got := u.Changes().Conversations
	if len(got) != 2 || got[0] != c || got[1] != next {
		t.Errorf("written are %v, want the closed one first", got)
	}
}

func TestMessagesFollowOneAnother(t *testing.T) {
	for name, tt := range map[string]struct {
		decide func(*Unit, *chat.Conversation)
		ok     bool
	}{
		"none": {func(*Unit, *chat.Conversation) {}, true},
		"two": {func(u *Unit, c *chat.Conversation) {
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			u.Touch(c)
		}, true},
		"a gap":       {func(u *Unit, c *chat.Conversation) { c.Seq++; u.Add(c.Number(ada, "", chat.Say{}, noon)); u.Touch(c) }, false},
		"not touched": {func(u *Unit, c *chat.Conversation) { u.Add(c.Number(ada, "", chat.Say{}, noon)) }, false},
		"out of order": {func(u *Unit, c *chat.Conversation) {
			m := c.Number(ada, "", chat.Say{}, noon)
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			u.Add(m)
			u.Touch(c)
		}, false},
		"one not added": {func(u *Unit, c *chat.Conversation) {
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			c.Number(ada, "", chat.Say{}, noon)
			u.Touch(c)
		}, false},
	} {
		u, c := unit()
		tt.decide(u, c)
		changes := u.Changes()
		if err := changes.Storable(); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrPermanent) {
			t.Errorf("%s: Storable = %v", name, err)
		}
	}
}

func TestChangesKeepTheLastOfEach(t *testing.T) {
	u, _ := unit()
	u.Named(ada, "A", noon)
	u.Named(bob, "B", noon)
	u.Named(ada, "Ada", noon)
	u.PutSession(Session{Account: ada, Client: "phone", Epoch: 1})
	u.PutSession(Session{Account: bob, Client: "phone", Epoch: 1})
	u.PutSession(Session{Account: ada, Client: "phone", Epoch: 2})
	u.Cancel("b")
	u.Cancel("a")
	u.Cancel("b")
	u.Schedule(Job{ID: "b", Kind: "old"})
	u.Schedule(Job{ID: "c"})
	u.Schedule(Job{ID: "b", Kind: "new"})
	u.Cancel("c")
	c := u.Changes()
	if len(c.Accounts) != 2 || c.Accounts[1].Name != "Ada" {
		t.Errorf("accounts = %v", c.Accounts)
	}
	if d := cmp.Diff([]Session{{Account: bob, Client: "phone", Epoch: 1}, {Account: ada, Client: "phone", Epoch: 2}}, c.Sessions); d != "" {
		t.Errorf("sessions: %s", d)
	}
	if d := cmp.Diff([]Job{{ID: "b", Kind: "new"}}, c.Jobs); d != "" {
		t.Errorf("jobs: %s", d)
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, c.Cancelled); d != "" {
		t.Errorf("cancelled: %s", d)
	}
}
