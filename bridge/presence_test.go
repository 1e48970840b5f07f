package bridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// grace is the job that ends gus's grace, if there is one.
func (w *world) grace() (storage.Job, bool) {
	w.Helper()
	jobs, err := w.store.DueJobs(w.Context(), []string{"grace"}, time.Now().Add(time.Hour), 0, 10)
	if err != nil {
		w.Fatal(err)
	}
	if len(jobs) == 0 {
		return storage.Job{}, false
	}
	return jobs[0], true
}

func (w *world) reachable(id string) bool {
	w.Helper()
	agents, err := w.store.Agents(w.Context(), "main")
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range agents {
		if a.ID == id {
			return a.Reachable
		}
	}
	return false
}

func nodeStart(node string) []journal.Entry {
	var all []journal.Entry
	for p := range chat.Partitions {
		all = append(all, journal.Entry{Topic: topics.NodeStart(node), Payload: []byte("{}"), Partition: p})
	}
	return all
}

func TestGraceBeginsWithTheLastSessionOfAnAgent(t *testing.T) {
	w := newWorld(t)
	w.start("a", func(b *Bridge) { b.Grace = time.Minute })
	w.take(session(gus, "desk-1", "n1", 1, true), session(gus, "desk-2", "n1", 1, true))
	if !w.reachable("gus") {
		t.Error("gus is not reachable with two sessions up")
	}
	w.take(session(gus, "desk-1", "n1", 1, false))
	if _, ok := w.grace(); ok || !w.reachable("gus") {
		t.Errorf("grace %t, reachable %t with one session up", ok, w.reachable("gus"))
	}
	before := time.Now()
	w.take(session(gus, "desk-2", "n1", 1, false))
	job, ok := w.grace()
	if !ok || w.reachable("gus") {
		t.Fatalf("grace %t, reachable %t with no session up", ok, w.reachable("gus"))
	}
	var who map[string]string
	if err := json.Unmarshal(job.Payload, &who); err != nil || who["tenant"] != "main" || who["agent"] != "gus" {
		t.Errorf("payload %s (%v)", job.Payload, err)
	}
	if job.ID != "grace:main/gus" || job.At.Before(before.Add(time.Minute-time.Second)) || job.At.After(time.Now().Add(time.Minute)) {
		t.Errorf("job %+v, want a minute after the entry", job)
	}
	w.take(session(gus, "desk-1", "n1", 2, true))
	if _, ok := w.grace(); ok {
		t.Error("grace goes on with a session up")
	}
}

func TestAnOlderSessionEpochChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(session(gus, "desk", "n1", 7, true), session(gus, "desk", "n1", 6, false))
	if !w.reachable("gus") {
		t.Error("the end of an older connection took down a newer one")
	}
}

func TestANodeStartTakesDownWhatWasUpOnIt(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	w.take(session(gus, "desk", "n1", 1, true), session(ida, "desk", "n2", 1, true), session(ida, "desk-b", "n1", 1, true))
	w.take(nodeStart("n1")...)
	if w.reachable("gus") {
		t.Error("gus is up on a node that has started since")
	}
	if !w.reachable("ida") {
		t.Error("ida is down, but is connected to the other node")
	}
	if job, ok := w.grace(); !ok || job.ID != "grace:main/gus" {
		t.Errorf("grace %+v %t, want gus's", job, ok)
	}
	w.take(session(gus, "desk", "n1", 2, true))
	if !w.reachable("gus") {
		t.Error("gus came back and is not up")
	}
}

// In one group: what came before the start is down, what came after it is up.
func TestANodeStartInTheMiddleOfAGroup(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after bool
	}{{"before", false}, {"after", true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			entries := append([]journal.Entry{session(gus, "desk", "n1", 1, true)}, nodeStart("n1")...)
			if tt.after {
				entries = append(entries, session(gus, "desk", "n1", 2, true))
			}
			w.append(entries...)
			w.start("a")
			w.settle()
			if got := w.reachable("gus"); got != tt.after {
				t.Errorf("reachable = %t, want %t", got, tt.after)
			}
			if _, ok := w.grace(); ok == tt.after {
				t.Errorf("grace = %t, want %t", ok, !tt.after)
			}
		})
	}
}

