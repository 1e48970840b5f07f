package api_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/agentd/api"
	"holdline/broker/journal"
	jmemory "holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
)

func TestWhatIsSaidIsTheEntryOfAPublish(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	c := w.converse("cid", "ada", 1, time.Minute)
	path := "/conversations/" + string(c.ID)
	for _, r := range []struct{ path, body, id string }{
		{"/messages", `{"id":"m-1","text":"Good morning ☕","epoch":1}`, "m-1"},
		{"/accept", `{"id":"c-1"}`, "c-1"},
		{"/release", `{"id":"c-2","epoch":1}`, "c-2"},
		{"/resolve", `{"id":"c-3","epoch":1}`, "c-3"},
	} {
		if got := into[api.Receipt](t, w.want(202, w.ask("POST", path+r.path, r.body, cookie))); string(got.ID) != r.id {
			t.Errorf("%s: receipt for %q, want %q", r.path, got.ID, r.id)
		}
	}
	type entry struct {
		Topic, Payload, Client string
		Partition              int
	}
	ada := chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "ada"}
	m := topics.MountFor(ada, "desk-1")
	say, _, err := m.Publish(topics.AgentMessage.Name)
	if err != nil {
		t.Fatal(err)
	}
	command, _, err := m.Publish(topics.AgentCommand.Name)
	if err != nil {
		t.Fatal(err)
	}
	p := c.Customer.Slot().Partition()
	id := string(c.ID)
	want := []entry{
		{say, `{"id":"m-1","conversation":"` + id + `","kind":"text","text":"Good morning ☕","epoch":1}`, "api", p},
		{command, `{"id":"c-1","do":"accept","conversation":"` + id + `"}`, "api", p},
		{command, `{"id":"c-2","do":"release","conversation":"` + id + `","epoch":1}`, "api", p},
		{command, `{"id":"c-3","do":"resolve","conversation":"` + id + `","epoch":1}`, "api", p},
	}
	var got []entry
	for _, e := range w.partition(c.ID) {
		got = append(got, entry{e.Topic, string(e.Payload), e.Client, e.Partition})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("journal (-want +got):\n%s", d)
	}
	for _, e := range w.partition(c.ID)[:1] {
		if s, ok := topics.Parse(e.Topic); !ok || s.Account != ada || s.Topic != topics.AgentMessage.Name {
			t.Errorf("the bridge would read %+v", s)
		}
	}
}

func TestWhatCannotBeSaidLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	c := w.converse("cid", "ada", 1, time.Minute)
	path := "/conversations/" + string(c.ID)
	long, err := json.Marshal(strings.Repeat("é", chat.MaxTextBytes/2) + "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		path, body string
		want       int
	}{
		{"/messages", `{"id":"1","text":` + string(long) + `,"epoch":1}`, 413},
		{"/messages", `{"id":"1","text":"` + strings.Repeat("x", 70<<10) + `","epoch":1}`, 413},
		{"/messages", `{"id":"1","text":"","epoch":1}`, 422},
		{"/messages", `{"id":"1","text":"nul \u0000","epoch":1}`, 422},
		{"/messages", `{"id":"1","text":"no epoch"}`, 422},
		{"/messages", `{"id":"1","text":"epoch 0","epoch":0}`, 422},
		{"/messages", `{"text":"no id","epoch":1}`, 422},
		{"/messages", `{"id":"` + strings.Repeat("i", 65) + `","text":"long id","epoch":1}`, 422},
		{"/messages", `{"id":"a\nb","text":"control","epoch":1}`, 422},
		{"/messages", `{"id":"1","text":"kind","epoch":1,"kind":"system"}`, 422},
		{"/messages", `{"id":1,"text":"number","epoch":1}`, 422},
		{"/messages", `"text"`, 422},
		{"/messages", `{"id":`, 400},
		{"/messages", ``, 400},
		{"/accept", `{}`, 422},
		{"/release", `{"id":"1"}`, 422},
		{"/resolve", `{"id":"1"}`, 422},
		{"/resolve", `{"id":"1","epoch":-1}`, 422},
	} {
		if a := w.ask("POST", path+r.path, r.body, cookie); a.status != r.want {
			t.Errorf("%s %.60s: status %d, want %d: %.200s", r.path, r.body, a.status, r.want, a.body)
		} else {
			w.want(r.want, a)
		}
	}
	if got := w.partition(c.ID); len(got) != 0 {
		t.Errorf("%d entries are in the journal, want none", len(got))
	}
}

func TestNothingIsReceivedBeforeItIsDurable(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	c := w.converse("cid", "ada", 1, time.Minute)
	release := w.journal.Hold()
	t.Cleanup(release)
	answered := make(chan answer, 1)
	go func() {
		answered <- w.ask("POST", "/conversations/"+string(c.ID)+"/messages", `{"id":"1","text":"hi","epoch":1}`, cookie)
	}()
	for w.journal.Stats().Waiting == 0 { // the event itself: it was submitted
		select {
		case a := <-answered:
			t.Fatalf("answered %d before it was submitted", a.status)
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case a := <-answered:
		t.Fatalf("answered %d while the disk stands still", a.status)
	default:
	}
	release()
	if a := <-answered; a.status != 202 {
		t.Errorf("status %d, want 202: %s", a.status, a.body)
	}
}

func TestAJournalThatTakesNothing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
	}{
		{"is full", journal.ErrFull, 507},
		{"has failed", journal.ErrFailed, 503},
		{"is closed", journal.ErrClosed, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *api.Config) { c.Journal = &stuck{c.Journal, tt.err} })
			_, cookie := w.signIn("ada")
			c := w.converse("cid", "ada", 1, time.Minute)
			a := w.want(tt.status, w.ask("POST", "/conversations/"+string(c.ID)+"/accept", `{"id":"1"}`, cookie))
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

type stuck struct {
	journal.Journal
	err error
}

func (s *stuck) Append(_ context.Context, sub *journal.Submission) error {
	go sub.Done(journal.Result{Err: s.err})
	return nil
}

// TestADiskThatStandsStillIsNotWaitedForForever runs without a network, so
// that its clock can be the test's.
func TestADiskThatStandsStillIsNotWaitedForForever(t *testing.T) {
	w := newWorld(t)
	c := w.converse("cid", "ada", 1, time.Minute)
	bearer := strings.TrimPrefix(w.bearer(chat.AgentRole, "ada"), "Authorization: ")
	synctest.Test(t, func(t *testing.T) {
		j := jmemory.New()
		release := j.Hold()
		defer j.Close()
		defer release()
		h := api.New(api.Config{Store: w.store, Journal: j, Keys: w.keys, CookieKey: ownKey, Now: w.now})
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/conversations/"+string(c.ID)+"/accept", strings.NewReader(`{"id":"1"}`))
		r.Header.Set("Authorization", bearer)
		begin, out := time.Now(), httptest.NewRecorder()
		h.ServeHTTP(out, r)
		if out.Code != 503 || out.Header().Get("Retry-After") == "" || time.Since(begin) != 10*time.Second {
			t.Errorf("%d after %v, want 503 with Retry-After after 10 s: %s", out.Code, time.Since(begin), out.Body)
		}
	})
}
