package bridge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/journal"
	"holdline/chat"
	"holdline/storage"
)

// brief writes events as a test can list them.
func brief(list []chat.Event) []string {
	var out []string
	for _, e := range list {
		switch e.Type {
		case chat.TypeMessage:
			out = append(out, fmt.Sprintf("message %d %s %s", e.Seq, e.From.Name, e.Text))
		case chat.TypeConversation:
			holder := ""
			if e.Head.Agent != nil {
				holder = " " + e.Head.Agent.Name
			}
			out = append(out, fmt.Sprintf("head %s%s last %d", e.Head.State, holder, e.Head.LastSeq))
		case chat.TypeRefused:
			out = append(out, fmt.Sprintf("refused %s %s", e.ID, e.Reason))
		case chat.TypeDone:
			out = append(out, fmt.Sprintf("done %s", e.ID))
		}
	}
	return out
}

func (w *world) wantTold(i chat.Inbox, want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, brief(w.told(i))); diff != "" {
		w.Errorf("%s was told (-want +got):\n%s", i, diff)
	}
}

var queue = chat.DefaultQueue.Inbox("main")

func TestAConversationFromTheFirstWordToTheLast(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(session(ada, "phone", "n1", 1, true), says(ada, "1", "hello"))
	c := w.only()
	w.take(does(gus, "c1", chat.ActAccept, c.ID, 0))
	epoch := w.only().Epoch
	w.take(saysIn(gus, "g1", c.ID, epoch, "hi"), says(ada, "2", "thanks"))
	w.take(does(gus, "c2", chat.ActResolve, c.ID, epoch))

	w.wantTexts(c.ID, "1 ada hello", "2 gus hi", "3 ada thanks")
	w.wantTold(ada.Inbox(),
		"message 1 ADA hello", "head waiting last 1",
		"head held GUS last 1",
		"message 2 GUS hi", "message 3 ADA thanks",
		"head resolved GUS last 3")
	w.wantTold(gus.Inbox(),
		"head held GUS last 1", "done c1",
		"message 2 GUS hi", "message 3 ADA thanks",
		"head resolved GUS last 3", "done c2")
	w.wantTold(queue,
		"message 1 ADA hello", "head waiting last 1", "head held GUS last 1", "head resolved GUS last 3")
	w.audit()

	var actions []string
	trail, err := w.store.AuditTrail(t.Context(), "main", string(c.ID), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range trail {
		actions = append(actions, a.Actor+" "+a.Action)
		if strings.Contains(a.Detail, "hello") {
			t.Errorf("audit holds what was said: %+v", a)
		}
	}
	want := []string{"main/agent/gus resolve", "main/agent/gus accept", "main/customer/ada open"}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	agents, err := w.store.Agents(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if agents[0].ID != "gus" || agents[0].IdleSince.IsZero() {
		t.Errorf("agent who accepted: %+v, want IdleSince set", agents[0])
	}
}

// TestRules gives each input to the same world: ada's conversation is held by
// gus under epoch 1, bea's was resolved under epoch 2.
func TestRules(t *testing.T) {
	const missing = "00aabbccddeeff001122334455"
	type given struct {
		held, closed chat.ConversationID
	}
	for _, tt := range []struct {
		name  string
		input func(g given) journal.Entry
		who   chat.Account
		want  string // the last thing who is told
		open  int    // conversations that are new
	}{
		{"a customer's word goes to the open conversation", func(given) journal.Entry { return says(ada, "n", "more") }, ada, "message 2 ADA more", 0},
		{"a conversation may be named", func(g given) journal.Entry { return saysIn(ada, "n", g.held, 0, "more") }, ada, "message 2 ADA more", 0},
		{"one that does not exist", func(given) journal.Entry { return saysIn(ada, "n", missing, 0, "x") }, ada, "refused n not_found", 0},
		{"somebody else's", func(g given) journal.Entry { return saysIn(bea, "n", g.held, 0, "x") }, bea, "refused n forbidden", 0},
		{"a resolved one opens again when named", func(g given) journal.Entry { return saysIn(bea, "n", g.closed, 0, "again") }, bea, "head waiting last 2", 0},
		{"without naming it a new one opens", func(given) journal.Entry { return says(bea, "n", "new") }, bea, "head waiting last 1", 1},
		{"a repeat is told what became of it", func(given) journal.Entry { return says(ada, "1", "hello") }, ada, "done 1", 0},
		{"a repeat may have learnt the conversation", func(g given) journal.Entry { return saysIn(ada, "1", g.held, 0, "hello") }, ada, "done 1", 0},
		{"the same id for other content", func(given) journal.Entry { return says(ada, "1", "other") }, ada, "refused 1 conflict", 0},
		{"the same id for another conversation", func(g given) journal.Entry { return saysIn(ada, "1", g.closed, 0, "hello") }, ada, "refused 1 conflict", 0},
		{"an agent answers what is the agent's", func(g given) journal.Entry { return saysIn(gus, "n", g.held, 1, "yes") }, gus, "message 2 GUS yes", 0},
		{"an agent under an old epoch", func(g given) journal.Entry { return saysIn(gus, "n", g.held, 0, "yes") }, gus, "refused n not_owner", 0},
		{"an agent in a colleague's conversation", func(g given) journal.Entry { return saysIn(ida, "n", g.held, 1, "yes") }, ida, "refused n not_owner", 0},
		{"an agent in a resolved conversation", func(g given) journal.Entry { return saysIn(gus, "n", g.closed, 2, "yes") }, gus, "refused n closed", 0},
		{"an agent who names no conversation", func(given) journal.Entry { return says(gus, "n", "yes") }, gus, "refused n invalid", 0},
		{"an agent and a conversation that is not", func(given) journal.Entry { return saysIn(gus, "n", missing, 1, "x") }, gus, "refused n not_found", 0},
		{"accepting a colleague's", func(g given) journal.Entry { return does(ida, "n", chat.ActAccept, g.held, 0) }, ida, "refused n conflict", 0},
		{"accepting what is one's own", func(g given) journal.Entry { return does(gus, "n", chat.ActAccept, g.held, 0) }, gus, "done n", 0},
		{"accepting what is resolved", func(g given) journal.Entry { return does(gus, "n", chat.ActAccept, g.closed, 0) }, gus, "refused n closed", 0},
		{"releasing", func(g given) journal.Entry { return does(gus, "n", chat.ActRelease, g.held, 1) }, gus, "done n", 0},
		{"releasing under an old epoch", func(g given) journal.Entry { return does(gus, "n", chat.ActRelease, g.held, 7) }, gus, "refused n not_owner", 0},
		{"resolving a colleague's", func(g given) journal.Entry { return does(ida, "n", chat.ActResolve, g.held, 1) }, ida, "refused n not_owner", 0},
		{"a command repeated", func(g given) journal.Entry { return does(gus, "c1", chat.ActAccept, g.held, 0) }, gus, "done c1", 0},
		{"a command's id for another command", func(g given) journal.Entry { return does(gus, "c1", chat.ActResolve, g.held, 1) }, gus, "refused c1 conflict", 0},
		{"a command's id for a message", func(g given) journal.Entry { return saysIn(gus, "c1", g.held, 1, "x") }, gus, "refused c1 conflict", 0},
		{"an agent who is not on the staff", func(g given) journal.Entry {
			return does(chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "eve"}, "n", chat.ActAccept, g.held, 0)
		}, chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "eve"}, "refused n forbidden", 0},
		{"a customer who commands", func(g given) journal.Entry { return does(ada, "n", chat.ActResolve, g.held, 1) }, ada, "refused  forbidden", 0},
		{"a service that speaks", func(g given) journal.Entry {
			return saysIn(chat.Account{Tenant: "main", Role: chat.Service, Subject: "crm"}, "n", g.held, 1, "x")
		}, chat.Account{Tenant: "main", Role: chat.Service, Subject: "crm"}, "refused  forbidden", 0},
		{"another tenant's agent", func(g given) journal.Entry {
			return does(chat.Account{Tenant: "other", Role: chat.AgentRole, Subject: "gus"}, "n", chat.ActAccept, g.held, 0)
		}, chat.Account{Tenant: "other", Role: chat.AgentRole, Subject: "gus"}, "refused n forbidden", 0},
		{"not JSON", func(given) journal.Entry { return publishes(ada, "up/message", []byte("{")) }, ada, "refused  invalid", 0},
		{"a wrong type", func(given) journal.Entry { return publishes(ada, "up/message", []byte(`{"id":"n","text":7}`)) }, ada, "refused n invalid", 0},
		{"no id", func(given) journal.Entry { return publishes(ada, "up/message", []byte(`{"text":"x"}`)) }, ada, "refused  invalid", 0},
		{"too much", func(given) journal.Entry { return says(ada, "n", strings.Repeat("x", chat.MaxTextBytes+1)) }, ada, "refused n too_large", 0},
		{"a command that is none", func(g given) journal.Entry { return does(gus, "n", "steal", g.held, 1) }, gus, "refused n invalid", 0},
		{"what the broker refused", func(given) journal.Entry {
			e := publishes(ada, "up/elsewhere", []byte{})
			e.Refused, _ = json.Marshal(chat.Refusal{ID: "n", Reason: chat.ReasonForbidden, Detail: "no"})
			return e
		}, ada, "refused n forbidden", 0},
		{"what the broker refused and nobody can read", func(given) journal.Entry {
			e := publishes(ada, "up/message", []byte{})
			e.Refused = []byte("?")
			return e
		}, ada, "refused  invalid", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.start("a")
			w.take(session(ada, "phone", "n1", 1, true), session(bea, "phone", "n1", 1, true), says(bea, "1", "first"))
			closed := w.only().ID
			w.take(does(gus, "c2", chat.ActAccept, closed, 0))
			w.take(does(gus, "c3", chat.ActResolve, closed, 1))
			w.take(says(ada, "1", "hello"))
			var held chat.ConversationID
			for _, c := range w.conversations() {
				if c.ID != closed {
					held = c.ID
				}
			}
			// The order of what gus is told does not matter here but for the last one.
			w.take(does(gus, "c1", chat.ActAccept, held, 0))
			before := len(w.told(tt.who.Inbox()))

			nextMillisecond() // a repeat is later than what it repeats
			w.take(tt.input(given{held, closed}))

			after := brief(w.told(tt.who.Inbox()))
			if len(after) == 0 || after[len(after)-1] != tt.want {
				t.Errorf("told %q, want the last to be %q", after, tt.want)
			}
			if strings.HasPrefix(tt.want, "refused") && len(after) != before+1 {
				t.Errorf("a refusal told %d events, want 1", len(after)-before)
			}
			if got := len(w.conversations()); got != 2+tt.open {
				t.Errorf("%d conversations, want %d", got, 2+tt.open)
			}
			w.audit()
		})
	}
}

func TestADisabledAgentIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(says(ada, "1", "hello"))
	c := w.only()
	agent := chat.Agent{Tenant: "main", ID: "gus", Name: "GUS", Intent: chat.Available, Capacity: 3, Disabled: true}
	if err := w.store.PutAgent(t.Context(), storage.Credential{Agent: agent}, false, storage.Audit{Tenant: "main", Actor: "test", Action: "disable", Object: "gus"}); err != nil {
		t.Fatal(err)
	}
	w.take(does(gus, "c1", chat.ActAccept, c.ID, 0))
	w.wantTold(gus.Inbox(), "refused c1 forbidden")
}

func TestAConversationIsNotOpenedAgainBesideAnOpenOne(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(says(ada, "1", "first"))
	first := w.only().ID
	w.take(does(gus, "c1", chat.ActAccept, first, 0))
	w.take(does(gus, "c2", chat.ActResolve, first, 1))
	w.take(says(ada, "2", "second"), saysIn(ada, "3", first, 0, "and the first?"))
	if e := w.last(ada.Inbox()); e.Type != chat.TypeRefused || e.Reason != chat.ReasonClosed {
		t.Errorf("told %+v, want refused closed", e)
	}
	w.audit()
}

func TestTwoFirstMessagesAtOnceOpenOneConversation(t *testing.T) {
	w := newWorld(t)
	one, two := says(ada, "1", "from the phone"), says(ada, "2", "from the tablet")
	one.Client, two.Client = "phone", "tablet"
	w.append(one, two)
	w.start("a")
	w.settle()
	w.wantTexts(w.only().ID, "1 ada from the phone", "2 ada from the tablet")
	w.audit()
}

