package mqtt

import (
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
	"holdline/broker/token"
	"holdline/chat"
)

// fault ends a connection: what the client did, or what we cannot do. On MQTT 5
// the client is told; MQTT 3.1.1 has no words for it and only sees the end.
type fault struct {
	code   packets.Code
	detail string // for the reason string; names what to do
}

func (f *fault) Error() string {
	if f.detail == "" {
		return f.code.Reason
	}
	return f.code.Reason + ": " + f.detail
}

func faultf(code packets.Code, format string, a ...any) error {
	return &fault{code, fmt.Sprintf(format, a...)}
}

func malformed(format string, a ...any) error {
	return faultf(packets.ErrMalformedPacket, format, a...)
}

func violation(format string, a ...any) error {
	return faultf(packets.ErrProtocolViolation, format, a...)
}

// decodeFault is what mochi's codec found wrong. Its errors are codes, sometimes wrapped.
func decodeFault(err error) error {
	var code packets.Code
	if !errors.As(err, &code) {
		code = packets.ErrMalformedPacket
	}
	return &fault{code, ""}
}

// refusal is the one place where the engine's decision about a publish becomes
// a reason code of PUBACK.
func refusal(err error) packets.Code {
	switch {
	case err == nil:
		return packets.CodeSuccess
	case errors.Is(err, broker.ErrNoID):
		return packets.ErrPacketIdentifierNotFound
	case errors.Is(err, broker.ErrTopic):
		return packets.ErrTopicNameInvalid
	case errors.Is(err, chat.ErrForbidden):
		return packets.ErrNotAuthorized
	case errors.Is(err, chat.ErrInvalid), errors.Is(err, chat.ErrTooLarge):
		return packets.ErrPayloadFormatInvalid
	case errors.Is(err, broker.ErrBusy):
		return packets.ErrQuotaExceeded
	}
	return packets.ErrUnspecifiedError
}

// filterRefusal is the reason code of SUBACK.
func filterRefusal(err error) packets.Code {
	switch {
	case errors.Is(err, broker.ErrShared):
		return packets.ErrSharedSubscriptionsNotSupported
	case errors.Is(err, broker.ErrQuota):
		return packets.ErrQuotaExceeded
	case errors.Is(err, chat.ErrInvalid):
		return packets.ErrTopicFilterInvalid
	case errors.Is(err, chat.ErrForbidden):
		return packets.ErrNotAuthorized
	}
	return packets.ErrUnspecifiedError
}

// goodbye is the reason code of DISCONNECT, for an error that ends the connection.
func goodbye(err error) (code packets.Code, detail string) {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f.code, f.detail
	case errors.Is(err, broker.ErrReceiveMaximum):
		return packets.ErrReceiveMaximum, err.Error()
	case errors.Is(err, broker.ErrRetain):
		return packets.ErrRetainNotSupported, err.Error()
	case errors.Is(err, broker.ErrRefusals):
		return packets.ErrNotAuthorized, err.Error()
	case errors.Is(err, broker.ErrBusy):
		return packets.ErrQuotaExceeded, "no space left; try again later"
	case errors.Is(err, broker.ErrGone):
		return packets.ErrSessionTakenOver, ""
	case errors.Is(err, broker.ErrUnavailable):
		return packets.ErrServerBusy, "the server cannot store anything now; try again later"
	}
	return packets.ErrUnspecifiedError, ""
}

// farewell is the DISCONNECT that the engine decided on.
func farewell(r broker.Reason) (code packets.Code, detail string) {
	switch r {
	case broker.TakenOver:
		return packets.ErrSessionTakenOver, ""
	case broker.ShuttingDown:
		return packets.ErrServerShuttingDown, ""
	case broker.Unavailable:
		return packets.ErrServerBusy, "the server cannot store anything now; try again later"
	case broker.Revoked:
		return packets.ErrNotAuthorized, broker.ErrRevoked.Error()
	case broker.Kicked:
		return packets.ErrAdministrativeAction, "an operator ended this connection"
	case broker.SessionLost:
		// Not one of the codes that tell a client to stay away: it should come back and sync.
		return packets.ErrImplementationSpecificError, "the session's place in the journal is gone; connect again and sync"
	}
	return packets.ErrUnspecifiedError, ""
}

// turnAway is a refused CONNECT, in both versions' words.
type turnAway struct {
	code   packets.Code
	old    byte   // of MQTT 3.1.1
	detail string // for the reason string
	reason string // for the figures
}

func (t *turnAway) Error() string { return t.reason + ": " + t.detail }

// The return codes of CONNACK in MQTT 3.1.1.
const (
	oldVersion     = 1
	oldClientID    = 2
	oldUnavailable = 3
	oldPassword    = 4
	oldForbidden   = 5
)

// refuseConnect turns what was wrong with a CONNECT into its answer.
func refuseConnect(err error) *turnAway {
	var t *turnAway
	var f *fault
	switch {
	case errors.As(err, &t):
		return t
	case errors.As(err, &f):
		return &turnAway{f.code, 0, f.detail, "malformed"}
	case errors.Is(err, broker.ErrWill) && errors.Is(err, broker.ErrRetain):
		return &turnAway{packets.ErrRetainNotSupported, oldForbidden, err.Error(), "will"} // [MQTT-3.2.2-13]
	case errors.Is(err, broker.ErrWill):
		return &turnAway{refusal(err), oldForbidden, err.Error(), "will"}
	case errors.Is(err, token.ErrExpired):
		return &turnAway{packets.ErrNotAuthorized, oldForbidden, "token has expired; fetch a new one", "expired"}
	case errors.Is(err, broker.ErrClient):
		return &turnAway{packets.ErrClientIdentifierNotValid, oldClientID, err.Error(), "client"}
	case errors.Is(err, chat.ErrForbidden):
		return &turnAway{packets.ErrBadUsernameOrPassword, oldPassword, err.Error(), "token"}
	}
	return &turnAway{packets.ErrServerUnavailable, oldUnavailable, "the server cannot store anything now; try again later", "unavailable"}
}
