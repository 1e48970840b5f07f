package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"

	"holdline/storage/query"
)

// reader runs reads on connections that cannot write.
type reader struct {
	db *sql.DB

	mu         sync.Mutex
	statements map[string]*sql.Stmt
}

func (r *reader) Query(ctx context.Context, text string, args []any, each func(query.Row) error) error {
	stmt, err := r.prepared(ctx, text)
	if err != nil {
		return mapped(ctx, err)
	}
	return queryRows(ctx, stmt, args, each)
}

// prepared keeps a statement per text. There are few texts: all are constants,
// or put together from few constants.
func (r *reader) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	r.mu.Lock()
	stmt := r.statements[text]
	r.mu.Unlock()
	if stmt != nil {
		return stmt, nil
	}
	stmt, err := r.db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.statements == nil {
		r.statements = map[string]*sql.Stmt{}
	}
	if other := r.statements[text]; other != nil { // somebody was faster
		_ = stmt.Close() // nothing was done with it
		return other, nil
	}
	r.statements[text] = stmt
	return stmt, nil
}

func (r *reader) close() error { return r.db.Close() }

// writer is the one connection that writes. Its transactions run one after the other.
type writer struct {
	db   *sql.DB
	turn chan struct{} // holds one token while nobody writes

	// Of whoever has the turn:
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	closed     bool
}

func newWriter(db *sql.DB) *writer {
	w := &writer{db: db, turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

var errClosed = errors.New("sqlite: the store is closed")

// Tx runs fn in one transaction, durable when it returns nil.
func (w *writer) Tx(ctx context.Context, fn func(query.DB) error) error {
	return w.transact(ctx, func(t *tx) error { return fn(t) })
}

func (w *writer) Query(ctx context.Context, text string, args []any, each func(query.Row) error) error {
	return w.transact(ctx, func(t *tx) error { return t.Query(ctx, text, args, each) })
}

func (w *writer) Exec(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = w.transact(ctx, func(t *tx) error {
		n, err = t.Exec(ctx, text, args...)
		return err
	})
	return n, err
}

func (w *writer) transact(ctx context.Context, fn func(*tx) error) error {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { w.turn <- struct{}{} }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.closed {
		return errClosed
	}
	if w.conn == nil {
		conn, err := w.db.Conn(ctx)
		if err != nil {
			return mapped(ctx, err)
		}
		w.conn, w.statements = conn, map[string]*sql.Stmt{}
	}
	t := &tx{w: w}
	if _, err := t.Exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		if !busy(err) {
			w.discard()
		}
		return err
	}
	committed := false
	defer func() { // also when fn panics
		if !committed {
			t.rollback()
		}
	}()
	if err := fn(t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Not cancelled half way, so that what is said about the outcome is so.
	if _, err := t.Exec(context.WithoutCancel(ctx), "COMMIT"); err != nil {
		return err
	}
	committed = true
	return nil
}

// discard gives the connection up; the next transaction opens another.
func (w *writer) discard() {
	for _, stmt := range w.statements {
		_ = stmt.Close() // the connection goes with it
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // tells the pool not to use it again
	_ = w.conn.Close()
	w.conn, w.statements = nil, nil
}

func (w *writer) close() error {
	<-w.turn
	defer func() { w.turn <- struct{}{} }()
	w.closed = true
	if w.conn != nil {
		w.discard()
	}
	return w.db.Close()
}

// tx is a transaction on the writing connection.
type tx struct{ w *writer }

func (t *tx) Tx(_ context.Context, fn func(query.DB) error) error { return fn(t) }

func (t *tx) Query(ctx context.Context, text string, args []any, each func(query.Row) error) error {
	stmt, err := t.prepared(ctx, text)
	if err != nil {
		return mapped(ctx, err)
	}
	return queryRows(ctx, stmt, args, each)
}

func (t *tx) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	stmt, err := t.prepared(ctx, text)
	if err != nil {
		return 0, mapped(ctx, err)
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, mapped(ctx, err)
	}
	n, err := result.RowsAffected()
	return n, mapped(ctx, err)
}

func (t *tx) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if stmt := t.w.statements[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := t.w.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	t.w.statements[text] = stmt
	return stmt, nil
}

// rollback leaves the connection outside of any transaction, or gives it up:
// after some errors (a full disk) SQLite has rolled back by itself and says so.
func (t *tx) rollback() {
	if _, err := t.Exec(context.Background(), "ROLLBACK"); err != nil { // the caller's context may be over
		t.w.discard()
	}
}

func queryRows(ctx context.Context, stmt *sql.Stmt, args []any, each func(query.Row) error) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return mapped(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
	}
	return mapped(ctx, rows.Err())
}
