// Package pgtest is a private Postgres for tests.
//
// Database gives a test a database of its own on a server that the test binary
// starts once, in a temporary directory, on a unix socket, as user postgres
// when the tests run as root. Start gives a test a whole server, to be killed and started
// again. A small process watches over each server and removes it with all its files
// when the test binary is gone, however it went.
//
// It looks for a server to use in TEST_POSTGRES_URL, then for one to start in PATH, then
// in /usr/lib/postgresql/*/bin. Without any, a test is skipped on a laptop and fails in CI.
// It is for unix systems, and never starts a server that others can reach.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every step of a server: far more than any takes.
const patience = time.Minute

// shared is the server of this test binary.
var shared struct {
	sync.Mutex
	server *Server
}

// Database returns the URL of a new database that is dropped when the test ends.
// With prepare (a migration, say) it is a copy of a template that was prepared once:
// a test binary passes the same prepare everywhere.
func Database(t testing.TB, prepare ...func(ctx context.Context, url string) error) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		if address := os.Getenv("TEST_POSTGRES_URL"); address != "" {
			shared.server = &Server{address: address}
		} else {
			// Speed is what matters: nobody kills this one.
			s, err := start(t, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
			if err != nil {
				t.Fatalf("pgtest: %v", err)
			}
			shared.server = s
		}
	}
	return shared.server.Database(t, prepare...)
}

// Start starts a server for one test, with settings such as "fsync=on" on top of the defaults.
// Its commits survive Kill; it is gone when the test ends.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := start(t, append([]string{"fsync=off", "full_page_writes=off"}, settings...)...)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(s.remove)
	return s
}

// template is the database that others are copied from.
const template = "template_of_tests"

// Database is the function of that name, on this server.
func (s *Server) Database(t testing.TB, prepare ...func(ctx context.Context, url string) error) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	create := "CREATE DATABASE " + name
	// On somebody else's server no template is left behind.
	if len(prepare) > 0 && s.dir != "" {
		s.prepared.Do(func() {
			s.prepareErr = s.psql("CREATE DATABASE " + template)
			for _, p := range prepare {
				if s.prepareErr == nil {
					s.prepareErr = p(t.Context(), s.URL(template))
				}
			}
		})
		if s.prepareErr != nil {
			t.Fatalf("pgtest: prepare the template: %v", s.prepareErr)
		}
		create += " TEMPLATE " + template
	}
	if err := s.psql(create); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if !s.running() {
			return // killed, and removed as a whole
		}
		if err := s.psql("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if s.dir == "" {
		for _, p := range prepare {
			if err := p(t.Context(), s.URL(name)); err != nil {
				t.Fatalf("pgtest: prepare: %v", err)
			}
		}
	}
	return s.URL(name)
}

// URL is the address of a database on this server.
func (s *Server) URL(database string) string {
	if s.dir == "" {
		u, err := url.Parse(s.address)
		if err != nil {
			panic(fmt.Sprintf("pgtest: TEST_POSTGRES_URL: %v", err))
		}
		u.Path = "/" + database
		return u.String()
	}
	return "postgres://postgres@/" + database + "?" + url.Values{"host": {s.dir}, "sslmode": {"disable"}}.Encode()
}

// psql runs one statement outside of any transaction.
func (s *Server) psql(statement string) error {
	at := s.address
	if s.dir != "" {
		at = s.URL("postgres")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) // a test's own context is over in its Cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, at)
	if s.bin == "" {
		cmd = exec.CommandContext(ctx, "psql", cmd.Args[1:]...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", statement, err, out)
	}
	return nil
}

// binaries is the newest directory with a server to start.
func binaries(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // fails for a bad pattern only
	slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	const missing = "this test needs PostgreSQL 13 or newer: install it (apt-get install postgresql), or name a server in TEST_POSTGRES_URL"
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}
