package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// debugHandler serves what net/http/pprof has: profiles of the running process.
func debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index) // and every profile by its name
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveDebug is the part that serves profiles. It has no credentials, and so is
// never anywhere but on loopback.
func serveDebug(l net.Listener, log *slog.Logger) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		srv := &http.Server{
			Handler: debugHandler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }()
		ready()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		err := srv.Close() // nobody's work depends on a profile
		<-failed
		return err
	}
}

// listenDebug binds the debug address; nil when there is none.
func (c Config) listenDebug(ctx context.Context) (net.Listener, error) {
	if c.Debug == "" {
		return nil, nil
	}
	lc := net.ListenConfig{}
	l, err := lc.Listen(ctx, "tcp", c.Debug)
	if err != nil {
		return nil, fmt.Errorf("debug: %w", err)
	}
	return l, nil
}
