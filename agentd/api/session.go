package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdline/agentd"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/storage"
)

// tokenLife is how long the desk may connect with one token.
const tokenLife = time.Hour

// devicePrefix begins the MQTT client id of every desk.
const devicePrefix = "desk-"

// unknown is the hash that the password of somebody who does not exist is
// checked against, so that the answer takes as long. Nothing fits it: what it was made of is forgotten.
var unknown = agentd.HashPassword(rand.Text())

// Session is what a signed-in desk works with.
type Session struct {
	Agent   Agent     `json:"agent"`
	Token   string    `json:"token" doc:"MQTT password of this device"`
	Device  string    `json:"device" doc:"MQTT client id that the token may connect with"`
	Expires time.Time `json:"expires" doc:"When the token ends; fetch another one before"`
}

// SignIn is the body of a sign-in.
type SignIn struct {
	ID       string `json:"id" minLength:"1" maxLength:"128"`
	Password string `json:"password" minLength:"1" maxLength:"256"`
	Device   string `json:"device,omitempty" pattern:"^[A-Za-z0-9._-]{1,64}$" doc:"Of an earlier session in this window, to go on with it"`
}

type sessionOut struct {
	SetCookie string `header:"Set-Cookie" doc:"The renewed cookie"`
	Body      Session
}

func (s *server) routeSession() {
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: prefix + "/session", Tags: []string{"session"},
		Summary: "Sign in as an agent", Security: withNothing,
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Middlewares: huma.Middlewares{s.anybody()},
	}), func(ctx context.Context, in *struct{ Body SignIn }) (*sessionOut, error) {
		out, err := s.signIn(ctx, in.Body)
		return out, s.problem(ctx, err)
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "renew-session", Method: http.MethodGet, Path: prefix + "/session", Tags: []string{"session"},
		Summary: "Fetch a fresh token and renew the cookie", Security: withCookie,
		Errors:      []int{http.StatusUnauthorized},
		Middlewares: huma.Middlewares{s.cookieOnly()},
	}), func(ctx context.Context, in *struct {
		Device string `query:"device" pattern:"^[A-Za-z0-9._-]{1,64}$" doc:"The device of the session; a new one when absent"`
	}) (*sessionOut, error) {
		c := callerOf(ctx)
		out, err := s.session(ctx, c.credential, in.Device, c.since)
		return out, s.problem(ctx, err)
	})
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "sign-out", Method: http.MethodDelete, Path: prefix + "/session", Tags: []string{"session"},
		Summary: "Forget the cookie", Description: "Needs no cookie, so that signing out never fails.",
		DefaultStatus: http.StatusNoContent, Security: withNothing,
		Errors:      []int{http.StatusForbidden},
		Middlewares: huma.Middlewares{s.anybody()},
	}), func(context.Context, *struct{}) (*struct {
		SetCookie string `header:"Set-Cookie"`
	}, error) {
		return &struct {
			SetCookie string `header:"Set-Cookie"`
		}{s.setCookie("")}, nil
	})
}

// signIn checks a password. Whether the id is unknown, the agent disabled or the
// password wrong, the answer is the same and takes the same time.
func (s *server) signIn(ctx context.Context, in SignIn) (*sessionOut, error) {
	now := s.now()
	address := callerOf(ctx).address
	wait := s.signIns.perAddress.take(address, now)
	if wait == 0 { // one address alone cannot use up what everybody has to try an id
		wait = s.signIns.perID.take(in.ID, now)
	}
	if wait > 0 {
		s.Log.WarnContext(ctx, "too many sign-ins", "address", address)
		return nil, later(http.StatusTooManyRequests, wait, "too many tries; wait before the next one")
	}
	c, err := s.Store.Credential(ctx, storage.AgentKey{Tenant: s.Tenant, ID: in.ID})
	known := err == nil
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return nil, err
	}
	hash := c.PasswordHash
	if !known {
		hash = unknown
	}
	leave, err := s.signIns.turn(ctx)
	if err != nil {
		return nil, err
	}
	ok, outdated, err := agentd.VerifyPassword(hash, in.Password)
	leave()
	if err != nil {
		s.Log.ErrorContext(ctx, "stored password hash is damaged; set the password again", "agent", in.ID)
	}
	if !ok || !known || c.Agent.Disabled {
		if known {
			s.Log.WarnContext(ctx, "sign-in refused", "agent", in.ID, "address", address, "disabled", c.Agent.Disabled)
		}
		return nil, huma.Error401Unauthorized("id or password is wrong")
	}
	if outdated {
		s.Log.InfoContext(ctx, "password hash is of an older cost; it is renewed with the next password", "agent", in.ID)
	}
	out, err := s.session(ctx, c, in.Device, now)
	if err != nil {
		return nil, err
	}
	err = s.Store.Transact(ctx, storage.Scope{}, func(u *storage.Unit) error {
		u.Audit(storage.Audit{
			Tenant: s.Tenant, At: now, Actor: c.Agent.Account().String(), Action: "sign in",
			Object: "agent/" + c.Agent.ID, Detail: "address=" + address + " device=" + out.Body.Device,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, "agent signed in", "agent", c.Agent.ID, "device", out.Body.Device, "address", address)
	return out, nil
}

// session makes what a desk gets at sign-in and at each renewal.
func (s *server) session(ctx context.Context, c storage.Credential, device string, since time.Time) (*sessionOut, error) {
	now := s.now()
	switch {
	case device == "":
		device = devicePrefix + strings.ToLower(rand.Text()[:16])
	case !strings.HasPrefix(device, devicePrefix):
		device = devicePrefix + device
	}
	agent, err := s.agent(ctx, c.Agent.Account())
	if err != nil {
		return nil, err
	}
	expires := now.Add(tokenLife).Truncate(time.Second) // as exact as the token is
	t, err := s.Keys.Issue(token.Claims{
		Account: c.Agent.Account(), Device: device, Name: c.Agent.Name, Issued: now, Expires: expires,
	})
	if err != nil {
		return nil, fmt.Errorf("issue token for %s: %w", c.Agent.ID, err)
	}
	return &sessionOut{
		SetCookie: s.setCookie(s.baker.bake(c, since, now)),
		Body:      Session{Agent: agent, Token: t, Device: device, Expires: expires},
	}, nil
}

// agent is how an agent is now.
func (s *server) agent(ctx context.Context, a chat.Account) (Agent, error) {
	all, err := s.Store.Agents(ctx, a.Tenant)
	if err != nil {
		return Agent{}, err
	}
	i := slices.IndexFunc(all, func(x chat.Agent) bool { return x.ID == a.Subject })
	if i < 0 {
		return Agent{}, fmt.Errorf("%w: agent %s", chat.ErrNotFound, a.Subject)
	}
	return agentOf(all[i]), nil
}
