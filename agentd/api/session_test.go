package api_test

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/agentd"
	"holdline/agentd/api"
	"holdline/chat"
)

func TestSigningInGivesACookieAndATokenForOneDevice(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Secure = true })
	a := w.want(200, w.ask("POST", "/session", `{"id":"ada","password":"`+password+`"}`))
	s := into[api.Session](t, a)
	if s.Agent.ID != "ada" || s.Agent.Name != "ADA" || s.Agent.Intent != chat.Available || s.Agent.Capacity != 5 {
		t.Errorf("agent = %+v", s.Agent)
	}
	claims, err := w.keys.Verify(s.Token, w.now())
	if err != nil {
		t.Fatal(err)
	}
	if claims.Account.String() != "main/agent/ada" || claims.Device != s.Device || !strings.HasPrefix(s.Device, "desk-") || len(s.Device) < 16 {
		t.Errorf("token is of %v for device %q; session says %q", claims.Account, claims.Device, s.Device)
	}
	if life := s.Expires.Sub(w.now()); !claims.Expires.Equal(s.Expires) || life < 59*time.Minute || life > time.Hour {
		t.Errorf("token ends %v, session says %v", claims.Expires, s.Expires)
	}
	set := a.header.Get("Set-Cookie")
	for _, attribute := range []string{"HttpOnly", "SameSite=Strict", "Secure", "Path=/api/v1", "Max-Age=43200"} {
		if !strings.Contains(set, attribute) {
			t.Errorf("Set-Cookie lacks %s: %s", attribute, strings.Split(set, "=")[0])
		}
	}
	lines, err := w.store.AuditTrail(t.Context(), chat.DefaultTenant, "agent/ada", 10)
	if err != nil || len(lines) != 1 || lines[0].Action != "sign in" {
		t.Errorf("audit %+v, %v; want the sign-in", lines, err)
	}
	if again := into[api.Session](t, w.want(200, w.ask("POST", "/session", `{"id":"ada","password":"`+password+`"}`))); again.Device == s.Device {
		t.Error("two windows have got one device")
	}
	if off := newWorld(t).ask("POST", "/session", `{"id":"ada","password":"`+password+`"}`).header.Get("Set-Cookie"); strings.Contains(off, "Secure") {
		t.Error("without TLS the cookie is Secure: a browser would not send it back")
	}
}

func TestADeviceIsKeptAcrossRenewals(t *testing.T) {
	w := newWorld(t)
	s, cookie := w.signIn("ada")
	w.pass(50 * time.Minute)
	a := w.want(200, w.ask("GET", "/session?device="+s.Device, "", cookie))
	renewed := into[api.Session](t, a)
	if renewed.Device != s.Device || renewed.Token == s.Token || !renewed.Expires.After(s.Expires) {
		t.Errorf("renewed %q until %v, want device %q and later than %v", renewed.Device, renewed.Expires, s.Device, s.Expires)
	}
	if got := into[api.Session](t, w.ask("GET", "/session?device=tab-2", "", cookie)); got.Device != "desk-tab-2" {
		t.Errorf("device = %q, want desk-tab-2: a desk cannot take the place of another kind of client", got.Device)
	}
	w.want(422, w.ask("GET", "/session?device=a%2Fb", "", cookie))
}

