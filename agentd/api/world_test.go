package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/agentd"
	"holdline/agentd/api"
	"holdline/broker/journal"
	jmemory "holdline/broker/journal/memory"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/storage"
	smemory "holdline/storage/memory"
)

const password = "correct horse battery"

var ownKey = []byte("0123456789abcdef0123456789abcdef")

// world is a running API with agents ada and bob, its store, journal and clock.
type world struct {
	t       *testing.T
	url     string
	store   storage.Store
	journal *jmemory.Journal
	keys    *token.Keys
	log     *lockedBuffer

	mu    sync.Mutex
	clock time.Time // stands still but for pass
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hash is made once: it is expensive on purpose.
var hash = sync.OnceValue(func() string { return agentd.HashPassword(password) })

func newWorld(t *testing.T, change ...func(*api.Config)) *world {
	t.Helper()
	keys, err := token.NewKeys(ownKey, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: smemory.New(), journal: jmemory.New(), keys: keys, log: &lockedBuffer{}, clock: time.Now()}
	c := api.Config{
		Store: w.store, Journal: w.journal, Keys: keys, CookieKey: ownKey, Now: w.now, Version: "dev",
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	s := httptest.NewServer(api.New(c))
	w.url = s.URL + "/api/v1"
	t.Cleanup(func() {
		s.Close()
		w.journal.Close()
		w.store.Close()
		if log := w.log.String(); strings.Contains(log, password) || strings.Contains(log, "eyJ") {
			t.Errorf("a password or token is in the log:\n%s", log)
		}
	})
	for _, id := range []string{"ada", "bob"} {
		a := chat.Agent{Tenant: chat.DefaultTenant, ID: id, Name: strings.ToUpper(id), Intent: chat.Available, Capacity: 5}
		by := storage.Audit{Tenant: chat.DefaultTenant, At: w.now(), Actor: "test", Action: "agent add", Object: id}
		if err := w.store.PutAgent(t.Context(), storage.Credential{Agent: a, PasswordHash: hash()}, true, by); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request; body is JSON text. Headers come as "Name: value".
func (w *world) ask(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// want checks the status, and for errors that they are problems (RFC 9457).
func (w *world) want(status int, a answer) answer {
	w.t.Helper()
	if a.status != status {
		w.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if status >= 400 {
		var p struct {
			Title, Detail string
			Status        int
		}
		if err := json.Unmarshal(a.body, &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" ||
			a.header.Get("Content-Type") != "application/problem+json" {
			w.t.Errorf("%d is answered with %s %s, want a problem", status, a.header.Get("Content-Type"), a.body)
		}
	}
	return a
}

func into[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return v
}

// cookie is the Cookie header that a browser would send after the answer.
func (a answer) cookie() string {
	r := http.Response{Header: a.header}
	for _, c := range r.Cookies() {
		if c.Name == api.CookieName {
			return "Cookie: " + c.Name + "=" + c.Value
		}
	}
	return "Cookie: none=1"
}

// signIn returns the session of an agent and its cookie.
func (w *world) signIn(id string) (api.Session, string) {
	w.t.Helper()
	a := w.want(200, w.ask("POST", "/session", fmt.Sprintf(`{"id":%q,"password":%q}`, id, password)))
	return into[api.Session](w.t, a), a.cookie()
}

// bearer is the header of a token of our own making.
func (w *world) bearer(r chat.Role, id string) string {
	w.t.Helper()
	t, err := w.keys.Issue(token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: r, Subject: id}, Issued: w.now(), Expires: w.now().Add(time.Hour),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return "Authorization: Bearer " + t
}

// converse opens a conversation with n messages of its customer, waiting for `ago`, held by holder unless that is empty.
func (w *world) converse(customer, holder string, n int, ago time.Duration) *chat.Conversation {
	w.t.Helper()
	who := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: customer}
	var entropy [12]byte
	copy(entropy[:], customer)
	at := w.now().Add(-ago).UTC()
	var out chat.Conversation
	err := w.store.Transact(w.t.Context(), storage.Scope{Accounts: []chat.Account{who}}, func(u *storage.Unit) error {
		c := chat.Open(chat.NewConversationID(who.Slot(), entropy), who, "Customer "+customer, chat.DefaultQueue, at)
		for i := range n {
			m := c.Number(who, c.CustomerName, chat.Say{ID: chat.MessageID(fmt.Sprint("m", i+1)), Kind: chat.Text, Text: fmt.Sprint("text ", i+1)}, at)
			u.Add(m)
			u.TellMessage(c, m)
		}
		if holder != "" {
			if err := c.Assign(holder, strings.ToUpper(holder)); err != nil {
				return err
			}
		}
		u.Touch(c)
		u.TellHead(c, "", at)
		out = *c
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &out
}

// partition is what the journal has as input of a conversation's partition.
func (w *world) partition(id chat.ConversationID) []*journal.Entry {
	w.t.Helper()
	slot, err := id.Slot()
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := w.journal.ReadPartition(context.Background(), slot.Partition(), 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}
