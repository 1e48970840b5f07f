package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdline/broker/journal"
)

// serverSettings makes a child of the test a NATS server.
const serverSettings = "HOLDLINE_TEST_NATS"

func TestMain(m *testing.M) {
	if settings := os.Getenv(serverSettings); settings != "" {
		if err := serve(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// settings are those of one server.
type settings struct {
	Name, Dir, Log string
	Port           int
	ClusterPort    int
	Routes         []string
}

// serve is a NATS server until its parent goes.
func serve(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	o := &server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, NoSigs: true,
		JetStream: true, StoreDir: s.Dir, SyncAlways: true, MaxPayload: 8 << 20, MaxPending: 64 << 20,
		LogFile: s.Log, JetStreamMaxStore: 4 << 30, JetStreamMaxMemory: 256 << 20,
	}
	if len(s.Routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: s.ClusterPort}
		for _, r := range s.Routes {
			u, err := url.Parse(r)
			if err != nil {
				return err
			}
			o.Routes = append(o.Routes, u)
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return err
	}
	ns.ConfigureLogger()
	ns.Start()
	for { // the parent holds our standard input
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			ns.Shutdown()
			return nil
		}
	}
}

// node is one server, life after life.
type node struct {
	settings settings
	cmd      *exec.Cmd
	stdin    interface{ Close() error }
}

// cluster is some servers.
type cluster struct{ nodes []*node }

// freePorts returns ports that nobody listens on.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// newCluster starts servers and waits until they can make a stream.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	dir := t.TempDir()
	ports := freePorts(t, 2*n)
	c := &cluster{}
	for i := range n {
		s := settings{Name: fmt.Sprint("n", i), Dir: filepath.Join(dir, fmt.Sprint("n", i)), Log: filepath.Join(dir, fmt.Sprintf("n%d.log", i)), Port: ports[i], ClusterPort: ports[n+i]}
		for k := range n {
			if n > 1 {
				s.Routes = append(s.Routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+k]))
			}
		}
		c.nodes = append(c.nodes, &node{settings: s})
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if t.Failed() {
			for _, n := range c.nodes {
				log, _ := os.ReadFile(n.settings.Log)
				t.Logf("the log of %s ends:\n%s", n.settings.Name, log[max(0, len(log)-3000):])
			}
		}
	})
	for _, n := range c.nodes {
		n.start(t)
	}
	c.ready(t, n)
	return c
}

func (n *node) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(n.settings)
	if err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.Command(os.Args[0], "-test.run=^$")
	n.cmd.Env = append(os.Environ(), serverSettings+"="+string(text), "GOMAXPROCS=2")
	n.cmd.Stderr = os.Stderr
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the server as kill -9 does.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill() // it may have ended
	_ = n.cmd.Wait()         // says that it was killed
	n.stdin.Close()
	n.cmd = nil
}

func (n *node) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) url() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", n.settings.Port))
	}
	return "nats://" + strings.Join(all, ",")
}

// ready waits until the cluster makes streams.
func (c *cluster) ready(t testing.TB, replicas int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		last = func() error {
			conn, err := nats.Connect(c.url(), nats.Timeout(time.Second))
			if err != nil {
				return err
			}
			defer conn.Close()
			js, err := jetstream.New(conn)
			if err != nil {
				return err
			}
			once, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if _, err := js.CreateOrUpdateStream(once, jetstream.StreamConfig{Name: "ready", Replicas: replicas, Subjects: []string{"ready"}}); err != nil {
				return err
			}
			_, err = js.Publish(once, "ready", nil)
			return err
		}()
		if last == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	t.Fatalf("the cluster is not ready: %v", last)
}

// leader is the node that leads a stream.
func (c *cluster) leader(t testing.TB, stream string) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := nats.Connect(c.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := js.Stream(once, stream)
		cancel()
		if err != nil {
			continue
		}
		for _, n := range c.nodes {
			if info := s.CachedInfo(); info.Cluster != nil && n.settings.Name == info.Cluster.Leader {
				return n
			}
		}
	}
	t.Fatalf("stream %s has no leader", stream)
	return nil
}

var streams atomic.Uint64

// disk is a stream, and what holds its writer's connection.
type disk struct {
	c         *cluster
	stream    string
	replicas  int
	ringBytes int64
	j         *Journal

	mu      sync.Mutex
	held    chan struct{} // closed on release; nil when not held
	waiting chan struct{} // closed when something waits
	conns   []*heldConn
	crashed bool // until it is opened again; nobody dials meanwhile
}

func newDisk(c *cluster) *disk {
	return &disk{c: c, stream: fmt.Sprint("journal", streams.Add(1)), replicas: len(c.nodes)}
}

func (d *disk) options() Options {
	o := Options{URL: d.c.url(), Stream: d.stream, Replicas: d.replicas, RingBytes: d.ringBytes, dialer: d}
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return o
}

func (d *disk) Open(t *testing.T) journal.Journal {
	t.Helper()
	d.mu.Lock()
	d.crashed = false
	d.mu.Unlock()
	j, err := Open(t.Context(), d.options())
	if err != nil {
		t.Fatal(err)
	}
	d.j = j
	return j
}

func (d *disk) Hold(t *testing.T) (waiting, release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held, seen := make(chan struct{}), make(chan struct{})
	d.held, d.waiting = held, seen
	return func() {
			select {
			case <-seen:
			case <-time.After(20 * time.Second):
				t.Error("nothing was to be written")
			}
		}, sync.OnceFunc(func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.held = nil
			close(held)
		})
}

// Crash ends the process's connections, and with them what was not sent.
func (d *disk) Crash(t *testing.T) {
	d.mu.Lock()
	d.crashed = true
	for _, c := range d.conns {
		c.cut()
	}
	d.conns = nil
	d.mu.Unlock()
	d.j.abandon()
}

func (d *disk) Dial(network, address string) (net.Conn, error) {
	raw, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return nil, err
	}
	c := &heldConn{Conn: raw, disk: d, gone: make(chan struct{})}
	c.cut = sync.OnceFunc(func() {
		close(c.gone)
		raw.Close()
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		c.cut()
		return nil, errors.New("crashed")
	}
	d.conns = append(d.conns, c)
	return c, nil
}

// heldConn writes nothing while its disk is held.
type heldConn struct {
	net.Conn
	disk *disk
	gone chan struct{}
	cut  func()
}

func (c *heldConn) Write(b []byte) (int, error) {
	c.disk.mu.Lock()
	held := c.disk.held
	if held != nil && bytes.Contains(b, []byte("HPUB ")) && c.disk.waiting != nil {
		close(c.disk.waiting)
		c.disk.waiting = nil
	}
	c.disk.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-c.gone:
		}
	}
	select {
	case <-c.gone:
		return 0, errors.New("cut")
	default:
		return c.Conn.Write(b)
	}
}

func (c *heldConn) Close() error {
	c.cut()
	return nil
}
