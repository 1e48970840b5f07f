// Package sqlite is the embedded store: one file, no server, no cgo.
//
// One connection writes, in immediate transactions under WAL with
// synchronous=FULL, so a commit is on disk when it returns and writers never
// meet; four connections read what is committed without waiting for it. What Postgres
// does with row locks happens here because there is one writer at a time.
//
// It is for one process per file. Another one may look or make a change (an
// operator's command) and waits its turn; two that serve belong on Postgres.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"holdline/storage/migrations"
	"holdline/storage/query"
)

const (
	readers     = 4
	busyTimeout = 5 * time.Second // how long a statement waits for another process
)

// dsn names a file with its connection's settings. mode is of SQLite's URI: rw, or rwc to create.
func dsn(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}, "_txlock": {"immediate"}}
	for _, p := range append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "temp_store(memory)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// writing are the settings of connections that write. Up to 32 MB of WAL are
// taken back into the file at once, so a page that many commits change is written there
// once; the WAL is cut back after a burst; the cache is 64 MB.
var writing = []string{"journal_mode(wal)", "synchronous(full)", "wal_autocheckpoint(8000)", "journal_size_limit(67108864)", "cache_size(-65536)"}

// migrateAttempts bounds how often Migrate meets another process that does the same.
const migrateAttempts = 5

// Migrate makes the file when it is missing (readable by its owner alone) and brings its schema up to date.
func Migrate(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "rw", writing...))
	if err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	// Of two that migrate at once one fails on what the other has just made, and then finds it done.
	for range migrateAttempts {
		if err = migrations.SQLite(ctx, db); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	return nil
}

// Store implements storage.Store.
type Store struct {
	query.Queries
	path   string
	reader *reader
	writer *writer
	log    *slog.Logger
}

// Open opens a file that is migrated. Close it.
func Open(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	return open(ctx, path, log, writing...)
}

func open(ctx context.Context, path string, log *slog.Logger, pragmas ...string) (*Store, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	w, err := sql.Open("sqlite", dsn(path, "rw", pragmas...))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	w.SetMaxIdleConns(1)
	r, err := sql.Open("sqlite", dsn(path, "rw", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), w.Close())
	}
	r.SetMaxOpenConns(readers)
	r.SetMaxIdleConns(readers)
	s := &Store{path: path, reader: &reader{db: r}, writer: newWriter(w), log: log}
	s.Queries.Read, s.Queries.Write = s.reader, s.writer
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Ping returns nil when the file can be read and is migrated.
func (s *Store) Ping(ctx context.Context) error {
	var have int64
	err := s.reader.Query(ctx, migrations.Applied, nil, func(r query.Row) error { return r.Scan(&have) })
	switch {
	case err != nil:
		return fmt.Errorf("storage %s does not answer, or was never migrated: %w", s.path, err)
	case have < migrations.Latest:
		return fmt.Errorf("storage %s is at migration %d, this program needs %d: run `holdline migrate`", s.path, have, migrations.Latest)
	}
	return nil
}

// Close waits for the transaction under way and closes the file.
func (s *Store) Close() error {
	return errors.Join(s.reader.close(), s.writer.close())
}
