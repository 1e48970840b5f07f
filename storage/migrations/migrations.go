// Package migrations is the schema of storage, one folder of numbered SQL files
// for each engine.
//
// The same number means the same change in both, so a number says what a
// database can do whichever engine keeps it. Migrations only go up; each is applied
// once, in its own transaction, and on Postgres under a session lock, so
// that several processes may start at once.
//
// It does not open databases and knows no engine: the engines call it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// Latest is the number of the newest migration.
const Latest = 1

// Applied is the number of the newest migration of a database. It names no index: the table is tiny.
const Applied = `SELECT max(version_id) FROM goose_db_version WHERE is_applied`

// SQLite brings a SQLite database to Latest. The caller sees to it that nobody else does so at the same time.
func SQLite(ctx context.Context, db *sql.DB) error {
	return up(ctx, goose.DialectSQLite3, db, "sqlite")
}

// Postgres brings a Postgres database to Latest, waiting up to five minutes for another process that does so.
func Postgres(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 10))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return up(ctx, goose.DialectPostgres, db, "postgres", goose.WithSessionLocker(locker))
}

func up(ctx context.Context, dialect goose.Dialect, db *sql.DB, folder string, options ...goose.ProviderOption) error {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(dialect, db, sub, append(options, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
