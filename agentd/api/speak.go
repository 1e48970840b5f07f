package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// client is the session name in the journal of what came over HTTP. It has no
// MQTT session, so nothing is ever delivered to it.
const client = "api"

// Receipt says that something is on disk. What becomes of it arrives as an event.
type Receipt struct {
	ID chat.MessageID `json:"id"`
}

type receiptOut struct{ Body Receipt }

// Words is something an agent says.
type Words struct {
	ID    chat.MessageID `json:"id" minLength:"1" doc:"Your own id of it, at most 64 bytes, new for each message; sending the same one again is harmless"`
	Text  string         `json:"text" minLength:"1" doc:"At most 16 KiB"`
	Epoch uint64         `json:"epoch" minimum:"1" doc:"The owner epoch you hold the conversation under"`
}

// Order is something an agent does to a conversation.
type Order struct {
	ID    chat.MessageID `json:"id" minLength:"1" doc:"Your own id of it, at most 64 bytes, new for each command"`
	Epoch uint64         `json:"epoch,omitempty" doc:"The owner epoch; not needed to accept"`
}

func (s *server) routeSpeak() {
	writers := huma.Middlewares{s.only(chat.AgentRole, chat.Service)} // May refuses services by what they do
	huma.Register(s.api, s.operation(huma.Operation{
		OperationID: "say", Method: http.MethodPost, Path: prefix + "/conversations/{id}/messages", Tags: []string{"conversations"},
		Summary: "Say something", DefaultStatus: http.StatusAccepted, Security: withAny, Errors: writeErrors, Middlewares: writers,
		Description: "202 means that it is on disk. The message, or why it was refused, arrives as an event.",
	}), func(ctx context.Context, in *struct {
		ConversationPath
		Body Words
	}) (*receiptOut, error) {
		err := s.say(ctx, in.ID, in.Body)
		return &receiptOut{Receipt{in.Body.ID}}, s.problem(ctx, err)
	})
	for _, do := range []struct {
		action  chat.Action
		verb    chat.Verb
		summary string
	}{
		{chat.ActAccept, chat.VerbAccept, "Take a waiting conversation, or confirm one that was assigned"},
		{chat.ActRelease, chat.VerbRelease, "Give a conversation back to its queue, waiting time kept"},
		{chat.ActResolve, chat.VerbResolve, "End a conversation"},
	} {
		huma.Register(s.api, s.operation(huma.Operation{
			OperationID: string(do.action), Method: http.MethodPost, Path: prefix + "/conversations/{id}/" + string(do.action), Tags: []string{"conversations"},
			Summary: do.summary, DefaultStatus: http.StatusAccepted, Security: withAny, Errors: writeErrors, Middlewares: writers,
			Description: "202 means that the command is on disk. That it is done, or why it was refused, arrives as an event.",
		}), func(ctx context.Context, in *struct {
			ConversationPath
			Body Order
		}) (*receiptOut, error) {
			err := s.command(ctx, in.ID, do.verb, do.action, in.Body)
			return &receiptOut{Receipt{in.Body.ID}}, s.problem(ctx, err)
		})
	}
}

// say checks what can be known without deciding: form, size and rights. Who owns the
// conversation is decided where the entry is taken in, so that a message which is sent again after
// its conversation has moved on still gets its first answer.
func (s *server) say(ctx context.Context, id chat.ConversationID, w Words) error {
	c, err := s.open(ctx, chat.VerbSpeak, id)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(chat.Say{ID: w.ID, Conversation: c.ID, Kind: chat.Text, Text: w.Text, Epoch: w.Epoch})
	if err != nil {
		return err
	}
	if _, err := chat.ParseSay(payload); err != nil {
		return err
	}
	return s.append(ctx, c.ID, topics.AgentMessage, payload)
}

func (s *server) command(ctx context.Context, id chat.ConversationID, verb chat.Verb, do chat.Action, o Order) error {
	c, err := s.open(ctx, verb, id)
	if err != nil {
		return err
	}
	if do != chat.ActAccept && o.Epoch == 0 {
		return fmt.Errorf("%w: epoch is missing; send the owner epoch you hold the conversation under", chat.ErrInvalid)
	}
	payload, err := json.Marshal(chat.Command{ID: o.ID, Do: do, Conversation: c.ID, Epoch: o.Epoch})
	if err != nil {
		return err
	}
	if _, err := chat.ParseCommand(payload); err != nil {
		return err
	}
	return s.append(ctx, c.ID, topics.AgentCommand, payload)
}

// append makes the journal entry that a publish of the agent would be, and
// returns when it is on disk.
func (s *server) append(ctx context.Context, id chat.ConversationID, to topics.Topic, payload []byte) error {
	slot, err := id.Slot()
	if err != nil {
		return err
	}
	full, _, err := topics.MountFor(callerOf(ctx).account, client).Publish(to.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	done := make(chan error, 1) // has room: the journal must not wait for us
	err = s.Journal.Append(ctx, &journal.Submission{
		Entries: []journal.Entry{{Topic: full, Payload: payload, Partition: slot.Partition(), Client: client}},
		Done:    func(r journal.Result) { done <- r.Err },
	})
	if err != nil {
		return fmt.Errorf("append for conversation %s: %w", id, err)
	}
	select {
	case err = <-done:
	case <-ctx.Done(): // it may become durable all the same; the sender's id makes another try harmless
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("append for conversation %s: %w", id, err)
	}
	return nil
}
