package chat

import (
	"errors"
	"fmt"
)

// The values callers branch on. Everything below wraps one of them; engines
// return these and never their driver's own.
var (
	ErrInvalid   = errors.New("invalid")
	ErrTooLarge  = errors.New("too large")
	ErrForbidden = errors.New("forbidden")
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")
	ErrNotOwner  = errors.New("not the owner")
	ErrClosed    = errors.New("closed")
)

// Reason is why something was refused, as clients see it on the wire.
type Reason string

// The reasons of a `refused` event. topics.md lists them with what a client should do.
const (
	ReasonInvalid   Reason = "invalid"
	ReasonTooLarge  Reason = "too_large"
	ReasonForbidden Reason = "forbidden"
	ReasonNotFound  Reason = "not_found"
	ReasonConflict  Reason = "conflict"
	ReasonNotOwner  Reason = "not_owner"
	ReasonClosed    Reason = "closed"
	// ReasonInternal is for input that storage can never take, whatever the sender does.
	ReasonInternal Reason = "internal"
	// ReasonBusy is only ever the error of a Reply: nothing is wrong, ask again later.
	ReasonBusy Reason = "busy"
)

// ReasonOf maps an error to its wire reason; ok is false for errors that are
// not a decision about the input (a lost connection, say) and may pass when
// tried again.
func ReasonOf(err error) (r Reason, ok bool) {
	for _, m := range []struct {
		err error
		r   Reason
	}{
		{ErrTooLarge, ReasonTooLarge}, {ErrNotOwner, ReasonNotOwner}, {ErrClosed, ReasonClosed},
		{ErrForbidden, ReasonForbidden}, {ErrNotFound, ReasonNotFound},
		{ErrConflict, ReasonConflict}, {ErrInvalid, ReasonInvalid},
	} {
		if errors.Is(err, m.err) {
			return m.r, true
		}
	}
	return "", false
}

// Refusal is input that was refused for good: what the sender called it and why.
type Refusal struct {
	ID     MessageID `json:"id"` // as far as it could be read; may be empty
	Reason Reason    `json:"reason"`
	Detail string    `json:"detail"` // names what is wrong and what to do
}

// Refuse makes the refusal of input id for err. An err without a reason becomes ReasonInternal.
func Refuse(id MessageID, err error) Refusal {
	r, ok := ReasonOf(err)
	if !ok {
		return Refusal{id, ReasonInternal, "this could not be stored; it will not help to send it again"}
	}
	return Refusal{id, r, err.Error()}
}

func invalidf(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, a...)...)
}
