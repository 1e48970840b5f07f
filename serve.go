package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdline/agentd"
	"holdline/agentd/api"
	"holdline/agentd/desk"
	"holdline/bridge"
	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/mqtt"
	"holdline/broker/sessions"
	"holdline/chat"
	"holdline/storage"
)

// addresses are where a running process listens, as DATA/addresses.json tells.
type addresses struct {
	MQTT  string `json:"mqtt"`
	MQTTS string `json:"mqtts,omitempty"`
	HTTP  string `json:"http"`
	Debug string `json:"debug,omitempty"`
}

const addressesFile = "addresses.json"

// process is everything that serve has open.
type process struct {
	Config
	log     *slog.Logger
	store   storage.Store
	journal journal.Journal
	broker  *broker.Broker
	mqtt    *mqtt.Server
	bridge  *bridge.Bridge
	agentd  *agentd.Agentd
	ready   atomic.Bool
}

// serve runs everything until ctx ends.
func serve(ctx context.Context, c Config, log *slog.Logger, out io.Writer) (err error) {
	unlock, err := lockData(c.Data)
	if err != nil {
		return err
	}
	defer unlock()
	os.Remove(filepath.Join(c.Data, addressesFile)) // of an earlier run; the new one comes when it is true
	if err := os.MkdirAll(c.Blobs.Path, 0o700); err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	cookieKey, err := c.cookieKey()
	if err != nil {
		return err
	}
	node, err := c.node()
	if err != nil {
		return err
	}
	if err := c.migrate(ctx); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	p := &process{Config: c, log: log}
	if p.store, err = c.openStore(ctx, log); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	if p.journal, err = c.openJournal(ctx, log); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, p.journal.Close()) }()

	p.agentd = agentd.New(agentd.Config{
		Node: node, Tenant: chat.DefaultTenant, Store: p.store, Journal: p.journal, Log: log, Grace: c.Grace,
	})
	p.bridge = bridge.New(bridge.Config{Node: node, Journal: p.journal, Store: p.store, Log: log, Grace: c.Grace})
	if p.broker, err = broker.New(broker.Config{Node: node, Journal: p.journal, Keys: keys, Log: log, Retention: c.Retention}); err != nil {
		return err
	}
	p.mqtt = mqtt.NewServer(mqtt.Config{
		Broker: p.broker, Addr: c.MQTT, TLS: c.TLS, Admission: c.Admission, AllowAnonymous: c.AllowAnonymous, Origins: c.Origins, Log: log,
	})
	if err := p.mqtt.Listen(ctx); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	listen := net.ListenConfig{}
	web, err := listen.Listen(ctx, "tcp", c.HTTP)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	at := addresses{MQTT: p.mqtt.Addr().String(), HTTP: web.Addr().String()}
	if a := p.mqtt.TLSAddr(); a != nil {
		at.MQTTS = a.String()
	}

	apiHandler := api.New(api.Config{
		Store: p.store, Journal: p.journal, Keys: keys, Log: log, Version: buildVersion(),
		CookieKey: cookieKey, Secure: c.SecureCookies, Tenant: chat.DefaultTenant,
	})
	operators := sessions.Handler(sessions.Config{Broker: p.broker, Keys: keys, Log: log})
	profiles, err := c.listenDebug(ctx)
	if err != nil {
		return err
	}
	parts := []part{
		{"health", p.serveHTTP(web, apiHandler, operators)},
		{"upkeep", p.upkeep},
		{"agentd", p.agentd.Run},
		{"bridge", p.bridge.Run},
		{"broker", p.broker.Run},
		{"mqtt", p.mqtt.Run},
	}
	if profiles != nil {
		at.Debug = profiles.Addr().String()
		parts = slices.Insert(parts, 0, part{"debug", serveDebug(profiles, log)}) // up first: a start that hangs can be looked at
	}
	return runParts(ctx, log, parts, func() {
		first, err := p.firstAgent(ctx) // not before: a start that fails could not show the password
		if err != nil && ctx.Err() == nil {
			log.Error("first agent not made; holdline agent add makes one", "err", err)
		}
		if err := writeAddresses(c.Data, at); err != nil {
			log.Error("addresses file not written", "err", err)
		}
		p.ready.Store(true)
		greet(out, c, at, first)
	}, func() { p.ready.Store(false) })
}

