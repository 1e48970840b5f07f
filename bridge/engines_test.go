package bridge

import (
	"log/slog"
	"path/filepath"
	"testing"

	"holdline/broker/journal/pebble"
	"holdline/storage/postgres"
	"holdline/storage/postgres/pgtest"
	"holdline/storage/sqlite"
)

// engines are the pairs of journal and storage that the tests of failures run on.
var engines = []struct {
	name  string
	world func(t *testing.T) *world
}{
	{"memory", newWorld},
	{"pebble and sqlite", func(t *testing.T) *world { return worldOn(t, openPebble(t), openSQLite(t)) }},
	{"pebble and postgres", func(t *testing.T) *world { return worldOn(t, openPebble(t), openPostgres(t)) }},
}

func openPebble(t testing.TB) *pebble.Journal {
	t.Helper()
	j, err := pebble.Open(t.Context(), pebble.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func openSQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdline.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openPostgres(t testing.TB) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), pgtest.Database(t, postgres.Migrate), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
