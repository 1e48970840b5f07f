package api_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/agentd"
	"holdline/agentd/api"
	"holdline/broker/journal"
	"holdline/broker/token"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

var update = flag.Bool("update", false, "write openapi.json anew")

func TestTheDocumentIsTheCommittedOne(t *testing.T) {
	w := newWorld(t)
	a := w.want(200, w.ask("GET", "/openapi.json", ""))
	if *update {
		if err := os.WriteFile("openapi.json", a.body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.body, want) {
		t.Errorf("the API has changed. If that is meant: go test ./agentd/api -run Document -update, and look at the difference.\n%s", cmp.Diff(string(want), string(a.body)))
	}
	type document struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]any
	}
	d := into[document](t, a)
	n := 0
	for _, p := range d.Paths {
		n += len(p)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || n != 13 {
		t.Errorf("OpenAPI %s with %d operations, want 3.1 with 13", d.OpenAPI, n)
	}
}

// routes is every route that needs somebody, with a body that is right.
func routes(id chat.ConversationID) []struct{ method, path, body string } {
	c := "/conversations/" + string(id)
	return []struct{ method, path, body string }{
		{"GET", "/session", ""},
		{"GET", "/me", ""},
		{"PUT", "/me/intent", `{"intent":"busy"}`},
		{"GET", "/desk", ""},
		{"GET", "/conversations", ""},
		{"GET", c, ""},
		{"GET", c + "/messages", ""},
		{"POST", c + "/messages", `{"id":"1","text":"hi","epoch":1}`},
		{"POST", c + "/accept", `{"id":"2"}`},
		{"POST", c + "/release", `{"id":"3","epoch":1}`},
		{"POST", c + "/resolve", `{"id":"4","epoch":1}`},
	}
}

