package chat

import "fmt"

// Verb is something an actor wants to do to a conversation.
type Verb string

// The verbs May decides on.
const (
	VerbSpeak   Verb = "speak"
	VerbRead    Verb = "read"
	VerbAccept  Verb = "accept"
	VerbRelease Verb = "release"
	VerbResolve Verb = "resolve"
)

// May is the one place that says who may do what to a conversation. It
// returns nil, or an error that wraps ErrForbidden.
//
// That a conversation has an owner is a rule of its own (Conversation.Owned):
// May answers for the role, Owned for the moment.
func May(actor Account, do Verb, c *Conversation) error {
	if actor.Tenant == c.Tenant {
		switch actor.Role {
		case Customer:
			if actor == c.Customer && (do == VerbSpeak || do == VerbRead) {
				return nil
			}
		case AgentRole:
			return nil // every agent serves the one queue; scopes come with roles
		case Service:
			if do == VerbRead {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: conversation %s is not open to you", ErrForbidden, c.ID)
}
