package chat

import (
	"fmt"
	"time"
)

// QueueID names a queue of waiting conversations.
type QueueID string

// DefaultQueue is the one queue that exists without any configuration.
const DefaultQueue QueueID = "main"

// Inbox is where the queue's events go; every agent of the queue reads it.
func (q QueueID) Inbox(t Tenant) Inbox { return Inbox{t, QueueKind, string(q)} }

// State is where a conversation stands.
type State string

// A conversation waits for an agent, is held by one, or is resolved. Only the
// first two are open: a customer has at most one open conversation.
const (
	Waiting  State = "waiting"
	Held     State = "held"
	Resolved State = "resolved"
)

// ReopenWindow is how long after its resolution a conversation can be opened
// again by its customer, as a new episode.
const ReopenWindow = 72 * time.Hour

// Conversation is the head of a conversation: everything but its messages.
type Conversation struct {
	Tenant       Tenant
	ID           ConversationID
	Customer     Account
	CustomerName string
	Queue        QueueID
	State        State
	Holder       string // subject of the agent who owns it; empty unless Held
	HolderName   string
	// Epoch is the owner epoch: it grows whenever the owner changes, so a word
	// of a former owner can be told from the present one's.
	Epoch    uint64
	Accepted bool      // the holder has confirmed or answered
	Episode  int       // 1, and one more for each reopening
	Seq      uint64    // of the last message
	LastAt   time.Time // of the last message
	LastText string    // the beginning of it, for lists
	LastFrom Role      // who said it
	Opened   time.Time // this episode
	Since    time.Time // waiting since; kept when an agent gives it back or is lost
	Resolved time.Time
}

// PreviewBytes bounds Conversation.LastText.
const PreviewBytes = 160

// Open starts a customer's conversation, waiting in queue.
func Open(id ConversationID, customer Account, name string, queue QueueID, now time.Time) *Conversation {
	return &Conversation{
		Tenant: customer.Tenant, ID: id, Customer: customer, CustomerName: name, Queue: queue,
		State: Waiting, Episode: 1, Opened: now, Since: now,
	}
}

// IsOpen reports whether it waits or is held.
func (c *Conversation) IsOpen() bool { return c.State == Waiting || c.State == Held }

// Reopen lets the customer's next word start a new episode. It does nothing to
// an open conversation and returns ErrClosed when ReopenWindow has passed.
func (c *Conversation) Reopen(now time.Time) error {
	if c.IsOpen() {
		return nil
	}
	if now.Sub(c.Resolved) > ReopenWindow {
		return fmt.Errorf("%w: conversation %s was resolved more than %s ago; send without a conversation to open a new one",
			ErrClosed, c.ID, ReopenWindow)
	}
	c.State, c.Holder, c.HolderName, c.Accepted = Waiting, "", "", false
	c.Episode++
	c.Epoch++
	c.Opened, c.Since, c.Resolved = now, now, time.Time{}
	return nil
}

// Number gives what was said its place: the next seq, and a time that never falls.
func (c *Conversation) Number(from Account, name string, s Say, at time.Time) Message {
	if at.Before(c.LastAt) {
		at = c.LastAt
	}
	c.Seq++
	c.LastAt, c.LastText, c.LastFrom = at, clip(s.Text, PreviewBytes), from.Role
	if from.Role == AgentRole {
		c.Accepted = true
	}
	return Message{
		Tenant: c.Tenant, Conversation: c.ID, Seq: c.Seq, ID: s.ID,
		From: from, Name: name, Kind: s.Kind, Text: s.Text, At: at,
	}
}

// Assign gives a waiting conversation to an agent.
//
// A held conversation is never taken away here. Assign returns ErrConflict
// when the conversation is not waiting.
func (c *Conversation) Assign(agent, name string) error {
	if c.State != Waiting {
		return fmt.Errorf("%w: conversation %s is %s, not waiting", ErrConflict, c.ID, c.State)
	}
	c.State, c.Holder, c.HolderName, c.Accepted = Held, agent, name, false
	c.Epoch++
	return nil
}

// Accept takes a waiting conversation for agent, or confirms one that agent
// holds. Somebody else's is ErrConflict, a resolved one ErrClosed.
func (c *Conversation) Accept(agent, name string) error {
	switch {
	case c.State == Waiting:
		if err := c.Assign(agent, name); err != nil {
			return err
		}
	case c.State == Resolved:
		return fmt.Errorf("%w: conversation %s is resolved", ErrClosed, c.ID)
	case c.Holder != agent:
		return fmt.Errorf("%w: conversation %s is held by another agent", ErrConflict, c.ID)
	}
	c.Accepted = true
	return nil
}

// Owned returns nil when agent is the owner under epoch, ErrClosed when the
// conversation is resolved and ErrNotOwner otherwise.
func (c *Conversation) Owned(agent string, epoch uint64) error {
	switch {
	case c.State == Resolved:
		return fmt.Errorf("%w: conversation %s is resolved", ErrClosed, c.ID)
	case c.State != Held || c.Holder != agent || c.Epoch != epoch:
		return fmt.Errorf("%w: conversation %s is not yours under owner epoch %d", ErrNotOwner, c.ID, epoch)
	}
	return nil
}

// Requeue puts a held conversation back to wait; its waiting time goes on from
// where it began. It returns ErrConflict when nobody holds it.
func (c *Conversation) Requeue() error {
	if c.State != Held {
		return fmt.Errorf("%w: conversation %s is %s, not held", ErrConflict, c.ID, c.State)
	}
	c.State, c.Holder, c.HolderName, c.Accepted = Waiting, "", "", false
	c.Epoch++
	return nil
}

// Resolve ends the episode. It returns ErrConflict unless the conversation is held.
func (c *Conversation) Resolve(now time.Time) error {
	if c.State != Held {
		return fmt.Errorf("%w: conversation %s is %s, not held", ErrConflict, c.ID, c.State)
	}
	c.State, c.Resolved = Resolved, now
	c.Epoch++
	return nil
}
