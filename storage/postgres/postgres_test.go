package postgres_test

import (
	"log/slog"
	"testing"

	"holdline/storage"
	"holdline/storage/postgres"
	"holdline/storage/postgres/pgtest"
	"holdline/storage/storagetest"
)

func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return open(t, pgtest.Database(t, postgres.Migrate))
	})
}

func BenchmarkCommit(b *testing.B) {
	server := pgtest.Start(b, "fsync=on", "full_page_writes=on") // a commit is on disk, as in production
	storagetest.Bench(b, func(b *testing.B) storage.Store {
		return open(b, server.Database(b, postgres.Migrate))
	})
}