func TestWrongSignInsAreAnsweredAlike(t *testing.T) {
	w := newWorld(t)
	staff := agentd.Staff{Store: w.store, By: "test"}
	if err := staff.Disable(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, body := range []string{
		`{"id":"ada","password":"correct horse batterx"}`,
		`{"id":"nobody","password":"` + password + `"}`,
		`{"id":"bob","password":"` + password + `"}`, // right, but disabled
		`{"id":"Ada","password":"` + password + `"}`,
	} {
		a := w.want(401, w.ask("POST", "/session", body))
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie", body)
		}
		bodies = append(bodies, string(a.body))
	}
	for _, b := range bodies {
		if b != bodies[0] {
			t.Errorf("answers differ: %s and %s", bodies[0], b)
		}
	}
	for _, body := range []string{
		``, `{`, `[]`, `{"id":"ada"}`, `{"id":1,"password":"` + password + `"}`, `{"id":"ada","password":""}`,
		`{"id":"ada","password":"` + strings.Repeat("x", 257) + `"}`, `{"id":"ada","password":"` + password + `","device":"a b"}`,
		`{"id":"ada","password":"` + password + `","admin":true}`,
	} {
		a := w.ask("POST", "/session", body)
		if a.status != 422 && a.status != 400 {
			t.Errorf("%s: status %d, want 400 or 422", body, a.status)
		}
		if strings.Contains(string(a.body), password) || strings.Contains(string(a.body), "xxxxx") {
			t.Errorf("the answer repeats the password: %s", a.body)
		}
	}
	w.want(413, w.ask("POST", "/session", `{"id":"ada","password":"`+strings.Repeat("x", 70<<10)+`"}`))
}

// TestAnUnknownNameCostsAsMuch compares the work, not the clock: both spend an argon2
// evaluation, which takes far longer than everything else in the request.
func TestAnUnknownNameCostsAsMuch(t *testing.T) {
	w := newWorld(t)
	fastest := func(id string) time.Duration {
		best := time.Hour
		for range 3 {
			begin := time.Now()
			w.want(401, w.ask("POST", "/session", fmt.Sprintf(`{"id":%q,"password":"a wrong password"}`, id)))
			best = min(best, time.Since(begin))
		}
		return best
	}
	known, unknown := fastest("ada"), fastest("nobody")
	if unknown < known/4 || known < unknown/4 {
		t.Errorf("a known name takes %v, an unknown one %v", known, unknown)
	}
}

func TestACookieEndsWithTimePasswordOrAgent(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*world, string) string // returns the cookie to try
		want int
	}{
		{"at once", func(_ *world, c string) string { return c }, 200},
		{"just before twelve hours", func(w *world, c string) string { w.pass(12*time.Hour - time.Minute); return c }, 200},
		{"after twelve hours", func(w *world, c string) string { w.pass(12*time.Hour + time.Second); return c }, 401},
		{"renewed within them", func(w *world, c string) string {
			w.pass(8 * time.Hour)
			c = w.want(200, w.ask("GET", "/session", "", c)).cookie()
			w.pass(8 * time.Hour)
			return c
		}, 200},
		{"renewed for a week and more", func(w *world, c string) string {
			for range 17 {
				w.pass(10 * time.Hour)
				if a := w.ask("GET", "/session", "", c); a.status == 200 {
					c = a.cookie()
				}
			}
			return c
		}, 401},
		{"a new password", func(w *world, c string) string {
			if err := (agentd.Staff{Store: w.store, By: "test"}).SetPassword(w.t.Context(), "ada", "another horse"); err != nil {
				w.t.Fatal(err)
			}
			return c
		}, 401},
		{"disabled", func(w *world, c string) string {
			if err := (agentd.Staff{Store: w.store, By: "test"}).Disable(w.t.Context(), "ada"); err != nil {
				w.t.Fatal(err)
			}
			return c
		}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			_, cookie := w.signIn("ada")
			cookie = tt.do(w, cookie)
			w.want(tt.want, w.ask("GET", "/me", "", cookie))
			w.want(tt.want, w.ask("GET", "/session", "", cookie))
		})
	}
}

