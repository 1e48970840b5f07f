// Package query holds the statements that both SQL engines run as one text: every
// read, and the writes of a few rows.
//
// An engine gives it two databases, one to read and one to write, through a
// narrow interface; Queries then is the greater part of storage.Store, the
// same for both. Texts are constants, values are numbered parameters ($1),
// which both engines bind by number.
//
// It does not hold transactions of many rows, locks, job claims or
// maintenance: there the engines differ, and speed is why.
package query

import (
	"context"
	"errors"
	"fmt"

	"holdline/chat"
	"holdline/storage"
)

// Row is one row to read from.
type Row interface{ Scan(into ...any) error }

// Reader is a database that can be read. Its errors are chat.ErrConflict for a unique
// index that objects, storage.ErrPermanent for what cannot be stored, and others that are the engine's own.
type Reader interface {
	// Query calls each for every row in order, and stops at its first error.
	Query(ctx context.Context, sql string, args []any, each func(Row) error) error
}

// DB is a database that can be written as well.
type DB interface {
	Reader
	// Exec returns how many rows it changed.
	Exec(ctx context.Context, sql string, args ...any) (int64, error)
	// Tx runs fn in one transaction. fn uses only the DB it is given.
	Tx(ctx context.Context, fn func(DB) error) error
}

// Queries answers the part of storage.Store that both engines share.
type Queries struct {
	Read  Reader // sees every commit at once
	Write DB
	Codec storage.Codec
}

var errNoRow = errors.New("no row")

// one reads the only row there can be; errNoRow when there is none.
func one(ctx context.Context, db Reader, sql string, args []any, into ...any) error {
	found := false
	err := db.Query(ctx, sql, args, func(r Row) error {
		found = true
		return r.Scan(into...)
	})
	if err == nil && !found {
		return errNoRow
	}
	return err
}

// wrap names the operation an error happened in; the values callers branch on stay visible.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

const incarnation = `SELECT incarnation FROM store`

// Incarnation names this life of the storage.
func (q *Queries) Incarnation(ctx context.Context) (string, error) {
	var s string
	return s, wrap(one(ctx, q.Read, incarnation, nil, &s), "incarnation")
}

const renew = `UPDATE store SET incarnation = $1 WHERE incarnation = $2`

// Renew starts another incarnation unless somebody did already.
func (q *Queries) Renew(ctx context.Context, old string) (string, error) {
	if _, err := q.Write.Exec(ctx, renew, newIncarnation(), old); err != nil {
		return "", wrap(err, "renew")
	}
	return q.Incarnation(ctx)
}

const configuration = `
	SELECT revision, at, actor, body
	FROM configuration
	WHERE tenant = $1
	ORDER BY revision DESC
	LIMIT 1`

// Configuration returns the newest revision.
func (q *Queries) Configuration(ctx context.Context, t chat.Tenant) (storage.Configuration, error) {
	var c storage.Configuration
	var revision, at int64
	err := one(ctx, q.Read, configuration, []any{string(t)}, &revision, &at, &c.Actor, &c.Body)
	if errors.Is(err, errNoRow) {
		return c, fmt.Errorf("%w: configuration of %s", chat.ErrNotFound, t)
	}
	c.Revision, c.At = uint64(revision), storage.Time(at)
	return c, wrap(err, "configuration of %s", t)
}

// configure changes no row unless the revision is the next one; two at once meet in the primary key.
const configure = `
	INSERT INTO configuration (tenant, revision, at, actor, body)
	SELECT cast($1 AS text), cast($2 AS bigint), $3, $4, $5
	WHERE (SELECT coalesce(max(revision), 0) FROM configuration WHERE tenant = cast($1 AS text)) = cast($2 AS bigint) - 1`

// Configure stores the next revision.
func (q *Queries) Configure(ctx context.Context, t chat.Tenant, c storage.Configuration) error {
	err := q.Write.Tx(ctx, func(tx DB) error {
		n, err := tx.Exec(ctx, configure, string(t), int64(c.Revision), storage.Millis(c.At), c.Actor, c.Body)
		if err != nil {
			return err
		}
		if n == 0 {
			return chat.ErrConflict
		}
		return audit(ctx, tx, storage.ConfigureAudit(t, c))
	})
	return wrap(err, "configure %s revision %d", t, c.Revision)
}

// AuditColumns are the columns of an audit line, in the order of AuditArgs.
const AuditColumns = `tenant, at, actor, action, object, detail`

// AuditArgs are the values of an audit line.
func AuditArgs(a storage.Audit) []any {
	return []any{string(a.Tenant), storage.Millis(a.At), a.Actor, a.Action, a.Object, a.Detail}
}

const insertAudit = `INSERT INTO audit (` + AuditColumns + `) VALUES ($1, $2, $3, $4, $5, $6)`

func audit(ctx context.Context, tx DB, a storage.Audit) error {
	_, err := tx.Exec(ctx, insertAudit, AuditArgs(a)...)
	return err
}

// auditOf is served by index audit_object, auditAll by audit_at.
const (
	auditOf = `
	SELECT ` + AuditColumns + `
	FROM audit
	WHERE tenant = $1 AND object = $2
	ORDER BY at DESC, id DESC
	LIMIT $3`
	auditAll = `
	SELECT ` + AuditColumns + `
	FROM audit
	WHERE tenant = $1
	ORDER BY at DESC, id DESC
	LIMIT $2`
)

// AuditTrail returns the newest lines first.
func (q *Queries) AuditTrail(ctx context.Context, t chat.Tenant, object string, limit int) ([]storage.Audit, error) {
	text, args := auditAll, []any{string(t), storage.Limit(limit, storage.MaxPage)}
	if object != "" {
		text, args = auditOf, []any{string(t), object, storage.Limit(limit, storage.MaxPage)}
	}
	lines := []storage.Audit{}
	err := q.Read.Query(ctx, text, args, func(r Row) error {
		var a storage.Audit
		var at int64
		if err := r.Scan(&a.Tenant, &at, &a.Actor, &a.Action, &a.Object, &a.Detail); err != nil {
			return err
		}
		a.At = storage.Time(at)
		lines = append(lines, a)
		return nil
	})
	return lines, wrap(err, "audit trail of %s", t)
}
