// Package sessions lets operators see the broker's sessions over HTTP, and end
// them.
//
// It serves GET /api/v1/sessions, and GET and DELETE of
// /api/v1/sessions/{tenant}/{role}/{subject}/{client}, to bearers of a service's
// token, who see their own tenant; clients without an account belong to the default
// one. A list is a page of at most 1000 in the order of the names, so that a broker with
// many sessions is never asked for all of them at once. What is told is the
// state of this moment, on this node.
//
// It shows no messages and no full addresses, and decides nothing about sessions:
// that is package broker.
package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdline/broker"
	"holdline/broker/token"
	"holdline/chat"
)

// Path is where the handler wants to be, with and without more after it.
const Path = "/api/v1/sessions"

const (
	pageDefault = 100
	pageMax     = 1000
	patience    = 15 * time.Second
)

// Config is what the handler needs. Broker and Keys are required.
type Config struct {
	Broker *broker.Broker
	Keys   *token.Keys
	Log    *slog.Logger // discards when nil
}

// Page is the answer to a list.
type Page struct {
	Sessions []broker.SessionState `json:"sessions"`
	// Next is the `after` of the next page; empty when this is the last.
	Next broker.SessionName `json:"next"`
}

// handler is the state behind the routes.
type handler struct{ Config }

// Handler serves everything below Path.
func Handler(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := handler{c}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, h.list)
	mux.HandleFunc("GET "+Path+"/{tenant}/{role}/{subject}/{client}", h.show)
	mux.HandleFunc("DELETE "+Path+"/{tenant}/{role}/{subject}/{client}", h.kick)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		who, err := h.caller(r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), callerKey{}, who), patience)
		defer cancel()
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

type callerKey struct{}

// errNobody: there is no token, or it is not good.
var errNobody = errors.New("a service's token is needed, as bearer")

func (h handler) caller(r *http.Request) (chat.Account, error) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return chat.Account{}, errNobody
	}
	claims, err := h.Keys.Verify(strings.TrimSpace(text), time.Now())
	switch {
	case err != nil:
		return chat.Account{}, errNobody
	case claims.Account.Role != chat.Service:
		return chat.Account{}, chat.ErrForbidden
	}
	return claims.Account, nil
}

// mine reports whether the caller may see sessions of a tenant.
func mine(r *http.Request, t chat.Tenant) bool {
	who := r.Context().Value(callerKey{}).(chat.Account)
	return t == chat.Tenant(url.PathEscape(string(who.Tenant))) || t == "-" && who.Tenant == chat.DefaultTenant
}

func (h handler) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := pageDefault
	if s := q.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > pageMax {
			h.refuse(w, r, chat.ErrInvalid)
			return
		}
	}
	who := r.Context().Value(callerKey{}).(chat.Account)
	prefix := q.Get("prefix")
	if prefix == "" {
		prefix = url.PathEscape(string(who.Tenant)) + "/"
	}
	tenant, _, ok := strings.Cut(prefix, "/")
	if !ok || !mine(r, chat.Tenant(tenant)) {
		h.refuse(w, r, chat.ErrForbidden)
		return
	}
	list, more, err := h.Broker.List(r.Context(), prefix, broker.SessionName(q.Get("after")), limit, q.Get("state") == "all")
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	page := Page{Sessions: list}
	if page.Sessions == nil {
		page.Sessions = []broker.SessionState{}
	}
	if more {
		page.Next = list[len(list)-1].Session
	}
	answer(w, http.StatusOK, page)
}

// named is the session of a path, if the caller may see it.
func named(r *http.Request) (broker.SessionName, error) {
	var parts []string
	for _, p := range []string{"tenant", "role", "subject", "client"} {
		parts = append(parts, url.PathEscape(r.PathValue(p)))
	}
	name := broker.SessionName(strings.Join(parts, "/"))
	if !mine(r, name.Tenant()) {
		return "", chat.ErrForbidden
	}
	return name, nil
}

func (h handler) show(w http.ResponseWriter, r *http.Request) {
	name, err := named(r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	state, err := h.Broker.Look(r.Context(), name)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, state)
}

func (h handler) kick(w http.ResponseWriter, r *http.Request) {
	name, err := named(r)
	forget := r.URL.Query().Get("forget") == "true"
	if err == nil {
		err = h.Broker.Kick(r.Context(), name, forget)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.Log.InfoContext(r.Context(), "session kicked", "session", name, "forget", forget,
		"by", r.Context().Value(callerKey{}).(chat.Account).String())
	w.WriteHeader(http.StatusNoContent)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}

// refuse is the one place where errors become HTTP (RFC 9457).
func (h handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, detail := http.StatusInternalServerError, "something went wrong here; it is in the log"
	switch {
	case errors.Is(err, errNobody):
		w.Header().Set("WWW-Authenticate", "Bearer")
		status, detail = http.StatusUnauthorized, err.Error()
	case errors.Is(err, chat.ErrForbidden):
		status, detail = http.StatusForbidden, "this is open to services, for sessions of their tenant"
	case errors.Is(err, chat.ErrNotFound):
		status, detail = http.StatusNotFound, err.Error()
	case errors.Is(err, chat.ErrConflict):
		status, detail = http.StatusConflict, err.Error()
	case errors.Is(err, chat.ErrInvalid):
		status, detail = http.StatusUnprocessableEntity, "limit is a number from 1 to 1000"
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		w.Header().Set("Retry-After", "5")
		status, detail = http.StatusServiceUnavailable, "not now; try again in a moment"
	default:
		h.Log.ErrorContext(r.Context(), "request failed", "err", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // a client that is gone needs no answer
		"title": http.StatusText(status), "status": status, "detail": detail,
	})
}
