package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"holdline/storage/query"
)

// runner is what a pool and a transaction have in common.
type runner interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// database is a query.DB on the pool: each statement on its own.
type database struct{ pool *pgxpool.Pool }

func (d database) Query(ctx context.Context, text string, args []any, each func(query.Row) error) error {
	return queryRows(ctx, d.pool, text, args, each)
}

func (d database) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	return exec(ctx, d.pool, text, args)
}

func (d database) Tx(ctx context.Context, fn func(query.DB) error) error {
	return mapped(ctx, pgx.BeginFunc(ctx, d.pool, func(t pgx.Tx) error { return fn(transaction{t}) }))
}

// transaction is a query.DB in one transaction.
type transaction struct{ tx pgx.Tx }

func (t transaction) Query(ctx context.Context, text string, args []any, each func(query.Row) error) error {
	return queryRows(ctx, t.tx, text, args, each)
}

func (t transaction) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	return exec(ctx, t.tx, text, args)
}

func (t transaction) Tx(_ context.Context, fn func(query.DB) error) error { return fn(t) }

func queryRows(ctx context.Context, r runner, text string, args []any, each func(query.Row) error) error {
	rows, err := r.Query(ctx, text, args...)
	if err != nil {
		return mapped(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return mapped(ctx, rows.Err())
}

func exec(ctx context.Context, r runner, text string, args []any) (int64, error) {
	tag, err := r.Exec(ctx, text, args...)
	return tag.RowsAffected(), mapped(ctx, err)
}
