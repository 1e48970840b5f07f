package test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdline/broker/token"
	"holdline/chat"
)

// Setup is how a Server is run.
type Setup struct {
	Dir     string // data directory; a temporary one when empty
	Storage string // URL; SQLite in the data directory when empty
	Grace   time.Duration
	Flags   []string
	KillAt  string // HOLDLINE_KILL_AT, for the next start only
}

// Server is the program, running or not, on one data directory. Its methods
// may be called from any goroutine; starting and ending belong to one at a time.
type Server struct {
	tb    testing.TB
	setup Setup
	keys  *token.Keys

	mu         sync.Mutex
	mqtt, http string // empty while it is down
	run        *life
	lives      int
}

// life is one process.
type life struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  *output
}

// NewServer prepares a data directory and starts nothing. The process, if one
// runs, is killed when the test ends.
func NewServer(tb testing.TB, setup Setup) *Server {
	tb.Helper()
	Binary(tb)
	if setup.Dir == "" {
		setup.Dir = tb.TempDir()
	}
	s := &Server{tb: tb, setup: setup}
	tb.Cleanup(s.Kill)
	return s
}

// Start is NewServer and Start.
func Start(tb testing.TB, setup Setup) *Server {
	tb.Helper()
	s := NewServer(tb, setup)
	s.Start()
	return s
}

// Dir is the data directory.
func (s *Server) Dir() string { return s.setup.Dir }

// MQTT is where phones connect; empty while the server is down.
func (s *Server) MQTT() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mqtt
}

// HTTP is the base URL; empty while the server is down.
func (s *Server) HTTP() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http
}

// Start starts the process on free ports and waits until it is ready.
func (s *Server) Start() {
	s.tb.Helper()
	if err := s.Try(); err != nil {
		s.tb.Fatal(err)
	}
}

// StartToDie starts the process with a kill point, and does not mind when it
// dies before it is ready.
func (s *Server) StartToDie(at string) {
	s.tb.Helper()
	s.setup.KillAt = at
	err := s.Try()
	s.setup.KillAt = ""
	if err != nil && !errors.Is(err, errDied) {
		s.tb.Fatal(err)
	}
}

var errDied = errors.New("the process ended")

// Try is Start with an error.
func (s *Server) Try() error {
	addresses := filepath.Join(s.setup.Dir, "addresses.json")
	if err := os.Remove(addresses); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.lives++
	l := &life{done: make(chan struct{}), out: &output{}}
	s.run = l
	s.mu.Unlock()
	args := []string{"serve", "--mqtt", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--http", "127.0.0.1:0"}
	args = append(args, s.flags()...)
	l.cmd = exec.Command(build.path, args...)
	l.cmd.Env = append(environ(), "HOLDLINE_KILL_AT="+s.setup.KillAt)
	l.cmd.Stdout, l.cmd.Stderr = l.out, l.out
	if err := launch(l.cmd); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	go func() {
		_ = l.cmd.Wait() // how it ended is in ProcessState
		s.down(l)
		close(l.done)
	}()
	deadline := time.Now().Add(Patience)
	for {
		var at struct{ MQTT, HTTP string }
		if b, err := os.ReadFile(addresses); err == nil && json.Unmarshal(b, &at) == nil && at.MQTT != "" {
			if r, err := http.Get("http://" + at.HTTP + "/readyz"); err == nil {
				_ = r.Body.Close() // nothing to read
				if r.StatusCode == http.StatusOK {
					s.mu.Lock()
					s.mqtt, s.http = at.MQTT, "http://"+at.HTTP
					s.mu.Unlock()
					return nil
				}
			}
		}
		select {
		case <-l.done:
			return fmt.Errorf("%w before it was ready (%s):\n%s", errDied, l.cmd.ProcessState, l.out.tail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Kill()
			return fmt.Errorf("not ready after %s:\n%s", Patience, l.out.tail())
		}
	}
}

// environ is our environment without anybody's settings for Holdline.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HOLDLINE_") })
}

func (s *Server) flags() []string {
	f := []string{"--data", s.setup.Dir}
	if s.setup.Storage != "" {
		f = append(f, "--storage", s.setup.Storage)
	}
	if s.setup.Grace > 0 {
		f = append(f, "--grace", s.setup.Grace.String())
	}
	return append(f, s.setup.Flags...)
}

// down notes the end of a process and looks at what it said last.
func (s *Server) down(l *life) {
	s.mu.Lock()
	if s.run == l {
		s.mqtt, s.http = "", ""
	}
	s.mu.Unlock()
	if said := l.out.tail(); strings.Contains(said, "panic: ") || strings.Contains(said, "fatal error: ") || strings.Contains(said, "panicked") {
		s.tb.Errorf("the server panicked:\n%s", said)
	}
}

// present is the running process; nil when there is none.
func (s *Server) present() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.cmd.Process == nil {
		return nil
	}
	return s.run
}