// nextMillisecond waits for the clock to show another time than what was said so far.
func nextMillisecond() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() == now; {
	}
}

func TestARepeatInTheSameGroupIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	w.append(says(ada, "1", "hello"), says(ada, "1", "hello"), says(ada, "1", "other"), says(ada, "2", "bye"))
	b := w.start("a")
	w.settle()
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada bye")
	w.wantTold(ada.Inbox(), "message 1 ada hello", "head waiting last 1", "refused 1 conflict", "message 2 ada bye")
	if s := b.Stats(); s.Duplicates != 1 || s.Refused[chat.ReasonConflict] != 1 {
		t.Errorf("stats %+v, want one duplicate and one conflict", s)
	}
}

func TestReleaseKeepsTheWaitingTimeAndTellsTheFormerOwner(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(says(ada, "1", "hello"))
	since := w.only().Since
	w.take(does(gus, "c1", chat.ActAccept, w.only().ID, 0))
	w.take(does(gus, "c2", chat.ActRelease, w.only().ID, 1))
	c := w.only()
	if c.State != chat.Waiting || !c.Since.Equal(since) || c.Epoch != 2 {
		t.Errorf("released: %+v, want waiting since %s under epoch 2", c, since)
	}
	w.wantTold(gus.Inbox(), "head held GUS last 1", "done c1", "head waiting last 1", "done c2")
	w.take(does(ida, "c3", chat.ActAccept, c.ID, 0), saysIn(gus, "late", c.ID, 1, "I was about to say"))
	if e := w.last(gus.Inbox()); e.Reason != chat.ReasonNotOwner {
		t.Errorf("a former owner is told %+v, want not_owner", e)
	}
	w.wantTexts(c.ID, "1 ada hello")
}