func TestAForgedCookieIsNone(t *testing.T) {
	w := newWorld(t)
	s, cookie := w.signIn("ada")
	value := strings.TrimPrefix(cookie, "Cookie: "+api.CookieName+"=")
	body, mac, _ := strings.Cut(value, ".")
	plain, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	bob := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(plain), `"ada"`, `"bob"`, 1)))
	other := newWorld(t, func(c *api.Config) { c.CookieKey = []byte("another secret of the other installation") })
	_, foreign := other.signIn("ada")
	for name, forged := range map[string]string{
		"another agent in it":         bob + "." + mac,
		"no signature":                body + ".",
		"only a body":                 body,
		"empty":                       "",
		"a dot":                       ".",
		"another installation's":      strings.TrimPrefix(foreign, "Cookie: "+api.CookieName+"="),
		"the MQTT token":              s.Token,
		"the MQTT token, its payload": strings.Join(strings.Split(s.Token, ".")[1:], "."),
	} {
		if a := w.ask("GET", "/me", "", "Cookie: "+api.CookieName+"="+forged); a.status != 401 {
			t.Errorf("%s: status %d, want 401", name, a.status)
		}
	}
	if _, err := w.keys.Verify(value, w.now()); err == nil {
		t.Error("the cookie is an MQTT password")
	}
	w.want(401, w.ask("GET", "/me", "", "Authorization: Bearer "+value))
	w.want(200, w.ask("GET", "/me", "", cookie)) // and the real one still is one
}

func TestSigningOutForgetsTheCookie(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	for _, headers := range [][]string{{cookie}, nil} {
		a := w.want(204, w.ask("DELETE", "/session", "", headers...))
		if set := a.header.Get("Set-Cookie"); !strings.HasPrefix(set, api.CookieName+"=;") || !strings.Contains(set, "Max-Age=0") {
			t.Errorf("Set-Cookie = %q, want it removed", set)
		}
	}
}

func TestAnotherSitesPageCanDoNothing(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.signIn("ada")
	c := w.converse("cid", "ada", 1, time.Minute)
	host := strings.TrimSuffix(strings.TrimPrefix(w.url, "http://"), "/api/v1")
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/session", `{"id":"ada","password":"` + password + `"}`},
		{"DELETE", "/session", ""},
		{"PUT", "/me/intent", `{"intent":"away"}`},
		{"POST", "/conversations/" + string(c.ID) + "/messages", `{"id":"1","text":"hi","epoch":1}`},
		{"POST", "/conversations/" + string(c.ID) + "/resolve", `{"id":"2","epoch":1}`},
	} {
		for _, from := range []string{"Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
			w.want(403, w.ask(tt.method, tt.path, tt.body, cookie, from))
		}
	}
	if got := w.partition(c.ID); len(got) != 0 {
		t.Errorf("%d entries are in the journal", len(got))
	}
	w.want(200, w.ask("PUT", "/me/intent", `{"intent":"busy"}`, cookie, "Origin: http://"+host))
	w.want(200, w.ask("PUT", "/me/intent", `{"intent":"busy"}`, cookie, "Origin: https://"+host, "Sec-Fetch-Site: same-origin"))
	w.want(200, w.ask("PUT", "/me/intent", `{"intent":"busy"}`, w.bearer(chat.AgentRole, "ada"), "Origin: https://evil.example"))
	if a := w.ask("OPTIONS", "/me/intent", "", "Origin: https://evil.example", "Access-Control-Request-Method: PUT"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("CORS is answered")
	}
}

func TestTriesAreLimitedByName(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		if a := w.ask("POST", "/session", `{"id":"nobody","password":"wrong"}`); a.status != 401 {
			t.Fatalf("try %d: status %d, want 401", i+1, a.status)
		}
	}
	a := w.want(429, w.ask("POST", "/session", `{"id":"nobody","password":"wrong"}`))
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || wait < 1 || wait > 12 {
		t.Errorf("Retry-After = %q, want up to 12 s", a.header.Get("Retry-After"))
	}
	w.signIn("ada") // somebody else is not held up
	w.pass(time.Duration(wait) * time.Second)
	w.want(401, w.ask("POST", "/session", `{"id":"nobody","password":"wrong"}`))
	w.want(429, w.ask("POST", "/session", `{"id":"nobody","password":"wrong"}`))
}

func TestTriesAreLimitedByAddressWhateverItClaims(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for i := part; i < 36; i += 4 {
				a := w.ask("POST", "/session", fmt.Sprintf(`{"id":"n%d","password":"wrong"}`, i), fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", i))
				mu.Lock()
				statuses[a.status]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if statuses[401] != 30 || statuses[429] != 6 {
		t.Errorf("statuses %v, want 30 tries and then 429", statuses)
	}
}