// Signal sends a signal, if there is a process to get it.
func (s *Server) Signal(sig syscall.Signal) {
	if l := s.present(); l != nil {
		_ = l.cmd.Process.Signal(sig) // it may just have ended
	}
}

// Kill is kill -9. It returns when the process is gone.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	if l := s.present(); l != nil {
		<-l.done
	}
}

// Stop asks the process to end and waits; it fails the test unless it ends well.
func (s *Server) Stop() {
	s.tb.Helper()
	s.Signal(syscall.SIGTERM)
	if state := s.Ended(Patience); !state.Success() {
		s.tb.Fatalf("after SIGTERM: %s\n%s", state, s.Log())
	}
}

// Ended waits for the process to end by itself.
func (s *Server) Ended(within time.Duration) *os.ProcessState {
	s.tb.Helper()
	l := s.present()
	if l == nil {
		s.tb.Fatal("no process was started")
	}
	select {
	case <-l.done:
		return l.cmd.ProcessState
	case <-time.After(within):
		s.tb.Fatalf("the process still runs after %s:\n%s", within, l.out.tail())
		return nil
	}
}

// Restart kills the process, if it runs, and starts it again.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.Start()
}

// Log is the end of what the present or last process said.
func (s *Server) Log() string {
	if l := s.present(); l != nil {
		return l.out.tail()
	}
	return ""
}

// MemoryBytes is the resident memory of the process.
func (s *Server) MemoryBytes() int {
	s.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.present().cmd.Process.Pid))
	if err != nil {
		s.tb.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				s.tb.Fatal(err)
			}
			return kb << 10
		}
	}
	s.tb.Fatal("no VmRSS in /proc")
	return 0
}

// Command runs a command of the program on the data directory and returns what it printed.
func (s *Server) Command(args ...string) string {
	s.tb.Helper()
	out, err := s.TryCommand(args...)
	if err != nil {
		s.tb.Fatalf("holdline %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// TryCommand is Command with an error; out is what was printed on both outputs.
func (s *Server) TryCommand(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(s.tb.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, build.path, append(args, s.flags()...)...)
	cmd.Env = environ()
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// Token issues what `holdline token` would, without a process for each.
func (s *Server) Token(role chat.Role, subject, device string) string {
	s.tb.Helper()
	return s.TokenUntil(role, subject, device, time.Now().Add(time.Hour))
}

// TokenUntil is Token with another end.
func (s *Server) TokenUntil(role chat.Role, subject, device string, expires time.Time) string {
	s.tb.Helper()
	t, err := s.tokenKeys().Issue(token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: role, Subject: subject},
		Device:  device, Issued: time.Now().Add(-time.Hour), Expires: expires,
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return t
}

func (s *Server) tokenKeys() *token.Keys {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.Command("token", "service", "ledger") // makes the key when there is none
		b, err := os.ReadFile(filepath.Join(s.setup.Dir, "token.key"))
		if err != nil {
			s.tb.Fatal(err)
		}
		own, err := hex.DecodeString(strings.TrimSpace(string(b)))
		if err != nil {
			s.tb.Fatal(err)
		}
		if s.keys, err = token.NewKeys(own, nil, nil); err != nil {
			s.tb.Fatal(err)
		}
	}
	return s.keys
}

// output keeps the end of what a process says.
type output struct {
	mu sync.Mutex
	b  []byte
}

const outputBytes = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, p...)
	if over := len(o.b) - outputBytes; over > outputBytes {
		o.b = bytes.Clone(o.b[over:])
	}
	return len(p), nil
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b)
}
