package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHelpIsHelpWhereverItIsAsked(t *testing.T) {
	for _, line := range []string{"help", "--help", "-h", "serve --help", "token --help", "agent add -h", "check --help", "chat --help", "migrate --help"} {
		var out bytes.Buffer
		if err := run(t.Context(), strings.Fields(line), &out); err != nil {
			t.Errorf("holdline %s: %v", line, err)
		}
		if !strings.Contains(out.String(), "holdline token ROLE NAME") || !strings.Contains(out.String(), "--min-free") {
			t.Errorf("holdline %s says %q, want commands and settings", line, out.String())
		}
	}
}

func TestWhatCannotBeUnderstoodPointsToHelp(t *testing.T) {
	t.Setenv("HOLDLINE_DATA", t.TempDir())
	for _, line := range []string{
		"bogus", "--bogus", "serve --bogus", "serve extra", "check extra", "agent", "agent bogus", "agent bogus bob", "agent add", "agent list all",
		"token", "token customer", "token customer a b", "token customer ada --ttl soon", "token customer ada --ttl -5m", "token customer ada --ttl 0", "chat",
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(line), &out)
		if !errors.Is(err, errUsage) {
			t.Errorf("holdline %s = %v (says %q), want a fault of usage", line, err, out.String())
		}
	}
}

func TestPasswordsAreMasked(t *testing.T) {
	for v, want := range map[string]string{
		"postgres://u:secret@h/db":                            "postgres://u:xxxxx@h/db",
		"postgres://u@h/db?password=secret&sslmode=require":   "postgres://u@h/db?password=xxxxx&sslmode=require",
		"postgres://u:secret@h/db?sslpassword=secret":         "postgres://u:xxxxx@h/db?sslpassword=xxxxx",
		"postgres://u:sec%ret@h/db":                           "postgres://xxxxx@h/db",
		"sqlite:/var/lib/holdline.db":                         "sqlite:/var/lib/holdline.db",
		"postgres://h/db?sslmode=disable&application_name=hl": "postgres://h/db?sslmode=disable&application_name=hl",
	} {
		if got := mask(v); got != want {
			t.Errorf("mask(%q) = %q, want %q", v, got, want)
		}
	}
}

// TestAFailedStartKeepsTheFirstPassword: the first agent's password is shown once,
// so it must not be made by a start that cannot show it.
func TestAFailedStartKeepsTheFirstPassword(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := t.TempDir()
	serve := func(http string) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out := untilReady{stop: cancel}
		err := run(ctx, []string{"--data", data, "--mqtt", "127.0.0.1:0", "--http", http, "--log", "error"}, &out)
		if ready := strings.Contains(out.String(), "is ready"); ready == (err != nil) {
			t.Fatalf("serve = %v after saying %q", err, out.String())
		}
		return out.String()
	}
	serve(taken.Addr().String())
	if said := serve("127.0.0.1:0"); !strings.Contains(said, "password") {
		t.Errorf("the first start that worked said %q, want a password", said)
	}
	if said := serve("127.0.0.1:0"); strings.Contains(said, "password") {
		t.Errorf("the second start said %q, want no password", said)
	}
}

// TestAnUnusedConnectionDoesNotHoldUpTheStop: browsers open connections to spare.
func TestAnUnusedConnectionDoesNotHoldUpTheStop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := (&process{log: slog.New(slog.DiscardHandler)}).serveHandler(l, http.NotFoundHandler())
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- web(ctx, func() {}) }()
	spare, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	r, err := http.Get("http://" + l.Addr().String()) // accepted after the spare one
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	began := time.Now()
	stop()
	if err := <-over; err != nil || time.Since(began) > drainHTTP/2 {
		t.Errorf("the stop took %s: %v", time.Since(began), err)
	}
}

// untilReady stops the server when it has said where it is.
type untilReady struct {
	bytes.Buffer
	stop func()
}

func (u *untilReady) Write(p []byte) (int, error) {
	defer func() {
		if strings.Contains(u.String(), "chat ada") {
			u.stop()
		}
	}()
	return u.Buffer.Write(p)
}