// An agent whom agentd gave the conversation confirms it with the first answer.
func TestAnAnswerConfirms(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(says(ada, "1", "hello"))
	id := w.only().ID
	scope := storage.Scope{Conversations: []chat.ConversationID{id}, ConversationsOf: "main"}
	err := w.store.Store.Transact(t.Context(), scope, func(u *storage.Unit) error {
		c, err := u.Conversation(id)
		if err != nil {
			return err
		}
		u.Touch(c)
		return c.Assign("gus", "GUS")
	})
	if err != nil {
		t.Fatal(err)
	}
	w.take(saysIn(gus, "g1", id, 1, "hi"), saysIn(gus, "g2", id, 1, "how can I help?"))
	w.wantTold(gus.Inbox(), "message 2 GUS hi", "head held GUS last 2", "message 3 GUS how can I help?")
	if !w.only().Accepted {
		t.Error("the conversation is not accepted")
	}
}

func TestTenantsShareNothing(t *testing.T) {
	w := newWorld(t)
	b := w.start("a")
	theirs := chat.Account{Tenant: "other", Role: chat.Customer, Subject: "ada"}
	w.take(says(ada, "1", "hello"), says(theirs, "1", "bonjour"))
	c := w.only()
	w.take(saysIn(ada, "2", c.ID, 0, "mine"), saysIn(theirs, "2", c.ID, 0, "mine"), saysIn(ada, "3", c.ID, 0, "still"))
	w.wantTexts(c.ID, "1 ada hello", "2 ada mine", "3 ada still")
	if e := w.last(theirs.Inbox()); e.Reason != chat.ReasonNotFound {
		t.Errorf("another tenant is told %+v, want not_found", e)
	}
	b.stop()
}

func TestTimeOfAMessageIsThatOfItsEntryAndNeverFalls(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	begin := time.Now().Add(-time.Second)
	w.take(says(ada, "1", "a"), says(ada, "2", "b"))
	page, err := w.store.Messages(t.Context(), "main", w.only().ID, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if page[0].At.Before(page[1].At) || page[1].At.Before(begin) || page[1].At.After(time.Now()) {
		t.Errorf("times %s then %s", page[1].At, page[0].At)
	}
}
