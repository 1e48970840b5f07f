package mqtt

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTicketKeysRotateDaily(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "tickets.key")
	first := &tickets{file: file}
	at := func(when time.Time) [][32]byte {
		t.Helper()
		keys, _, err := first.renew(when)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	a := at(day)
	if b := at(day.Add(23 * time.Hour)); len(a) != 1 || !cmp.Equal(a, b) {
		t.Errorf("within a day the keys changed from %d to %d", len(a), len(b))
	}
	b := at(day.Add(24 * time.Hour))
	if len(b) != 2 || b[1] != a[0] || b[0] == a[0] {
		t.Errorf("after a day: %d keys, want a new one and the old one behind it", len(b))
	}
	at(day.Add(48 * time.Hour))
	d := at(day.Add(72 * time.Hour))
	if len(d) != 3 || d[2] != b[0] {
		t.Errorf("after three days: %d keys, want three without the first", len(d))
	}

	second := &tickets{file: file} // after a restart
	keys, _, err := second.renew(day.Add(73 * time.Hour))
	if err != nil || !cmp.Equal(keys, d) {
		t.Errorf("after a restart the keys are not the same: %v", err)
	}
	third := &tickets{file: file} // after a long time off
	keys, _, err = third.renew(day.Add(30 * 24 * time.Hour))
	if err != nil || len(keys) != 1 || keys[0] == d[0] {
		t.Errorf("after a month off: %d keys, %v; want one new", len(keys), err)
	}
}

func TestDamagedTicketKeysAreNotGuessed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tickets.key")
	if err := os.WriteFile(file, []byte("2026-01-02T03:04:05Z abcd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&tickets{file: file}).renew(time.Now()); err == nil {
		t.Error("a damaged file was taken")
	}
}
