package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

func TestProfilesAreServedUntilTheStop(t *testing.T) {
	l, err := Config{Debug: "127.0.0.1:0"}.listenDebug(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- serveDebug(l, slog.New(slog.DiscardHandler))(ctx, func() { close(ready) }) }()
	<-ready
	for _, path := range []string{"", "heap", "goroutine?debug=1", "cmdline", "symbol"} {
		r, err := http.Get("http://" + l.Addr().String() + "/debug/pprof/" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("%q: status %d", path, r.StatusCode)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

func TestProfilesAreForLoopbackOnly(t *testing.T) {
	for addr, ok := range map[string]bool{"": true, "127.0.0.1:0": true, "localhost:6060": true, "0.0.0.0:6060": false, ":6060": false, "6060": false} {
		_, _, err := loadConfig("serve", []string{"--debug", addr}, env(nil), nil)
		if (err == nil) != ok {
			t.Errorf("debug on %q: %v, want ok %t", addr, err, ok)
		}
	}
}
