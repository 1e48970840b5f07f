// Package api is Holdline over HTTP: what the desk needs beside its MQTT
// connection, and what integrations read and say without one.
//
// An agent signs in with id and password and gets two things. The cookie
// holdline_session speaks for the agent here, and nowhere else: it is signed with a
// key of its own, so it is no MQTT password, and no token is a cookie. The token
// is the MQTT password of this desk for an hour; the desk fetches the next one with
// its cookie. The server keeps no table of cookies: one is good for twelve hours
// from the last renewal, for a week at most, and only while the agent is enabled and the
// password is the one it was made with. Integrations send a token as bearer instead.
//
// Saying something here is appending the journal entry that an MQTT publish
// would be, and the answer 202 has the promise of a PUBACK: it is on disk. What
// becomes of it arrives as an event, like everything that happens.
//
// Reads are of committed data. The snapshot of the desk says up to which event it
// is complete, so that nothing is missed between it and the live stream.
//
// The package decides nothing about support: who may do what is chat.May, what
// a conversation allows is decided where the entry is taken in. It does not push;
// that is MQTT's job. It trusts no header about the client's address, so behind a
// proxy the limits of sign-in count the proxy.
//
// The document is served at /api/v1/openapi.json and kept in openapi.json beside this file.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdline/agentd"
	"holdline/broker/journal"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/storage"
)

const (
	prefix         = "/api/v1"
	maxBodyBytes   = 64 << 10
	handlerTimeout = 15 * time.Second // for a request as a whole, its body's arrival included
	appendTimeout  = 10 * time.Second // for the journal to sync
)

// Config is what the API needs. Store, Journal and Keys have no default.
type Config struct {
	Tenant  chat.Tenant // whose agents sign in; default chat.DefaultTenant
	Store   storage.Store
	Journal journal.Journal
	Keys    *token.Keys  // checks bearer tokens and issues the desk's
	Log     *slog.Logger // default: silence
	Version string       // of the program, for the document
	// CookieKey is a lasting secret of the installation, of at least 32 bytes. The
	// cookie's keys are derived from it for that purpose alone, so it may be a key that
	// serves others too. When empty, a random one is used and a restart signs everybody out.
	CookieKey []byte
	// Secure keeps the cookie off unencrypted connections; set it when agents come over TLS.
	Secure bool
	Now    func() time.Time // default time.Now
}

// server is the state behind the handlers.
type server struct {
	Config
	mux     *http.ServeMux
	api     huma.API
	baker   baker
	signIns *signIns
	origin  *http.CrossOriginProtection
}

// New returns the handler of everything below /api/v1/.
func New(c Config) http.Handler {
	if c.Tenant == "" {
		c.Tenant = chat.DefaultTenant
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &server{
		Config: c, mux: http.NewServeMux(), baker: newBaker(c.CookieKey), signIns: newSignIns(),
		origin: http.NewCrossOriginProtection(),
	}
	s.api = humago.New(s.mux, document(c.Version))
	s.routeSession()
	s.routeDesk()
	s.routeConversations()
	s.routeSpeak()
	s.serveDocument()
	return http.HandlerFunc(s.serve)
}

// serve is around every handler: headers, deadline, and an answer of our own
// for what no handler is there for, or what one did not survive.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
	defer cancel()
	// A client that does not read its answer loses the connection. Not every
	// writer can do this; net/http's can, and undoes it after the answer.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * handlerTimeout))
	out := &answer{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler {
			s.Log.ErrorContext(ctx, "handler panicked", "route", r.Method+" "+r.URL.Path, "panic", p)
		}
		if p == http.ErrAbortHandler || out.begun {
			panic(http.ErrAbortHandler) // half an answer: the connection has to end
		}
		writeProblem(w, http.StatusInternalServerError, "something went wrong here; it is in the log")
	}()
	r = r.WithContext(ctx)
	if handler, pattern := s.mux.Handler(r); pattern == "" { // 404, or 405 with its Allow header
		status := &statusOnly{header: h}
		handler.ServeHTTP(status, r)
		writeProblem(w, status.code, "there is no "+r.Method+" "+r.URL.Path)
		return
	}
	s.mux.ServeHTTP(out, r)
}

// answer knows whether it has begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) WriteHeader(code int) { a.begun = true; a.ResponseWriter.WriteHeader(code) }
func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection, for read deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// statusOnly takes status and headers of a handler whose body is not wanted.
type statusOnly struct {
	header http.Header
	code   int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(code int)        { s.code = code }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// staff administers in the name of the caller.
func (s *server) staff(by chat.Account) agentd.Staff {
	return agentd.Staff{Store: s.Store, Journal: s.Journal, Tenant: by.Tenant, By: by.String(), Now: s.Now}
}

func (s *server) now() time.Time { return s.Now().UTC() }
