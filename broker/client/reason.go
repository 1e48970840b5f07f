package client

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"holdline/chat"
)

// The errors of a client, besides those of package chat.
var (
	// ErrOutboxFull is Send's answer when too much waits already. Nothing was kept.
	ErrOutboxFull = errors.New("outbox is full")
	// ErrTakenOver ends Run: another process connected with the same device name.
	// Reconnecting would throw that one out and be thrown out in turn, for ever.
	ErrTakenOver = errors.New("another connection uses this device name now")
	// ErrStopped ends Run: the server said that trying again will not help.
	ErrStopped = errors.New("the server does not let this client in")
)

// Ended is why a connection is over.
type Ended struct {
	// Code is the MQTT 5 reason code the server gave; 0 when the link just broke.
	Code byte
	// Text is the server's own explanation, or what broke.
	Text string
	// After is how long the server asks to stay away; 0 when it did not say.
	After time.Duration
	// Spread is true when After is the end of a span to come back somewhere in.
	Spread bool
	// Cause is the error underneath; nil when the server ended it.
	Cause error
}

func (e *Ended) Error() string {
	switch {
	case e.Code != 0 && e.Text != "":
		return fmt.Sprintf("server said 0x%02X: %s", e.Code, e.Text)
	case e.Code != 0:
		return fmt.Sprintf("server said 0x%02X", e.Code)
	}
	return e.Text
}

// Unwrap gives the error underneath.
func (e *Ended) Unwrap() error { return e.Cause }

// The user properties in which the server of a busy or stopping node says, in
// milliseconds, how long to stay away: this long, or somewhere within.
const (
	retryAfterProperty = "ra"
	spreadProperty     = "spread"
)

// endedBy reads a CONNACK or DISCONNECT.
func endedBy(code byte, p *packets.Properties) *Ended {
	e := &Ended{Code: code}
	if p == nil {
		return e
	}
	e.Text = p.ReasonString
	for _, u := range p.User {
		ms, err := strconv.ParseUint(u.Value, 10, 32)
		if err != nil || u.Key != retryAfterProperty && u.Key != spreadProperty {
			continue
		}
		e.After, e.Spread = min(time.Duration(ms)*time.Millisecond, maxAway), u.Key == spreadProperty
	}
	return e
}

// maxAway bounds what a server can ask for.
const maxAway = 15 * time.Minute

func broken(what string, cause error) *Ended {
	return &Ended{Text: what + ": " + cause.Error(), Cause: cause}
}

// verdict is what to do after a connection ended.
type verdict int

const (
	again   verdict = iota // wait, then connect
	refresh                // the token is not good any more: fetch a new one
	stop                   // for good
)

// judge maps a reason code of CONNACK or DISCONNECT to what a phone does next.
func (e *Ended) judge() (verdict, error) {
	switch e.Code {
	case packets.ConnackBadUsernameOrPassword, packets.ConnackNotAuthorized:
		return refresh, nil
	case packets.DisconnectSessionTakenOver:
		return stop, ErrTakenOver
	case packets.ConnackBanned, packets.DisconnectAdministrativeAction,
		packets.ConnackUnsupportedProtocolVersion, packets.ConnackInvalidClientID,
		packets.ConnackBadAuthenticationMethod, packets.ConnackServerMoved:
		return stop, fmt.Errorf("%w: %w", ErrStopped, e)
	}
	return again, nil
}

// refusedFor maps the reason code of a PUBACK. final is false when the same
// publish may be taken later.
func refusedFor(code byte) (reason chat.Reason, final bool) {
	switch code {
	case packets.PubackQuotaExceeded, packets.PubackPacketIdentifierInUse, packets.PubackUnspecifiedError:
		return "", false
	case packets.PubackNotAuthorized, packets.PubackTopicNameInvalid:
		return chat.ReasonForbidden, true
	case packets.PubackPayloadFormatInvalid:
		return chat.ReasonInvalid, true
	case packets.ConnackPacketTooLarge:
		return chat.ReasonTooLarge, true
	}
	return chat.ReasonInternal, true
}
