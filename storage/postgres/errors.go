package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"holdline/chat"
	"holdline/storage"
)

// mapped turns the driver's errors into those callers branch on. A lost
// connection, a full disk, a server that shuts down stay ordinary errors: they
// may pass when tried again.
func mapped(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%w (%v)", cause, err)
	}
	switch code := codeOf(err); {
	case code == "23505": // unique_violation
		return fmt.Errorf("%w: %v", chat.ErrConflict, err)
	case code == partitionMoved:
		return err
	case len(code) == 5 && (code[:2] == "22" || code[:2] == "23" || code[:2] == "54"):
		// data exceptions, other constraints, limits of the program
		return fmt.Errorf("%w: %v", storage.ErrPermanent, err)
	}
	return err
}

// partitionMoved (check_violation) is what a message meets that was on its way into
// the default partition when its month was made. No table that a transaction writes has another check.
const partitionMoved = "23514"

// codeOf is the SQLSTATE of the server's error, empty for others.
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// lostRace reports whether the transaction failed on another one and may pass right away.
func lostRace(err error) bool {
	switch codeOf(err) {
	case "40001", "40P01", partitionMoved: // serialization_failure, deadlock_detected
		return true
	}
	return errors.Is(err, chat.ErrConflict) // somebody inserted what we had looked for
}
