package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdline/chat"
	"holdline/storage"
)

// caller is who asks.
type caller struct {
	account chat.Account
	address string
	// Of a caller with a cookie only.
	credential storage.Credential
	since      time.Time // when the password was given
}

type callerKey struct{}

func callerOf(ctx context.Context) caller { return ctx.Value(callerKey{}).(caller) }

// A door is a middleware that lets callers in.
type door = func(ctx huma.Context, next func(huma.Context))

// anybody lets everybody in who does not come from a foreign page: a page must not sign
// somebody in or out either.
func (s *server) anybody() door {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		if err := s.ownPage(r); err != nil {
			s.refuse(ctx, err)
			return
		}
		next(huma.WithValue(ctx, callerKey{}, caller{address: addressKey(r.RemoteAddr)}))
	}
}

// cookieOnly lets agents in by cookie.
func (s *server) cookieOnly() door {
	return s.door(func(r *http.Request) (caller, error) { return s.byCookie(r) })
}

// only lets in who has a cookie or a bearer token and one of the roles.
func (s *server) only(roles ...chat.Role) door {
	return s.door(func(r *http.Request) (caller, error) {
		var c caller
		var err error
		if r.Header.Get("Authorization") != "" {
			c, err = s.byBearer(r)
		} else {
			c, err = s.byCookie(r)
		}
		if err == nil && !slices.Contains(roles, c.account.Role) {
			err = huma.Error403Forbidden("this is not open to a " + string(c.account.Role))
		}
		return c, err
	})
}

func (s *server) door(who func(*http.Request) (caller, error)) door {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		c, err := who(r)
		if err != nil {
			s.refuse(ctx, err)
			return
		}
		c.address = addressKey(r.RemoteAddr)
		next(huma.WithValue(ctx, callerKey{}, c))
	}
}

// ownPage refuses what a browser sends on behalf of another site's page. The
// cookie is SameSite=Strict already; this also holds where a browser does not know that.
func (s *server) ownPage(r *http.Request) error {
	if s.origin.Check(r) != nil {
		return huma.Error403Forbidden("this was sent by a page of another site")
	}
	return nil
}

func (s *server) byCookie(r *http.Request) (caller, error) {
	cookie, err := r.Cookie(CookieName)
	if err != nil {
		return caller{}, unauthorized(errCookie)
	}
	t, err := s.baker.read(cookie.Value, s.now())
	if err != nil {
		return caller{}, unauthorized(err)
	}
	c, err := s.Store.Credential(r.Context(), storage.AgentKey{Tenant: t.Tenant, ID: t.Agent})
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return caller{}, unauthorized(errCookie)
	case err != nil:
		return caller{}, s.problem(r.Context(), err)
	case !s.baker.fits(t, c):
		return caller{}, unauthorized(errCookie)
	}
	if err := s.ownPage(r); err != nil {
		return caller{}, err
	}
	return caller{account: c.Agent.Account(), credential: c, since: time.Unix(t.Since, 0)}, nil
}

func (s *server) byBearer(r *http.Request) (caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return caller{}, unauthorized(errors.New("authorization is not a bearer token"))
	}
	claims, err := s.Keys.Verify(strings.TrimSpace(token), s.now())
	if err != nil {
		return caller{}, unauthorized(err)
	}
	if claims.Account.Role == chat.AgentRole {
		c, err := s.Store.Credential(r.Context(), storage.AgentKey{Tenant: claims.Account.Tenant, ID: claims.Account.Subject})
		switch {
		case errors.Is(err, chat.ErrNotFound):
			return caller{}, huma.Error403Forbidden("there is no agent of this token's subject")
		case err != nil:
			return caller{}, s.problem(r.Context(), err)
		case c.Agent.Disabled:
			return caller{}, huma.Error403Forbidden("this agent is disabled")
		}
	}
	return caller{account: claims.Account}, nil
}

func unauthorized(err error) error {
	return huma.ErrorWithHeaders(huma.Error401Unauthorized(err.Error()), http.Header{"WWW-Authenticate": {"Bearer"}})
}
