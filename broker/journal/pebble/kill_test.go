package pebble

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/broker/journal"
)

// killDir names the directory in which this test binary, run again, writes
// until it is killed.
const killDir = "HOLDLINE_JOURNAL_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled appends from several goroutines for ever, and prints the
// name of every entry that was acknowledged.
func writeUntilKilled(dir string) error {
	j, err := Open(context.Background(), Options{Dir: dir, memTableBytes: 256 << 10})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, i)
				done := make(chan error, 1)
				s := &journal.Submission{
					Entries: []journal.Entry{{Topic: fmt.Sprint("t/", w), Payload: []byte(name + strings.Repeat(" ", 200)), Partition: w}},
					Done:    func(r journal.Result) { done <- r.Err },
				}
				err := j.Append(context.Background(), s)
				if err == nil {
					err = <-done
				}
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(s.Entries[0].Seq, name)
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// killed runs this test binary as a writer until kill says so, and returns
// what it acknowledged, by sequence number.
func killed(t *testing.T, dir string, kill func(acked int) bool, env ...string) map[uint64]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), append(env, killDir+"="+dir)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[uint64]string{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var seq uint64
		var name string
		if _, err := fmt.Sscan(lines.Text(), &seq, &name); err != nil {
			continue // cut off by the kill
		}
		if was := acked[seq]; was != "" {
			t.Errorf("%s has the number %d of %s", name, seq, was)
		}
		acked[seq] = name
		if kill(len(acked)) {
			_ = cmd.Process.Kill() // it may be dead already
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("the writer was not killed in %v, it acknowledged %d entries", patience, len(acked))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the writer ended with %v, want it killed", err)
	}
	return acked
}

// TestKillLosesNothing kills the process (-9) while it writes, opens the
// journal in this one, and compares.
func TestKillLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	acked := map[uint64]string{}
	for life, after := range []int{1, 500, 3000, 6000} {
		for seq, name := range killed(t, dir, func(n int) bool { return n >= after }) {
			if was := acked[seq]; was != "" {
				t.Errorf("life %d: %s has the number %d of %s", life, name, seq, was)
			}
			acked[seq] = name
		}
		compare(t, dir, acked)
	}
}

// compare opens the journal, finds everything that was acknowledged, and closes it.
func compare(t *testing.T, dir string, acked map[uint64]string) {
	t.Helper()
	j, err := Open(t.Context(), Options{Dir: dir, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]string{}
	for after := uint64(0); after < j.Tail().Seq; {
		page, err := j.Read(t.Context(), []string{"t/#"}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			found[e.Seq] = strings.TrimSpace(string(e.Payload))
		}
		after = page.Through
	}
	for seq, name := range acked {
		if found[seq] != name {
			t.Errorf("entry %d is %q, %q was acknowledged", seq, found[seq], name)
		}
	}
	t.Logf("%d acknowledged, %d found", len(acked), len(found))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenerIsTold(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the second Open = %v, want it to say that the journal is in use", err)
	}
	other, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(other, os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another process") {
		t.Errorf("another process: %v, %s", err, out)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(t.Context(), Options{Dir: dir}); err != nil {
		t.Fatalf("Open after Close = %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnusableDirectoryIsNamed(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Dir: file})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open = %v, want an error that names %s", err, file)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := Open(ctx, Options{Dir: t.TempDir()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open with an ended context = %v", err)
	}
}
