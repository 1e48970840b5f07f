package bridge

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// deed is what an entry asks for.
type deed int

const (
	toPass   deed = iota // nothing but to move on
	toRefuse             // to tell the sender why not
	toSay
	toCommand
	toRequest
	toPresence
	toNodeStart
)

// item is one entry of the journal, read anew: what the broker checked is
// checked again, because nothing but this decides what is stored.
type item struct {
	entry   *journal.Entry
	source  topics.Source
	deed    deed
	poison  bool         // storage would not have it
	refusal chat.Refusal // of toRefuse, and of toRequest when that cannot be understood

	say      chat.Say
	command  chat.Command
	request  chat.Request
	presence chat.Presence
	// fresh is the id for a conversation that this entry may open. It is drawn here
	// because what decides must come to the same again when storage retries.
	fresh chat.ConversationID
}

// read makes an item of an entry. It never fails: what cannot be understood is
// refused when there is somebody to tell, and passed when there is not. err then
// says what was wrong with an entry that nobody hears about.
func read(e *journal.Entry) (it *item, err error) {
	it = &item{entry: e}
	var ok bool
	if it.source, ok = topics.Parse(e.Topic); !ok {
		return it, fmt.Errorf("%w: topic is not one of journal input", chat.ErrInvalid)
	}
	if it.source.Node != "" {
		it.deed = toNodeStart
		return it, nil
	}
	if err := it.source.Account.Validate(); err != nil {
		return it, err
	}
	switch {
	case len(e.Refused) > 0:
		it.refuse(refusedByBroker(e.Refused))
	case it.source.Topic == "":
		return it, it.readPresence()
	default:
		it.readWords()
	}
	return it, nil
}

func (it *item) readWords() {
	var id chat.MessageID
	var err error
	payload := it.entry.Payload
	switch role, name := it.source.Account.Role, it.source.Topic; {
	case role == chat.Customer && name == topics.CustomerMessage.Name, role == chat.AgentRole && name == topics.AgentMessage.Name:
		it.deed = toSay
		it.say, err = chat.ParseSay(payload)
		id = it.say.ID
		if err == nil && role == chat.AgentRole && it.say.Conversation == "" {
			err = fmt.Errorf("%w: conversation is missing; an agent names the one to answer in", chat.ErrInvalid)
		}
		if role == chat.Customer && it.say.Conversation == "" {
			it.fresh = freshID(it.source.Account)
		}
	case role == chat.AgentRole && name == topics.AgentCommand.Name:
		it.deed = toCommand
		it.command, err = chat.ParseCommand(payload)
		id = it.command.ID
	case role == chat.Customer && name == topics.CustomerRequest.Name, role == chat.AgentRole && name == topics.AgentRequest.Name:
		it.deed = toRequest
		it.request, err = chat.ParseRequest(payload)
		id = it.request.ID
	default:
		err = fmt.Errorf("%w: nothing is taken in from this topic", chat.ErrForbidden)
	}
	switch {
	case err == nil:
	case it.deed == toRequest && id != "":
		it.refusal = chat.Refuse(id, err) // the reply tells
	default:
		it.refuse(chat.Refuse(id, err))
	}
}

func freshID(a chat.Account) chat.ConversationID {
	var entropy [12]byte
	_, _ = rand.Read(entropy[:]) // never fails: crypto/rand ends the process instead
	return chat.NewConversationID(a.Slot(), entropy)
}

// maxName bounds how a token may call an account.
const maxName = 128

func (it *item) readPresence() error {
	if it.source.Client == "" {
		return fmt.Errorf("%w: presence of no client", chat.ErrInvalid)
	}
	if err := json.Unmarshal(it.entry.Payload, &it.presence); err != nil {
		return fmt.Errorf("%w: presence: %w", chat.ErrInvalid, err)
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return -1
		}
		return r
	}, it.presence.Name)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	it.presence.Name = name
	it.deed = toPresence
	return nil
}

// refuse turns the item into a refusal of what somebody sent. Devices have no
// inbox to be told in, and presence is nobody's message.
func (it *item) refuse(r chat.Refusal) {
	it.refusal = r
	switch {
	case it.deed == toPresence, it.deed == toNodeStart, it.source.Account.Role == chat.Device:
		it.deed = toPass
	default:
		it.deed = toRefuse
	}
}

// refusedByBroker reads why the broker would not take an entry.
func refusedByBroker(b []byte) chat.Refusal {
	var r chat.Refusal
	if err := json.Unmarshal(b, &r); err != nil || r.Reason == "" {
		r.Reason, r.Detail = chat.ReasonInvalid, "this could not be understood"
	}
	if r.ID.Validate() != nil {
		r.ID = ""
	}
	return r
}

// at is the time of the entry: when it was taken from its sender.
func (it *item) at() time.Time { return it.entry.At }

func (it *item) account() chat.Account { return it.source.Account }

// conversation is the one the item names, empty when it names none.
func (it *item) conversation() chat.ConversationID {
	switch it.deed {
	case toSay:
		return it.say.Conversation
	case toCommand:
		return it.command.Conversation
	}
	return ""
}

// id is what the sender called it.
func (it *item) id() chat.MessageID {
	switch it.deed {
	case toSay:
		return it.say.ID
	case toCommand:
		return it.command.ID
	case toRequest:
		return it.request.ID
	}
	return it.refusal.ID
}

func (it *item) agent() storage.AgentKey {
	return storage.AgentKey{Tenant: it.account().Tenant, ID: it.account().Subject}
}

func (it *item) said() storage.SaidKey { return storage.SaidKey{Account: it.account(), ID: it.id()} }

func (it *item) node() storage.NodeKey {
	return storage.NodeKey{Node: it.source.Node, Partition: it.entry.Partition}
}

// scopeOf is what storage must lock and load for the items. All of them that
// name a conversation are of one tenant.
func scopeOf(items []*item, advance []storage.Advance) storage.Scope {
	accounts, said, conversations := set[chat.Account]{}, set[storage.SaidKey]{}, set[chat.ConversationID]{}
	agents, nodes := set[storage.AgentKey]{}, set[storage.NodeKey]{}
	s := storage.Scope{Advance: advance}
	for _, it := range items {
		switch it.deed {
		case toSay, toCommand:
			accounts.add(it.account())
			said.add(it.said())
			if id := it.conversation(); id != "" {
				conversations.add(id)
				s.ConversationsOf = it.account().Tenant
			}
			if it.account().Role == chat.AgentRole {
				agents.add(it.agent())
			}
		case toPresence:
			accounts.add(it.account())
		case toNodeStart:
			nodes.add(it.node())
		}
	}
	s.Accounts, s.Said, s.Conversations = accounts.list, said.list, conversations.list
	s.Agents, s.Nodes = agents.list, nodes.list
	return s
}

// set collects each value once, in the order in which they came.
type set[T comparable] struct {
	has  map[T]bool
	list []T
}

func (s *set[T]) add(v T) {
	if s.has == nil {
		s.has = map[T]bool{}
	}
	if !s.has[v] {
		s.has[v] = true
		s.list = append(s.list, v)
	}
}
