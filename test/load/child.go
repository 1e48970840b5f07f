//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyLimit and endLimit bound how long a broker may take to start and to end.
const (
	readyLimit = 60 * time.Second
	endLimit   = 60 * time.Second
)

// kind is how to run one of the brokers.
type kind struct {
	name  string
	ours  bool
	path  string
	tuned bool // mosquitto: with queues and windows without bounds
}

// child is a broker in a process of its own, on a directory of its own.
type child struct {
	kind
	dir  string
	addr unix.SockaddrInet4
	http string // ours: where metrics are
	cmd  *exec.Cmd
	done chan error
	log  bytes.Buffer // read after done
}

// start runs a broker on dir, which may be an earlier one's, and returns when
// it takes connections. It is called on the main thread only, with which the
// child dies.
func (k kind) start(ctx context.Context, dir string) (*child, error) {
	c := &child{kind: k, dir: dir, done: make(chan error, 1)}
	run := c.mosquitto
	if k.ours {
		run = c.holdline
	}
	if err := run(ctx); err != nil {
		if c.cmd != nil && c.cmd.Process != nil {
			c.kill()
		}
		return nil, fmt.Errorf("start %s: %w\n%s", k.name, err, c.log.Bytes())
	}
	return c, nil
}

func (c *child) launch(ctx context.Context, args ...string) error {
	c.cmd = exec.CommandContext(ctx, c.path, args...)
	c.cmd.Dir = c.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOLDLINE_") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	go func() { c.done <- c.cmd.Wait() }()
	return nil
}

func (c *child) holdline(ctx context.Context) error {
	file := filepath.Join(c.dir, "addresses.json")
	_ = os.Remove(file) // of the process before
	err := c.launch(ctx, "serve", "--data", c.dir, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--allow-anonymous", "--accept-rate", "off", "--log", "warn")
	if err != nil {
		return err
	}
	var at struct{ MQTT, HTTP string }
	err = c.until(func() bool {
		b, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(b, &at) == nil
	})
	if err != nil {
		return err
	}
	c.http = at.HTTP
	tcp, err := net.ResolveTCPAddr("tcp4", at.MQTT)
	if err != nil {
		return err
	}
	c.addr = unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte{127, 0, 0, 1}}
	return nil
}

// mosquitto runs with what Debian's configuration sets, in our directory.
func (c *child) mosquitto(ctx context.Context) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil { // mosquitto cannot choose one itself
		return err
	}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nlog_dest none\n", port, c.dir)
	if os.Getuid() == 0 {
		conf += "user root\n" // it would become a user who may not write here
	}
	if c.tuned {
		conf += "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n"
	}
	file := filepath.Join(c.dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return err
	}
	if err := c.launch(ctx, "-c", file); err != nil {
		return err
	}
	c.addr = unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	return c.until(func() bool {
		conn, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// until looks every few milliseconds whether the process is ready.
func (c *child) until(ready func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(readyLimit)
	for !ready() {
		select {
		case err := <-c.done:
			c.done <- err
			return fmt.Errorf("it ended: %v", err)
		case <-limit:
			return fmt.Errorf("not ready after %s", readyLimit)
		case <-tick.C:
		}
	}
	return nil
}

// stop ends the process as an operator would.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-c.done:
		c.done <- err
		if err != nil {
			return fmt.Errorf("%s ended: %w\n%s", c.name, err, c.log.Bytes())
		}
		return nil
	case <-time.After(endLimit):
		c.kill()
		return fmt.Errorf("%s did not stop within %s", c.name, endLimit)
	}
}

// kill ends the process as a crash would.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	c.done <- <-c.done
}

// cpu is what the process has used so far.
func (c *child) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The fields follow the name, which ends with the last parenthesis: state is
	// the third, utime and stime are the 14th and 15th, in hundredths of a second.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, errors.New("unexpected /proc/PID/stat")
	}
	user, err1 := strconv.ParseUint(f[11], 10, 64)
	system, err2 := strconv.ParseUint(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// memory is what the process holds in memory, in bytes.
func (c *child) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(b), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); !ok || err != nil {
		return 0, errors.New("no VmRSS in /proc/PID/status")
	}
	return kib * 1024, nil
}

// metric reads one of our figures.
func (c *child) metric(name string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.http+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(b), "\n"+name+" ")
	var v float64
	if _, err := fmt.Sscan(after, &v); !ok || err != nil {
		return 0, fmt.Errorf("no %s in /metrics", name)
	}
	return v, nil
}

// heap is what our process has on its heap after a collection. Go collects
// when enough was allocated, which asking for metrics does a little; what is not
// used is taken off the count some time after that, so the least that is seen is
// what is right.
func (c *child) heap() (float64, error) {
	const collected, inUse = "go_memstats_last_gc_time_seconds", "go_memstats_heap_alloc_bytes"
	first, err := c.metric(collected)
	if err != nil {
		return 0, err
	}
	least, until := math.Inf(1), time.Time{}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		at, err := c.metric(collected)
		if err != nil {
			return 0, err
		}
		if at == first {
			continue
		}
		if until.IsZero() {
			until = time.Now().Add(time.Second)
		}
		n, err := c.metric(inUse)
		if err != nil {
			return 0, err
		}
		if least = min(least, n); time.Now().After(until) {
			return least, nil
		}
	}
	return 0, errors.New("no collection within a minute")
}

// ended reports whether the process is gone.
func (c *child) ended() bool {
	select {
	case err := <-c.done:
		c.done <- err
		return true
	default:
		return false
	}
}
