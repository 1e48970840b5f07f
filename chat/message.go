package chat

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of what a client may send. topics.md states them; a test compares.
const (
	MaxMessageIDBytes = 64
	MaxTextBytes      = 16 << 10 // the text of one message
	MaxPayloadBytes   = 64 << 10 // one publish as a whole
)

// MessageID is the sender's own id of what it said, unique per sender for ever.
type MessageID string

// Validate returns ErrInvalid unless id has 1 to 64 bytes of printable UTF-8.
func (id MessageID) Validate() error {
	switch s := string(id); {
	case s == "":
		return invalidf("id is missing; send a string of 1 to %d bytes, new for each message", MaxMessageIDBytes)
	case len(s) > MaxMessageIDBytes:
		return invalidf("id is longer than %d bytes", MaxMessageIDBytes)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return invalidf("id contains a control character or is not UTF-8")
	}
	return nil
}

// ConversationID starts with two hex digits, the slot of its customer.
type ConversationID string

// NewConversationID names a new conversation of a customer in slot. entropy
// must be random: it is all that makes the id unique.
func NewConversationID(slot Slot, entropy [12]byte) ConversationID {
	return ConversationID(hex.EncodeToString([]byte{byte(slot)}) + hex.EncodeToString(entropy[:]))
}

// Slot returns the slot the id begins with, or ErrInvalid when it is not an id of ours.
func (id ConversationID) Slot() (Slot, error) {
	b, err := hex.DecodeString(string(id))
	if err != nil || len(b) != 13 {
		return 0, invalidf("conversation %q is not a conversation id", clip(string(id), 40))
	}
	return Slot(b[0]), nil
}

// Kind says what a message is. Text is the only kind clients may send today;
// unknown kinds are refused, never guessed.
type Kind string

// The kinds of messages.
const (
	Text   Kind = "text"
	System Kind = "system" // code, parameters and a fallback text; made by the server only
)

