package client

import (
	"holdline/chat"
)

// Status is how far something sent has come.
type Status string

// What is sent goes from Queued to Acknowledged to Accepted, or to Refused.
// Acknowledged may be skipped when the acknowledgement was lost on the way.
const (
	Queued       Status = "queued"       // in the outbox
	Acknowledged Status = "acknowledged" // PUBACK: on the server's disk
	Accepted     Status = "accepted"     // stored and numbered: the own event came
	Refused      Status = "refused"      // for good
)

// Receipt tells that something sent came further.
type Receipt struct {
	ID     chat.MessageID
	Status Status
	// Conversation and Seq are where an accepted message is.
	Conversation chat.ConversationID
	Seq          uint64
	// Reason and Detail say why something was refused.
	Reason chat.Reason
	Detail string
}

// Pending is something in the outbox.
type Pending struct {
	ID      chat.MessageID
	Status  Status // Queued or Acknowledged
	Topic   string
	Payload []byte
}

// item is one line of the outbox. It is never changed once it can be seen by
// others: a changed item is a new one in its place.
type item struct {
	N       uint64         `json:"n"` // counts up, never reused
	ID      chat.MessageID `json:"id"`
	Topic   string         `json:"topic"`
	Payload []byte         `json:"payload"`
	// Final is true when the acknowledgement settles it, because no event will come.
	Final bool `json:"final,omitempty"`
	Acked bool `json:"acked,omitempty"`
	// Again is true when it may have been sent in this session before: DUP.
	Again bool `json:"-"`
}

func (i *item) status() Status {
	if i.Acked {
		return Acknowledged
	}
	return Queued
}

func (i *item) pending() Pending { return Pending{i.ID, i.status(), i.Topic, i.Payload} }
