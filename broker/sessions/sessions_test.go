package sessions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdline/broker"
	"holdline/broker/journal/memory"
	"holdline/broker/mqtt"
	"holdline/broker/sessions"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// desk is a broker, and operators at it.
type desk struct {
	*testing.T
	engine *broker.Broker
	mqtt   string
	web    string
	keys   *token.Keys
}

func open(t *testing.T) *desk {
	t.Helper()
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	j := memory.New()
	engine, err := broker.New(broker.Config{Node: "n1", Journal: j, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	server := mqtt.NewServer(mqtt.Config{Broker: engine, Addr: "127.0.0.1:0", AllowAnonymous: true})
	if err := server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(sessions.Handler(sessions.Config{Broker: engine, Keys: keys}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	for _, run := range []func(context.Context, func()) error{engine.Run, server.Run} {
		ready := make(chan struct{})
		go func() { ended <- run(ctx, func() { close(ready) }) }()
		<-ready
	}
	t.Cleanup(func() {
		web.Close()
		cancel()
		if err := errors.Join(<-ended, <-ended, j.Close()); err != nil {
			t.Error(err)
		}
	})
	return &desk{t, engine, server.Addr().String(), web.URL, keys}
}

func (d *desk) token(tenant chat.Tenant, role chat.Role, subject string) string {
	d.Helper()
	now := time.Now()
	s, err := d.keys.Issue(token.Claims{Account: chat.Account{Tenant: tenant, Role: role, Subject: subject}, Issued: now, Expires: now.Add(time.Hour)})
	if err != nil {
		d.Fatal(err)
	}
	return s
}

// phone connects a customer's device with a lasting session.
func (d *desk) phone(tenant chat.Tenant, subject, device string) *wire.Client {
	d.Helper()
	return wire.Open(d, d.mqtt, wire.Hello{
		Version: wire.V5, Client: device, KeepAlive: 300, User: subject, Password: d.token(tenant, chat.Customer, subject),
		Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 3600}},
	})
}

// ask is a request of a service of the default tenant.
func (d *desk) ask(method, path string, v any) (status int) {
	d.Helper()
	return d.askAs(d.token(chat.DefaultTenant, chat.Service, "ops"), method, path, v)
}

func (d *desk) askAs(bearer, method, path string, v any) (status int) {
	d.Helper()
	r, err := http.NewRequestWithContext(d.Context(), method, d.web+sessions.Path+path, nil)
	if err != nil {
		d.Fatal(err)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer a.Body.Close()
	if v != nil {
		if err := json.NewDecoder(a.Body).Decode(v); err != nil {
			d.Fatal(err)
		}
	}
	return a.StatusCode
}

// names are those of a whole list, read in pages.
func (d *desk) names(query string, limit int) (list []string) {
	d.Helper()
	after := ""
	for range 100 {
		var p sessions.Page
		if s := d.ask("GET", fmt.Sprintf("?limit=%d&after=%s&%s", limit, url.QueryEscape(after), query), &p); s != http.StatusOK || len(p.Sessions) > limit {
			d.Fatalf("status %d, %d sessions in a page of %d", s, len(p.Sessions), limit)
		}
		for _, s := range p.Sessions {
			list = append(list, fmt.Sprintf("%s %t", s.Session, s.Online))
		}
		if p.Next == "" {
			return list
		}
		after = string(p.Next)
	}
	d.Fatal("the list does not end")
	return nil
}

func (d *desk) away(c *wire.Client) {
	d.Helper()
	online := d.engine.Stats().Online
	c.Drop()
	wire.Eventually(d, "the session is still connected", func() bool { return d.engine.Stats().Online < online })
}

func TestSessionsAreListedInPages(t *testing.T) {
	d := open(t)
	for i := range 5 {
		p := d.phone(chat.DefaultTenant, fmt.Sprint("c-", i), "phone 1")
		if i%2 == 1 {
			d.away(p)
		}
	}
	d.phone("other", "eve", "phone-1")
	wire.Open(d, d.mqtt, wire.Hello{Client: "tool", Clean: true})
	online := []string{"main/customer/c-0/phone%201 true", "main/customer/c-2/phone%201 true", "main/customer/c-4/phone%201 true"}
	all := []string{online[0], "main/customer/c-1/phone%201 false", online[1], "main/customer/c-3/phone%201 false", online[2]}
	for _, limit := range []int{1, 2, 3, 5, 100} {
		if got := d.names("", limit); fmt.Sprint(got) != fmt.Sprint(online) {
			t.Errorf("pages of %d: %q, want %q", limit, got, online)
		}
		if got := d.names("state=all", limit); fmt.Sprint(got) != fmt.Sprint(all) {
			t.Errorf("pages of %d, all: %q, want %q", limit, got, all)
		}
	}
	if got := d.names("state=all&prefix=main/customer/c-3/", 10); len(got) != 1 || got[0] != all[3] {
		t.Errorf("one customer: %q", got)
	}
	if got := d.names("prefix=-/", 10); len(got) != 1 || got[0] != "-/anonymous/-/tool true" {
		t.Errorf("without an account: %q", got)
	}
}

func TestASessionIsShown(t *testing.T) {
	d := open(t)
	p := d.phone(chat.DefaultTenant, "ada", "phone-1")
	p.Sub(1, "down/#", 1)
	var s broker.SessionState
	if status := d.ask("GET", "/main/customer/ada/phone-1", &s); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if !s.Online || s.Client != "phone-1" || s.Protocol != "5" || s.Transport != "tcp" || s.Address != "127.0.0.0/24" ||
		s.Limit != 16 || s.ExpirySeconds != 3600 || len(s.Subscriptions) != 1 || s.Subscriptions[0] != "down/#" || time.Since(s.Since) > time.Minute {
		t.Errorf("online: %+v", s)
	}
	d.away(p)
	s = broker.SessionState{}
	if status := d.ask("GET", "/main/customer/ada/phone-1", &s); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if s.Online || s.Protocol != "" || s.ExpirySeconds != 3600 || len(s.Subscriptions) != 1 || s.Expires.Sub(s.Since) != time.Hour {
		t.Errorf("away: %+v", s)
	}
	if status := d.ask("GET", "/main/customer/ada/phone-2", nil); status != http.StatusNotFound {
		t.Errorf("an unknown session: status %d, want 404", status)
	}
}

func TestAKickedClientIsTold(t *testing.T) {
	d := open(t)
	const path = "/main/customer/ada/phone-1"
	kick := func(query string, want int) {
		t.Helper()
		if status := d.ask("DELETE", path+query, nil); status != want {
			t.Fatalf("kick: status %d, want %d", status, want)
		}
	}
	gone := func(p *wire.Client) {
		t.Helper()
		if m := p.Get(wire.Disconnect); m.Code != 0x98 {
			t.Errorf("%s, want 0x98", m)
		}
		p.Closed(wire.Patience)
		wire.Eventually(t, "the session is still connected", func() bool { return d.engine.Stats().Online == 0 })
	}
	p := d.phone(chat.DefaultTenant, "ada", "phone-1")
	p.Sub(1, "down/#", 1)
	kick("", http.StatusNoContent)
	gone(p)
	kick("", http.StatusNotFound) // nobody is connected

	p = d.phone(chat.DefaultTenant, "ada", "phone-1")
	if !p.Connack.SessionPresent {
		t.Error("the session did not stay")
	}
	kick("?forget=true", http.StatusNoContent)
	gone(p)
	if status := d.ask("GET", path, nil); status != http.StatusNotFound {
		t.Errorf("the session that was to be forgotten: status %d", status)
	}

	p = d.phone(chat.DefaultTenant, "ada", "phone-1")
	if p.Connack.SessionPresent {
		t.Error("the session was not forgotten")
	}
	d.away(p)
	kick("?forget=true", http.StatusNoContent)
	wire.Eventually(t, "the session that is away is not forgotten", func() bool { return d.ask("GET", path, nil) == http.StatusNotFound })
	kick("?forget=true", http.StatusNotFound)
}

func TestOnlyServicesOfTheTenantMayLook(t *testing.T) {
	d := open(t)
	d.phone(chat.DefaultTenant, "ada", "phone-1")
	const path = "/main/customer/ada/phone-1"
	foreign := d.token("other", chat.Service, "ops")
	for _, x := range []struct {
		bearer, method, path string
		want                 int
	}{
		{"", "GET", "", 401},
		{"nonsense", "GET", "", 401},
		{d.token(chat.DefaultTenant, chat.Customer, "ada"), "GET", "", 403},
		{d.token(chat.DefaultTenant, chat.AgentRole, "bob"), "DELETE", path, 403},
		{foreign, "GET", path, 403},
		{foreign, "DELETE", path, 403},
		{foreign, "GET", "?prefix=main/", 403},
		{foreign, "GET", "?prefix=-/", 403},
		{foreign, "GET", "?prefix=o", 403},
		{foreign, "GET", "?prefix=oth", 403},
		{foreign, "GET", "?prefix=other/", 200},
		{foreign, "GET", "", 200},
		{foreign, "GET", "?limit=0", 422},
		{foreign, "GET", "?limit=1001", 422},
		{foreign, "POST", "", 405},
	} {
		if got := d.askAs(x.bearer, x.method, x.path, nil); got != x.want {
			t.Errorf("%s %q: status %d, want %d", x.method, x.path, got, x.want)
		}
	}
	if d.engine.Stats().Online != 1 {
		t.Error("somebody was kicked")
	}
}
