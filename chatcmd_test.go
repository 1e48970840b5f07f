package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/chat"
)

// chatPatience is for what must happen.
const chatPatience = 30 * time.Second

// told is an output that can be waited for.
type told struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func newTold() *told { return &told{changed: make(chan struct{})} }

func (w *told) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.b.Write(p)
}

func (w *told) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// await waits until the output contains all of these.
func (w *told) await(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.After(chatPatience)
	for {
		w.mu.Lock()
		got, changed := w.b.String(), w.changed
		w.mu.Unlock()
		missing := ""
		for _, s := range want {
			if !strings.Contains(got, s) {
				missing = s
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %q in:\n%s", missing, got)
		}
	}
}

// serveTest serves data until stop.
func serveTest(t *testing.T, data string) (stop func()) {
	t.Helper()
	c, _, err := loadConfig("serve", []string{"--data", data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--min-free", "1MB"}, os.Getenv, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := newTold(), make(chan error, 1)
	go func() { ended <- serve(ctx, c, slog.New(slog.DiscardHandler), out) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	out.await(t, "127.0.0.1")
	return stop
}

// pipeChat is holdline chat with its input from a pipe.
func pipeChat(t *testing.T, data, input string, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chatPatience)
	defer cancel()
	b := newTold()
	err = runChatWith(ctx, append([]string{"--data", data}, args...), strings.NewReader(input), b)
	return b.String(), err
}

func TestChatFromAPipe(t *testing.T) {
	data := t.TempDir()
	if _, err := pipeChat(t, data, "hi\n", "ada"); err == nil || !strings.Contains(err.Error(), "start the server") {
		t.Errorf("without a server: %v", err)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 0 {
		t.Errorf("that left %v, %v", entries, err)
	}
	stop := serveTest(t, data)
	out, err := pipeChat(t, data, "Hi, order 4711 has not arrived\n\nit is late", "ada")
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	for _, want := range []string{"— connected", "…  you: Hi, order 4711", "✓✓ Hi, order 4711 has not arrived (accepted)", "✓✓ it is late (accepted)", "waiting"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// The past is there again, and what cannot be said is refused.
	out, err = pipeChat(t, data, strings.Repeat("x", chat.MaxTextBytes+1)+"\nshort\n", "ada")
	if err == nil || !strings.Contains(err.Error(), "1 of the messages refused") {
		t.Errorf("a text that is too long: %v", err)
	}
	for _, want := range []string{"✓✓ you: Hi, order 4711", "(refused: too large", "✓✓ short (accepted)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	stop()
	out, err = pipeChat(t, data, "while it is away\n", "ada", "--wait", "300ms")
	if err == nil || !strings.Contains(err.Error(), "stay in the outbox") || !strings.Contains(out, "not connected") {
		t.Errorf("without a server: %v in\n%s", err, out)
	}
	serveTest(t, data)
	if out, err = pipeChat(t, data, "", "ada"); err != nil || !strings.Contains(out, "✓✓ while it is away (accepted)") {
		t.Errorf("what waited in the outbox: %v in\n%s", err, out)
	}
	// Another device has everything from the server, and so has one that starts anew.
	for _, args := range [][]string{{"ada", "--device", "tablet"}, {"ada", "--new"}} {
		if out, err = pipeChat(t, data, "me\n", args...); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"✓✓ you: Hi, order 4711", "✓✓ you: while it is away", "✓✓ me (accepted)"} {
			if n := strings.Count(out, want); n != 1 {
				t.Errorf("%q: %d times %q in\n%s", args, n, want, out)
			}
		}
	}
}

func TestChatNamesAreNoPaths(t *testing.T) {
	data := t.TempDir()
	serveTest(t, data)
	for _, name := range []string{"..", ".", "../../etc", "a/b", "阿达", strings.Repeat("é", 64)} {
		if out, err := pipeChat(t, data, "hi\n", name, "--device", "d/../x"); err != nil {
			t.Errorf("%q: %v in\n%s", name, err, out)
		}
	}
	entries, err := os.ReadDir(filepath.Join(data, "phones"))
	if err != nil || len(entries) != 6 {
		t.Errorf("%d phones, %v", len(entries), err)
	}
	for _, args := range [][]string{{}, {"a", "b"}, {""}, {"a\x1b"}, {"ada", "--device", ""}, {"ada", "--server", "nowhere"}} {
		if _, err := pipeChat(t, data, "", args...); err == nil {
			t.Errorf("chat %q was taken", args)
		}
	}
}

func TestChatOnATerminal(t *testing.T) {
	data := t.TempDir()
	serveTest(t, data)
	keys, err := loadKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	cfg := chatConfig(keys, data, "", chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"}, "terminal")
	var in []*io.PipeWriter // what is typed
	open := func() (*chatPhone, *told, chan error) {
		out := newTold()
		p, err := openChat(filepath.Join(data, "phone"), cfg, newChatScreen(out, "ada", time.UTC, func() (int, int) { return 60, 20 }))
		if err != nil {
			t.Fatal(err)
		}
		r, w := io.Pipe()
		in = append(in, w)
		ended := make(chan error, 1)
		go func() { ended <- p.run(t.Context(), p.converse(r)) }()
		return p, out, ended
	}
	p, out, ended := open()
	out.await(t, "● ada> ")
	fmt.Fprint(in[0], "Helo\x7flo")
	out.await(t, "● ada> Hello")
	fmt.Fprint(in[0], "\r")
	out.await(t, "…  you: Hello", "\x1b[7G✓✓")
	// It cannot be open twice.
	if _, err := openChat(filepath.Join(data, "phone"), cfg, newChatScreen(io.Discard, "ada", time.UTC, nil)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second terminal: %v", err)
	}
	fmt.Fprint(in[0], "\x04")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}

	p, out, ended = open()
	out.await(t, "✓✓ you: Hello", "● ada> ")
	if err := in[1].Close(); err != nil { // the terminal is gone
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