func TestPresenceThatIsReadAgainEndsTheSame(t *testing.T) {
	w := newWorld(t)
	all := []journal.Entry{session(gus, "desk", "n1", 1, true)}
	all = append(all, nodeStart("n1")...)
	all = append(all, session(gus, "desk", "n1", 2, true), session(ida, "desk", "n1", 1, true), session(ida, "desk", "n1", 1, false))
	w.append(all...)
	w.start("a").stop()
	b := w.start("a")
	w.settle()
	if _, err := w.journal.Renew(t.Context()); err != nil { // everything is read again
		t.Fatal(err)
	}
	b.input.signal()
	w.settle()
	if !w.reachable("gus") || w.reachable("ida") {
		t.Errorf("gus up %t, ida up %t; want gus only", w.reachable("gus"), w.reachable("ida"))
	}
}

// A start that is read again says nothing about sessions that came after it.
func TestAnOldNodeStartLeavesNewerSessionsAlone(t *testing.T) {
	began := time.Now()
	start := nodeStart("n1")[gus.Slot().Partition()]
	start.Seq, start.At = 1, began
	it, err := read(&start)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		changed time.Time
		want    int
	}{
		{"before", began.Add(-time.Second), 1},
		{"after", began.Add(time.Second), 0},
	} {
		u := storage.NewUnit(storage.Loaded{
			Accounts: map[chat.Account]*storage.Account{gus: {Account: gus}},
			Sessions: map[chat.Account][]storage.Session{gus: {{Account: gus, Client: "desk", Node: "n1", Epoch: 4, Up: true, Changed: tt.changed}}},
			Nodes:    map[storage.NodeKey][]chat.Account{it.node(): {gus}},
		})
		if _, err := decide(u, []*item{it}, chat.Grace); err != nil {
			t.Fatal(err)
		}
		if got := u.Changes(); len(got.Sessions) != tt.want || len(got.Jobs) != tt.want {
			t.Errorf("a session that changed %s the start: %d sessions go down, %d graces begin, want %d", tt.name, len(got.Sessions), len(got.Jobs), tt.want)
		}
	}
}

func TestNamesAreCleanedAndBounded(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	e := session(ada, "phone", "n1", 1, true)
	e.Payload, _ = json.Marshal(chat.Presence{Up: true, Epoch: 1, Node: "n1", Name: "A\x00d\na" + strings.Repeat("é", 100)})
	w.take(e, says(ada, "1", "hello"))
	if got := w.only().CustomerName; !strings.HasPrefix(got, "Ada") || len(got) > 128 {
		t.Errorf("name %q", got)
	}
}

func TestAgentdIsWokenWhenThereIsWorkForIt(t *testing.T) {
	w := newWorld(t)
	heard := make(chan string, 100)
	defer w.journal.Listen(func(a journal.Announcement) { heard <- a.Topic })()
	w.start("a")
	c := func() chat.ConversationID { return w.only().ID }
	for _, step := range []struct {
		name  string
		input func() journal.Entry
		want  bool
	}{
		{"a customer came", func() journal.Entry { return session(ada, "phone", "n1", 1, true) }, false},
		{"an agent came", func() journal.Entry { return session(gus, "desk", "n1", 1, true) }, true},
		{"the agent's other window", func() journal.Entry { return session(gus, "desk-2", "n1", 1, true) }, false},
		{"a conversation begins to wait", func() journal.Entry { return says(ada, "1", "hello") }, true},
		{"a further word", func() journal.Entry { return says(ada, "2", "hello?") }, false},
		{"it is accepted", func() journal.Entry { return does(gus, "c1", chat.ActAccept, c(), 0) }, true},
		{"an answer", func() journal.Entry { return saysIn(gus, "m1", c(), 1, "hi") }, false},
		{"it is given back", func() journal.Entry { return does(gus, "c2", chat.ActRelease, c(), 1) }, true},
		{"it is accepted again", func() journal.Entry { return does(gus, "c3", chat.ActAccept, c(), 0) }, true},
		{"it is resolved", func() journal.Entry { return does(gus, "c4", chat.ActResolve, c(), 3) }, true},
		{"it opens again", func() journal.Entry { return saysIn(ada, "3", c(), 0, "one more thing") }, true},
	} {
		w.take(step.input())
		// The reply to this is announced by the committer itself, so it comes after
		// everything that it announced before.
		w.append(publishes(ada, "up/request", []byte(`{"request":"end","op":"?"}`)))
		woken := false
		for topic := range heard {
			if topic == topics.Reply(ada, "ada-1") {
				break
			}
			woken = woken || topic == topics.Wake("agentd")
		}
		if woken != step.want {
			t.Errorf("%s: agentd woken %t, want %t", step.name, woken, step.want)
		}
	}
}
