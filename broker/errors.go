package broker

import (
	"errors"
	"fmt"

	"holdline/broker/journal"
	"holdline/chat"
)

// The errors a transport branches on, besides those of package chat, which
// mean that a publish or a filter was refused for good.
var (
	// ErrBusy: not now; the client should keep it and come back.
	ErrBusy = errors.New("not now, try again later")
	// ErrUnavailable: the journal takes nothing; the connection should end.
	ErrUnavailable = errors.New("the server cannot store anything now")
	// ErrGone: the session was taken over or ended while this was under way.
	ErrGone = errors.New("session is no longer this connection's")
	// ErrReceiveMaximum: more publishes wait for their acknowledgement than was allowed.
	ErrReceiveMaximum = errors.New("more unacknowledged publishes than Receive Maximum allows")
	// ErrRefusals: too many publishes were refused; the connection should end.
	ErrRefusals = fmt.Errorf("%w: too many refused publishes", chat.ErrForbidden)
	// ErrShared: shared subscriptions are not available.
	ErrShared = errors.New("shared subscriptions are not available")
	// ErrQuota: the session has all the subscriptions it may have.
	ErrQuota = errors.New("too many subscriptions")
	// ErrClient: the token names another client id.
	ErrClient = errors.New("client id is not the one the token was issued for")
	// ErrTopic: not a topic at all.
	ErrTopic = fmt.Errorf("%w: not a topic", chat.ErrInvalid)
	// ErrRetain: the client may not leave retained messages.
	ErrRetain = fmt.Errorf("%w: retained messages are not for this account; publish without the retain flag", chat.ErrForbidden)
)

// Final reports whether err is a decision about the publish itself, so that
// sending it again cannot help.
func Final(err error) bool {
	_, ok := chat.ReasonOf(err)
	return ok
}

// fault turns what the journal answered into what a transport needs to know.
func fault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrFull):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// Reason is why the engine ends a connection. Transports have their own word for each.
type Reason int

// The reasons.
const (
	TakenOver    Reason = iota + 1 // a newer connection has the session
	ShuttingDown                   // the server stops
	Unavailable                    // the journal failed
	SessionLost                    // the session's place in the journal is gone
	Revoked                        // the token was taken back
	Kicked                         // an operator ended it
)