// writeAddresses replaces DATA/addresses.json in one step.
func writeAddresses(dir string, a addresses) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, addressesFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, addressesFile))
}

// greet says where things are, and how to try them.
func greet(out io.Writer, c Config, at addresses, first *login) {
	fmt.Fprintf(out, "\nHoldline %s is ready.\n\n  MQTT   %s\n", buildVersion(), at.MQTT)
	if at.MQTTS != "" {
		fmt.Fprintf(out, "  MQTTS  %s\n", at.MQTTS)
	}
	fmt.Fprintf(out, "  Desk   http://%s/\n  Data   %s\n", at.HTTP, c.Data)
	if first != nil {
		fmt.Fprintf(out, "\nThe first agent (shown once):\n\n  name      %s\n  password  %s\n", first.name, first.password)
	}
	self, data := os.Args[0], ""
	if def, err := filepath.Abs("data"); err != nil || def != c.Data {
		data = " --data " + c.Data
	}
	host, port, _ := net.SplitHostPort(at.MQTT)
	if port != "1883" {
		host += " -p " + port
	}
	fmt.Fprintf(out, `
Chat as a customer, in two more terminals:

  mosquitto_sub -h %[1]s -V mqttv5 -i phone-1 -c -u ada -P "$(%[2]s token customer ada --device phone-1%[3]s)" -q 1 -t 'down/#'
  mosquitto_pub -h %[1]s -V mqttv5 -i phone-2 -u ada -P "$(%[2]s token customer ada --device phone-2%[3]s)" -q 1 -t up/message -m '{"id":"'$(date +%%s%%N)'","text":"Hi, order 4711 has not arrived"}'

or, friendlier:  %[2]s chat ada%[3]s

`, host, self, data)
}

// drainHTTP bounds how long answers under way may take when the process stops.
const drainHTTP = 5 * time.Second

// serveHTTP is the part with the desk, the API, MQTT over WebSocket, health and
// metrics. It is up first and down last, so that health can always be asked;
// everything else answers 503 until the whole process is ready.
func (p *process) serveHTTP(l net.Listener, apiHandler, operators http.Handler) func(context.Context, func()) error {
	whenReady := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !p.ready.Load() {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "starting or stopping; try again in a moment", http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.Handle("GET /metrics", p.metrics())
	mux.Handle("/mqtt", whenReady(p.mqtt.WebSocket()))
	mux.Handle("/api/", whenReady(apiHandler))
	mux.Handle(sessions.Path, whenReady(operators))
	mux.Handle(sessions.Path+"/", whenReady(operators))
	mux.Handle("/", whenReady(desk.Handler()))
	return p.serveHandler(l, mux)
}

// serveHandler serves h on l until ctx ends, and what is under way then for drainHTTP at most.
func (p *process) serveHandler(l net.Listener, h http.Handler) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		var unused sync.Map // connections on which nothing was asked yet: browsers open some to spare
		srv := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
			ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
			ConnState: func(c net.Conn, s http.ConnState) {
				if s != http.StateNew {
					unused.Delete(c)
					return
				}
				unused.Store(c, nil)
				if ctx.Err() != nil {
					_ = c.Close()
				}
			},
		}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }()
		ready()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		// Shutdown would wait for the first request of each of these.
		unused.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		// The parent is over; what is under way gets its own time to finish.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainHTTP)
		defer cancel()
		err := srv.Shutdown(drain)
		if err != nil {
			err = srv.Close()
		}
		<-failed
		return err
	}
}

// readyz is 200 when everything runs and storage answers.
func (p *process) readyz(w http.ResponseWriter, r *http.Request) {
	if !p.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := p.store.Ping(ctx); err != nil {
		p.log.Warn("storage does not answer", "err", err)
		http.Error(w, "storage does not answer; messages are accepted and stored later", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// upkeepEvery is how often old entries and events are let go.
const upkeepEvery = time.Hour

// upkeep is the part that keeps the journal and storage within the retention.
func (p *process) upkeep(ctx context.Context, ready func()) error {
	ready()
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		now := time.Now().UTC()
		old := now.Add(-p.Retention)
		if err := p.journal.Retain(ctx, old); err != nil && ctx.Err() == nil {
			p.log.Error("journal retention failed", "err", err)
		}
		if err := p.store.Maintain(ctx, now, old); err != nil && ctx.Err() == nil {
			p.log.Error("storage maintenance failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
