package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one Postgres server.
type Server struct {
	address  string // of somebody else's server; empty for our own
	bin      string
	dir      string // holds everything of ours: data, socket, log
	settings []string
	as       *syscall.Credential // who runs it; nil for ourselves
	watcher  io.Closer           // closed: the watcher removes the server

	prepared   sync.Once
	prepareErr error

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while it does not run
	exited chan struct{} // closed when cmd is gone
}

// start makes a server and starts it.
func start(t testing.TB, settings ...string) (*Server, error) {
	t.Helper()
	s := &Server{bin: binaries(t), settings: settings}
	var err error
	// Not the test's own directory: a socket's path must be short, and user postgres must get there.
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	if err := s.watch(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.initialise(); err != nil {
		s.remove()
		return nil, err
	}
	if err := s.run(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// watch starts the process that removes the server when its input ends, which
// it does when we close it or are no more.
func (s *Server) watch() error {
	const script = `
		while read -r line; do :; done
		pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
		if [ -n "$pid" ]; then
			kill -QUIT "$pid" 2>/dev/null
			for i in 1 2 3 4 5 6 7 8 9 10; do
				kill -0 "$pid" 2>/dev/null || break
				sleep 0.3
			done
		fi
		rm -rf "$0"`
	cmd := exec.Command("/bin/sh", "-c", script, s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us, not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.watcher = &watcher{in, cmd}
	return nil
}

type watcher struct {
	io.Closer
	cmd *exec.Cmd
}

func (w *watcher) Close() error { return errors.Join(w.Closer.Close(), w.cmd.Wait()) }

// remove ends the server and all its files.
func (s *Server) remove() {
	s.signal(syscall.SIGQUIT)
	s.await()
	_ = s.watcher.Close() // it is sh and rm; what it leaves is in a temporary directory
}

// initialise makes the data directory. The database's own order of text is
// that of a language where possible, so that a forgotten COLLATE shows.
func (s *Server) initialise() error {
	if os.Geteuid() == 0 { // which Postgres refuses to run as
		who, err := user.Lookup("postgres")
		if err != nil {
			who, err = user.Lookup("nobody")
		}
		if err != nil {
			return fmt.Errorf("no user to run Postgres as: %w", err)
		}
		uid, err := strconv.Atoi(who.Uid)
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(who.Gid)
		if err != nil {
			return err
		}
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	base := []string{"-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"}
	icu := append([]string{"--locale=C", "--locale-provider=icu", "--icu-locale=en"}, base...)
	if _, err := s.tool("initdb", icu...); err == nil {
		return nil
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	out, err := s.tool("initdb", append([]string{"--locale=C"}, base...)...)
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// tool runs one of Postgres' programs as the server's user.
func (s *Server) tool(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := s.command(ctx, name, args...)
	return cmd.CombinedOutput()
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

// run starts the server and returns when it takes connections.
func (s *Server) run() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", "data", "-k", s.dir, "-c", "listen_addresses=", "-c", "jit=off"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		cmd := s.command(context.Background(), "postgres", args...) // lives until it is told otherwise
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		exited := make(chan struct{})
		go func() {
			_ = cmd.Wait() // how it ended is in its log
			close(exited)
		}()
		for alive := true; alive; {
			if ready(s.dir, cmd.Process.Pid) {
				s.mu.Lock()
				s.cmd, s.exited = cmd, exited
				s.mu.Unlock()
				return nil
			}
			select {
			case <-tick.C:
			case <-exited:
				alive = false // after a kill, its predecessor's children may still hold the shared memory: once more
			}
			if time.Now().After(deadline) {
				_ = cmd.Process.Kill() // gone already is as good
				text, _ := os.ReadFile(log.Name())
				return fmt.Errorf("postgres does not start: %s", bytes.TrimSpace(text))
			}
		}
		<-tick.C
	}
}

// ready reads what pg_ctl reads: the eighth line of postmaster.pid.
func ready(dir string, pid int) bool {
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	return err == nil && len(lines) > 7 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dir == "" || s.cmd != nil
}

func (s *Server) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig) // gone already is as good
	}
}

// await returns when the server process is gone.
func (s *Server) await() {
	s.mu.Lock()
	exited := s.exited
	s.mu.Unlock()
	if exited != nil {
		<-exited
	}
	s.mu.Lock()
	s.cmd = nil
	s.mu.Unlock()
}

// Kill ends the server and every process of it with SIGKILL, as a crash of the
// machine would. What it had committed is on its disk.
func (s *Server) Kill() {
	s.signal(syscall.SIGSTOP) // no more children from here on
	children := s.children()
	s.signal(syscall.SIGKILL)
	s.await()
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
	}
	for _, pid := range children {
		for deadline := time.Now().Add(patience); alive(pid) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // not ours to wait for in any other way
		}
	}
}

// children are the processes that the server has started, where /proc tells;
// elsewhere they notice by themselves, a moment later, that the server is gone.
func (s *Server) children() (pids []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	parent := strconv.Itoa(s.cmd.Process.Pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // fails for a bad pattern only
	for _, path := range stats {
		if fields := statOf(path); len(fields) > 1 && fields[1] == parent {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive reports whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	fields := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// statOf are the fields after the name: state, parent, …; none when the process is gone.
func statOf(path string) []string {
	text, _ := os.ReadFile(path) // gone while we look is as good
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

// Stop ends the server as an operator would: connections are cut, everything is written.
func (s *Server) Stop() {
	s.signal(syscall.SIGINT)
	s.await()
}

// Restart starts the server again after Kill or Stop, and returns when it takes connections.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.running() {
		t.Fatal("pgtest: Restart of a server that runs")
	}
	if err := s.run(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}
