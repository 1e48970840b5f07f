package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"holdline/broker/journal"
	"holdline/broker/journal/pebble"
	"holdline/storage"
	"holdline/storage/postgres"
	"holdline/storage/sqlite"
)

// lockData makes this process the only one that serves the data directory.
// The lock goes with the process, however it ends.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return nil, fmt.Errorf("another holdline is serving %s; stop it, or give this one a directory of its own with --data", dir)
	}
	return func() { f.Close() }, nil
}

// migrate brings the storage to this version's schema.
func (c Config) migrate(ctx context.Context) error {
	if c.Storage.Scheme == "postgres" {
		return postgres.Migrate(ctx, c.Storage.URL)
	}
	if err := os.MkdirAll(filepath.Dir(c.Storage.Path), 0o700); err != nil {
		return err
	}
	return sqlite.Migrate(ctx, c.Storage.Path)
}

// openStore opens the storage, which must be migrated.
func (c Config) openStore(ctx context.Context, log *slog.Logger) (storage.Store, error) {
	if c.Storage.Scheme == "postgres" {
		return postgres.Open(ctx, c.Storage.URL, log)
	}
	return sqlite.Open(ctx, c.Storage.Path, log)
}

// openJournal opens the journal.
func (c Config) openJournal(ctx context.Context, log *slog.Logger) (journal.Journal, error) {
	return pebble.Open(ctx, pebble.Options{Dir: c.Journal.Path, MinFreeBytes: c.MinFreeBytes, Log: log})
}