// TestWhoMayDoWhat goes through every route with every kind of caller.
func TestWhoMayDoWhat(t *testing.T) {
	w := newWorld(t)
	c := w.converse("cid", "ada", 1, time.Minute)
	session, cookie := w.signIn("ada")
	expired, err := w.keys.Issue(token.Claims{
		Account: chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "ada"}, Issued: w.now().Add(-2 * time.Hour), Expires: w.now().Add(-time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := w.keys.Issue(token.Claims{
		Account: chat.Account{Tenant: "other", Role: chat.Service, Subject: "crm"}, Issued: w.now(), Expires: w.now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := (agentd.Staff{Store: w.store, By: "test"}).Disable(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	// One letter for each of routes(): 2 is a success, 1 is 401, 3 is 403, 4 is 404.
	for _, tt := range []struct{ name, header, want string }{
		{"nobody", "X-Nobody: 1", "11111111111"},
		{"an agent by cookie", cookie, "22222222222"},
		{"an agent by the desk's token", "Authorization: Bearer " + session.Token, "12222222222"},
		{"a service", w.bearer(chat.Service, "crm"), "13332223333"},
		{"a customer", w.bearer(chat.Customer, "cid"), "13333333333"},
		{"a device", w.bearer(chat.Device, "lock"), "13333333333"},
		{"an agent who does not exist", w.bearer(chat.AgentRole, "eve"), "13333333333"},
		{"an agent who is disabled", w.bearer(chat.AgentRole, "bob"), "13333333333"},
		{"an expired token", "Authorization: Bearer " + expired, "11111111111"},
		{"a token of another scheme", "Authorization: Basic YWRhOmFkYQ==", "11111111111"},
		{"no token at all", "Authorization: Bearer", "11111111111"},
		{"a service of another tenant", "Authorization: Bearer " + foreign, "13332444444"},
	} {
		got := ""
		for _, r := range routes(c.ID) {
			a := w.ask(r.method, r.path, r.body, tt.header)
			switch {
			case a.status < 300:
				got += "2"
			case a.status == 401:
				got += "1"
				if a.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s: 401 without WWW-Authenticate", tt.name)
				}
			case a.status == 403:
				got += "3"
			case a.status == 404:
				got += "4"
			default:
				got += fmt.Sprint("(", a.status, ")")
			}
			if a.status >= 400 {
				w.want(a.status, a)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	missing := "/conversations/00112233445566778899aabbcc"
	w.want(404, w.ask("GET", missing, "", cookie))
	w.want(404, w.ask("GET", missing+"/messages", "", cookie))
	w.want(404, w.ask("POST", missing+"/messages", `{"id":"1","text":"hi","epoch":1}`, cookie))
	w.want(404, w.ask("POST", missing+"/accept", `{"id":"1"}`, cookie))
	w.want(404, w.ask("POST", missing+"/delete", `{"id":"1"}`, cookie))
	w.want(404, w.ask("GET", "/nothing", "", cookie))
	w.want(404, w.ask("GET", "/docs", ""))
	w.want(404, w.ask("GET", "/openapi.yaml", ""))
	w.want(422, w.ask("GET", "/conversations/abc", "", cookie))
	a := w.want(405, w.ask("DELETE", "/me", "", cookie))
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "GET") {
		t.Errorf("Allow = %q, want GET in it", allow)
	}
}

func TestEveryAnswerIsCautious(t *testing.T) {
	w := newWorld(t)
	for _, a := range []answer{w.ask("GET", "/me", ""), w.ask("GET", "/openapi.json", ""), w.ask("GET", "/nothing", "")} {
		for k, v := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin":  "",
		} {
			if got := a.header.Get(k); got != v {
				t.Errorf("%d has %s: %q, want %q", a.status, k, got, v)
			}
		}
	}
}

func TestIntent(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	woken := make(chan string, 10)
	stop := w.journal.Listen(func(a journal.Announcement) { woken <- a.Topic })
	defer stop()
	a := into[api.Agent](t, w.want(200, w.ask("PUT", "/me/intent", `{"intent":"away"}`, cookie)))
	if a.Intent != chat.Away || a.ID != "ada" {
		t.Errorf("agent = %+v", a)
	}
	if got := <-woken; got != topics.Wake("agentd") {
		t.Errorf("woken %q, want agentd", got)
	}
	if me := into[api.Agent](t, w.ask("GET", "/me", "", cookie)); me.Intent != chat.Away {
		t.Errorf("me = %+v, want away", me)
	}
	for _, body := range []string{`{"intent":"asleep"}`, `{"intent":""}`, `{}`, `{"intent":1}`, `{"intent":"away","capacity":99}`} {
		w.want(422, w.ask("PUT", "/me/intent", body, cookie))
	}
}

func TestTheDeskIsCompleteUpToItsEvents(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	waiting := w.converse("c1", "", 2, time.Minute)
	own := w.converse("c2", "ada", 3, time.Hour)
	longest := w.converse("c3", "", 1, 2*time.Hour)
	others := w.converse("c4", "bob", 1, 3*time.Hour)
	resolved := w.converse("c5", "ada", 1, 4*time.Hour)
	err := w.store.Transact(t.Context(), storage.Scope{Conversations: []chat.ConversationID{resolved.ID}, ConversationsOf: "main"}, func(u *storage.Unit) error {
		c, err := u.Conversation(resolved.ID)
		if err != nil {
			return err
		}
		if err := c.Resolve(w.now()); err != nil {
			return err
		}
		u.Touch(c)
		u.TellHead(c, "ada", w.now())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d := into[api.Desk](t, w.want(200, w.ask("GET", "/desk", "", cookie)))
	var got []chat.ConversationID
	for _, c := range d.Conversations {
		got = append(got, c.ID)
	}
	if diff := cmp.Diff([]chat.ConversationID{own.ID, longest.ID, waiting.ID, others.ID}, got); diff != "" {
		t.Errorf("own, the longest waiting, the others' (-want +got):\n%s", diff)
	}
	first := d.Conversations[0]
	if first.State != chat.Held || first.Epoch != 1 || first.LastSeq != 3 || first.LastText != "text 3" || first.Customer.ID != "c2" || first.Agent.ID != "ada" {
		t.Errorf("own conversation is shown as %+v", first)
	}
	if d.Me.ID != "ada" || d.Me.Load != 1 || len(d.Agents) != 2 || d.Agents[1].Load != 1 || d.More || len(d.Queues) != 1 || d.Queues[0].ID != "main" {
		t.Errorf("desk = %+v", d)
	}
	for inbox, id := range map[chat.Inbox]chat.EventID{
		{Tenant: "main", Kind: "agent", Name: "ada"}:  d.Events.Own,
		{Tenant: "main", Kind: "queue", Name: "main"}: d.Events.Queues["main"],
	} {
		incarnation, n, ok := id.Parse()
		last, err := w.store.LastEvent(t.Context(), inbox)
		is, err2 := w.store.Incarnation(t.Context())
		if !ok || errors.Join(err, err2) != nil || n != last || n == 0 || incarnation != is {
			t.Errorf("%v is complete up to %q, want %s-%d", inbox, id, is, last)
		}
	}
}

// TestNothingFallsBetweenTheSnapshotAndTheEvents commits a change between
// the reads of the snapshot: it is in the rows, and its event is after the number given.
func TestNothingFallsBetweenTheSnapshotAndTheEvents(t *testing.T) {
	var between func()
	w := newWorld(t, func(c *api.Config) { c.Store = &meanwhile{Store: c.Store, do: func() { between() }} })
	_, cookie := w.signIn("ada")
	var c *chat.Conversation
	between = func() { c = w.converse("late", "", 1, 0) }
	d := into[api.Desk](t, w.want(200, w.ask("GET", "/desk", "", cookie)))
	if len(d.Conversations) != 1 || d.Conversations[0].ID != c.ID {
		t.Errorf("conversations %+v, want the late one", d.Conversations)
	}
	_, n, _ := d.Events.Queues["main"].Parse()
	events, err := w.store.Events(t.Context(), chat.DefaultQueue.Inbox("main"), n, 10)
	if err != nil || len(events) != 2 {
		t.Errorf("after event %d come %d events, %v; want the message and the head", n, len(events), err)
	}
}

// meanwhile does something once, right before conversations are read.
type meanwhile struct {
	storage.Store
	do func()
}

func (m *meanwhile) Conversations(ctx context.Context, q storage.ConversationQuery) ([]*chat.Conversation, error) {
	if m.do != nil {
		m.do()
		m.do = nil
	}
	return m.Store.Conversations(ctx, q)
}

func TestConversationsAreListedInPages(t *testing.T) {
	w := newWorld(t)
	service := w.bearer(chat.Service, "crm")
	var want []chat.ConversationID
	for i := range 7 {
		holder := ""
		if i%2 == 1 {
			holder = "ada"
		}
		want = append(want, w.converse(fmt.Sprint("c", i), holder, 1, time.Duration(7-i)*time.Minute).ID)
	}
	var got []chat.ConversationID
	for next, pages := "", 0; pages == 0 || next != ""; pages++ {
		l := into[api.Listing](t, w.want(200, w.ask("GET", "/conversations?limit=3&after="+next, "", service)))
		for _, c := range l.Conversations {
			got = append(got, c.ID)
		}
		if next = l.Next; pages > 3 {
			t.Fatal("the pages do not end")
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("all pages (-want +got):\n%s", d)
	}
	for query, n := range map[string]int{
		"": 7, "?state=held": 3, "?state=waiting": 4, "?state=waiting,held": 7, "?state=resolved": 0,
		"?holder=ada": 3, "?holder=bob": 0, "?customer=c2": 1, "?state=held&customer=c2": 0,
	} {
		a := w.want(200, w.ask("GET", "/conversations"+query, "", service))
		if l := into[api.Listing](t, a); len(l.Conversations) != n || l.Next != "" || l.Conversations == nil {
			t.Errorf("%q lists %d, next %q; want %d", query, len(l.Conversations), l.Next, n)
		}
	}
	for _, query := range []string{"?state=lost", "?limit=0", "?limit=501", "?limit=x", "?after=nonsense", "?after=zz-00"} {
		w.want(422, w.ask("GET", "/conversations"+query, "", service))
	}
}

func TestMessagesAreReadBackwardsInAscendingPages(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	c := w.converse("cid", "ada", 7, time.Minute)
	path := "/conversations/" + string(c.ID) + "/messages"
	m := into[api.Messages](t, w.want(200, w.ask("GET", path+"?limit=3", "", cookie)))
	if len(m.Messages) != 3 || m.Messages[0].Seq != 5 || m.Messages[2].Seq != 7 || !m.More {
		t.Errorf("newest page %+v", m)
	}
	if e := m.Messages[2]; e.Type != chat.TypeMessage || e.Text != "text 7" || e.ID != "m7" || e.From.ID != "cid" || e.From.Name != "Customer cid" || e.Conversation != c.ID || e.At == "" {
		t.Errorf("message is rendered as %+v", e)
	}
	m = into[api.Messages](t, w.ask("GET", path+"?limit=3&before=5", "", cookie))
	if len(m.Messages) != 3 || m.Messages[0].Seq != 2 || !m.More {
		t.Errorf("second page %+v", m)
	}
	m = into[api.Messages](t, w.ask("GET", path+"?limit=3&before=2", "", cookie))
	if len(m.Messages) != 1 || m.Messages[0].Seq != 1 || m.More {
		t.Errorf("last page %+v", m)
	}
	m = into[api.Messages](t, w.ask("GET", path+"?before=1", "", cookie))
	if m.Messages == nil || len(m.Messages) != 0 || m.More {
		t.Errorf("before the first %+v, want an empty list", m)
	}
	w.want(422, w.ask("GET", path+"?before=-1", "", cookie))
	w.want(422, w.ask("GET", path+"?limit=201", "", cookie))
	got := into[api.Conversation](t, w.want(200, w.ask("GET", "/conversations/"+string(c.ID), "", cookie)))
	if got.ID != c.ID || got.LastSeq != 7 || got.Epoch != 1 || got.Customer.Name != "Customer cid" {
		t.Errorf("conversation %+v", got)
	}
}

func TestAFailureIsLoggedAndNotTold(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Store = &failing{c.Store} })
	a := w.want(http.StatusInternalServerError, w.ask("GET", "/conversations", "", w.bearer(chat.Service, "crm")))
	if strings.Contains(string(a.body), "10.1.2.3") || !strings.Contains(w.log.String(), "10.1.2.3") {
		t.Errorf("answer %s; log %s", a.body, w.log.String())
	}
	a = w.want(http.StatusInternalServerError, w.ask("GET", "/conversations/00112233445566778899aabbcc", "", w.bearer(chat.Service, "crm")))
	if strings.Contains(string(a.body), "boom") || !strings.Contains(w.log.String(), "boom") {
		t.Errorf("after a panic: answer %s; log %s", a.body, w.log.String())
	}
}

type failing struct{ storage.Store }

func (failing) Conversations(context.Context, storage.ConversationQuery) ([]*chat.Conversation, error) {
	return nil, errors.New("dial tcp 10.1.2.3: connection refused")
}

func (failing) Conversation(context.Context, chat.Tenant, chat.ConversationID) (*chat.Conversation, error) {
	panic("boom")
}