// Say is what a client publishes on up/message: something said, not yet numbered.
type Say struct {
	ID           MessageID      `json:"id"`
	Conversation ConversationID `json:"conversation,omitempty"`
	Kind         Kind           `json:"kind,omitempty"`
	Text         string         `json:"text"`
	// Epoch is the owner epoch an agent speaks under; customers send none.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Hash identifies the content for the permanent uniqueness of (sender, id).
// The conversation is not part of it: a resend may have learnt it meanwhile.
func (s Say) Hash() [32]byte {
	return sha256.Sum256([]byte(string(s.Kind) + "\x00" + s.Text))
}

// ParseSay reads the payload of up/message. The error wraps ErrInvalid or
// ErrTooLarge and names the field; the returned Say then still carries the id
// when that much could be read.
func ParseSay(payload []byte) (Say, error) {
	var s Say
	if err := decode(payload, &s); err != nil {
		return Say{ID: idOf(payload)}, err
	}
	if s.Kind == "" {
		s.Kind = Text
	}
	if err := s.ID.Validate(); err != nil {
		return Say{}, err
	}
	if s.Conversation != "" {
		if _, err := s.Conversation.Slot(); err != nil {
			return s, err
		}
	}
	switch {
	case s.Kind != Text:
		return s, invalidf("kind %q is not one that can be sent; use \"text\"", clip(string(s.Kind), 40))
	case s.Text == "":
		return s, invalidf("text is missing or empty")
	case len(s.Text) > MaxTextBytes:
		return s, fmt.Errorf("%w: text has %d bytes, at most %d are allowed", ErrTooLarge, len(s.Text), MaxTextBytes)
	case strings.ContainsFunc(s.Text, unwritable):
		return s, invalidf("text contains a control character other than tab and line break")
	}
	return s, nil
}

// unwritable are the control characters that no text has a use for. JSON needs
// six bytes for each, so that a text of them would not fit into a phone's packet.
func unwritable(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' && r != '\r' }

// Action is what an agent does to a conversation with up/command.
type Action string

// The actions of up/command.
const (
	ActAccept  Action = "accept"  // take a waiting conversation, or confirm one that was assigned
	ActRelease Action = "release" // give it back to its queue, wait time kept
	ActResolve Action = "resolve" // done
)

// Command is what an agent publishes on up/command.
type Command struct {
	ID           MessageID      `json:"id"`
	Do           Action         `json:"do"`
	Conversation ConversationID `json:"conversation"`
	// Epoch is the owner epoch the agent acts under; required but for accept.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Hash identifies the content, as Say.Hash does.
func (c Command) Hash() [32]byte {
	return sha256.Sum256([]byte("command\x00" + string(c.Do) + "\x00" + string(c.Conversation)))
}

// ParseCommand reads the payload of up/command, with the errors of ParseSay.
func ParseCommand(payload []byte) (Command, error) {
	var c Command
	if err := decode(payload, &c); err != nil {
		return Command{ID: idOf(payload)}, err
	}
	if err := c.ID.Validate(); err != nil {
		return Command{}, err
	}
	if _, err := c.Conversation.Slot(); err != nil {
		return c, err
	}
	switch c.Do {
	case ActAccept, ActRelease, ActResolve:
		return c, nil
	}
	return c, invalidf("do %q is not accept, release or resolve", clip(string(c.Do), 40))
}

// Op is what a request asks for.
type Op string

// The operations of up/request.
const (
	// OpSync asks for the events of the caller's inbox after Since.
	OpSync Op = "sync"
)

// Request is what a client publishes on up/request; the answer is a Reply on
// down/reply, to the asking session only.
type Request struct {
	ID    MessageID `json:"request"`
	Op    Op        `json:"op"`
	Since EventID   `json:"since,omitempty"` // OpSync: the last event the client has; empty from the start
	Limit int       `json:"limit,omitempty"` // OpSync: at most so many events; 200 when absent or larger
}

// MaxSyncEvents bounds the events of one reply.
const MaxSyncEvents = 200

// ParseRequest reads the payload of up/request, with the errors of ParseSay.
func ParseRequest(payload []byte) (Request, error) {
	var r Request
	if err := decode(payload, &r); err != nil {
		return Request{}, err
	}
	if err := r.ID.Validate(); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	if r.Op != OpSync {
		return r, invalidf("op %q is not known; use \"sync\"", clip(string(r.Op), 40))
	}
	if r.Limit <= 0 || r.Limit > MaxSyncEvents {
		r.Limit = MaxSyncEvents
	}
	return r, nil
}

// Message is something said, stored and numbered. Seq counts 1, 2, 3 … in its
// conversation without gaps; At is the server's time, never falling with Seq.
type Message struct {
	Tenant       Tenant
	Conversation ConversationID
	Seq          uint64
	ID           MessageID
	From         Account
	Name         string // how the sender was called then
	Kind         Kind
	Text         string
	At           time.Time
}

func decode(payload []byte, into any) error {
	if len(payload) > MaxPayloadBytes {
		return fmt.Errorf("%w: payload has %d bytes, at most %d are allowed", ErrTooLarge, len(payload), MaxPayloadBytes)
	}
	if !utf8.Valid(payload) {
		return invalidf("payload is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	if err := d.Decode(into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			if wrong.Field == "" {
				return invalidf("payload is a JSON %s, not an object", wrong.Value)
			}
			return invalidf("%s is a JSON %s of the wrong type", wrong.Field, wrong.Value)
		}
		return invalidf("payload is not JSON: %s", clip(err.Error(), 80))
	}
	if d.More() {
		return invalidf("payload has more after its JSON object")
	}
	return nil
}

// idOf saves what can be saved of a payload that does not decode, so that the
// sender can tell which of its messages was refused.
func idOf(payload []byte) MessageID {
	if len(payload) > MaxPayloadBytes {
		return ""
	}
	var m struct {
		ID any `json:"id"`
	}
	_ = json.Unmarshal(payload, &m) // as far as it goes: the payload is known to be faulty
	id, _ := m.ID.(string)
	if MessageID(id).Validate() != nil {
		return ""
	}
	return MessageID(id)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
