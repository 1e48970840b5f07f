// Package postgres is the store of an installation that has outgrown one machine.
//
// A transaction costs two round trips whatever its size: one batch takes the
// fence, the locks (in the order storage.Scope gives) and everything the scope names; one
// writes everything that was decided and commits. Keys travel as arrays, and
// every lookup is a key into an index. Row locks under READ COMMITTED do the rest: each statement
// after a lock sees what its last holder committed.
//
// A process that freezes inside a transaction is cut off by the server, so that
// its locks do not outlive its leases by much. Messages are partitioned by month; Migrate
// and Maintain make the months ahead. It does not read from replicas.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"holdline/storage/migrations"
	"holdline/storage/query"
)

const (
	connections    = 20 // unless the URL says pool_max_conns
	connectTimeout = 5 * time.Second
	// frozen is how long a transaction may do nothing: there are only microseconds of ours in one.
	frozen = 10 * time.Second
)

// session are the settings of every connection. Each statement here names its
// keys and has its index: a plan made while a table was small must not scan it when it is large.
var session = map[string]string{
	"application_name":                    "holdline",
	"idle_in_transaction_session_timeout": fmt.Sprint(frozen.Milliseconds()),
	"enable_seqscan":                      "off",
	"jit":                                 "off",
}

func configOf(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err) // pgx leaves the password out
	}
	for key, value := range session {
		if _, ok := config.ConnConfig.RuntimeParams[key]; !ok {
			config.ConnConfig.RuntimeParams[key] = value
		}
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	return config, nil
}

// Migrate brings a database's schema up to date and makes its months. Several may do so at once.
func Migrate(ctx context.Context, url string) error {
	config, err := configOf(url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config.ConnConfig)
	defer db.Close()
	if err := migrations.Postgres(ctx, db); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer pool.Close()
	return makeMonths(ctx, pool, time.Now())
}

// Store implements storage.Store.
type Store struct {
	query.Queries
	pool *pgxpool.Pool
	log  *slog.Logger
}

// Open connects to a database that is migrated. Close it.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	config, err := configOf(url)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	return open(ctx, config, log)
}

func open(ctx context.Context, config *pgxpool.Config, log *slog.Logger) (*Store, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s := &Store{pool: pool, log: log}
	s.Queries.Read, s.Queries.Write = database{pool}, database{pool}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Ping returns nil when the server answers and the database is migrated.
func (s *Store) Ping(ctx context.Context) error {
	var have int64
	err := s.pool.QueryRow(ctx, migrations.Applied).Scan(&have)
	switch {
	case err != nil:
		return fmt.Errorf("storage does not answer, or was never migrated: %w", mapped(ctx, err))
	case have < migrations.Latest:
		return fmt.Errorf("storage is at migration %d, this program needs %d: run `holdline migrate`", have, migrations.Latest)
	}
	return nil
}

// Close waits for what is under way and closes every connection.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}
