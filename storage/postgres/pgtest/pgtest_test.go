package pgtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// query asks a database with psql.
func query(t *testing.T, s *Server, url, statement string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(s.bin, "psql"), "-XAtc", statement, url).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", statement, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestADatabaseIsACopyOfThePreparedOne(t *testing.T) {
	s := Start(t)
	prepares := 0
	prepare := func(_ context.Context, url string) error {
		prepares++
		query(t, s, url, "CREATE TABLE made (one int)")
		return nil
	}
	one, two, empty := s.Database(t, prepare), s.Database(t, prepare), s.Database(t)
	query(t, s, one, "INSERT INTO made VALUES (1)")
	for url, want := range map[string]string{one: "1", two: "0"} {
		if got := query(t, s, url, "SELECT count(*) FROM made"); got != want {
			t.Errorf("%s has %s rows, want %s", url, got, want)
		}
	}
	if got := query(t, s, empty, "SELECT to_regclass('made') IS NULL"); got != "t" {
		t.Error("an unprepared database is prepared")
	}
	if prepares != 1 {
		t.Errorf("prepared %d times, want once", prepares)
	}
}

func TestAServerIsKilledAndStartedAgain(t *testing.T) {
	s := Start(t)
	url := s.Database(t)
	query(t, s, url, "CREATE TABLE kept (one int)")
	query(t, s, url, "INSERT INTO kept VALUES (1)")
	for _, end := range []func(){s.Kill, s.Stop} {
		end()
		if out, err := exec.CommandContext(t.Context(), filepath.Join(s.bin, "psql"), "-XAtc", "SELECT 1", url).CombinedOutput(); err == nil {
			t.Fatalf("a server that is gone answers %s", out)
		}
		s.Restart(t)
		if got := query(t, s, url, "SELECT count(*) FROM kept"); got != "1" {
			t.Errorf("%s rows are left, want 1", got)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	var dir string
	t.Run("a test with a server", func(t *testing.T) { dir = Start(t).dir })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// A test binary that is killed cannot clean up: its watcher does.
func TestNothingIsLeftBehindByAKilledTest(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		s := Start(t)
		if _, err := os.Stdout.WriteString("dir=" + s.dir + "\n"); err != nil {
			t.Fatal(err)
		}
		select {} // until killed
	}
	binaries(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestNothingIsLeftBehindByAKilledTest$")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	dir, ok := strings.CutPrefix(strings.TrimSpace(string(buf[:n])), "dir=")
	if err != nil || !ok {
		t.Fatalf("the child says %q, %v", buf[:n], err)
	}
	pid := strings.SplitN(readFile(t, filepath.Join(dir, "data", "postmaster.pid")), "\n", 2)[0]
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for {
		_, gone := os.Stat(dir)
		_, dead := os.Stat("/proc/" + pid + "/cmdline")
		if os.IsNotExist(gone) && os.IsNotExist(dead) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s or process %s is still there", dir, pid)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
