package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"holdline/chat"
	"holdline/test/wire"
)

// Way is how a desk sends its answers.
type Way int

// A desk answers over MQTT, over HTTP, or not at all.
const (
	Silent Way = iota
	ByMQTT
	ByHTTP
)

// Desk is an agent at work: it follows its own inbox and the queue's, and when
// told to, answers everything that customers say in the conversations it holds.
type Desk struct {
	*Device
	server *Server
	token  string
	way    Way
	count  atomic.Int64
	work   chan struct{}
	stop   context.CancelFunc
	done   chan struct{}

	mu            sync.Mutex
	conversations map[chat.ConversationID]*held
	posted        []*Said // by HTTP; acked is the 202
}

// held is what a desk knows of a conversation.
type held struct {
	head     chat.Head
	messages map[uint64]chat.Event
	answered map[chat.MessageID]bool // by the id of what was said
	asked    uint64                  // last_seq up to which the thread was fetched
}

// HireDesk adds an agent and makes a desk for it; it is not connected yet.
func (s *Server) HireDesk(agent string, capacity int, way Way, address func() string) *Desk {
	s.tb.Helper()
	s.Command("agent", "add", agent, "--password", passwordOf(agent), "--capacity", fmt.Sprint(capacity))
	return s.Desk(agent, "desk-"+agent, way, address)
}

func passwordOf(agent string) string { return "correct horse " + agent }

// Desk makes a desk of an agent that exists. It connects over WebSocket, as the
// browser does, unless an address is given.
func (s *Server) Desk(agent, device string, way Way, address func() string) *Desk {
	s.tb.Helper()
	if address == nil {
		address = s.HTTP
	}
	a := chat.Account{Tenant: chat.DefaultTenant, Role: chat.AgentRole, Subject: agent}
	token := s.Token(chat.AgentRole, agent, "")
	d := &Desk{
		Device: newDevice(s.tb, a, device, wire.V5, token, address, "down/#", "queue/+/event"),
		server: s, token: token, way: way, work: make(chan struct{}, 1), conversations: map[chat.ConversationID]*held{},
	}
	d.heard = d.hear
	return d
}

// On is Device.On, and begins to answer.
func (d *Desk) On() {
	d.Device.On()
	if d.way == Silent || d.stop != nil {
		return
	}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		d.answer(ctx)
	}()
	d.tb.Cleanup(d.Rest)
}

// Rest stops answering; the desk stays connected.
func (d *Desk) Rest() {
	if d.stop != nil {
		d.stop()
		<-d.done
		d.stop = nil
	}
}

// Agent is the subject of the desk's account.
func (d *Desk) Agent() string { return d.Account.Subject }

// Head is the last head of a conversation that the desk was told.
func (d *Desk) Head(id chat.ConversationID) (chat.Head, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.conversations[id]; h != nil && h.head.State != "" {
		return h.head, true
	}
	return chat.Head{}, false
}

// Holds reports whether the desk was told that its agent owns the conversation, and under which epoch.
func (d *Desk) Holds(id chat.ConversationID) (epoch uint64, ok bool) {
	h, _ := d.Head(id)
	return h.Epoch, d.owns(h)
}

func (d *Desk) owns(h chat.Head) bool {
	return h.State == chat.Held && h.Agent != nil && h.Agent.ID == d.Agent()
}

// Say answers over MQTT under an epoch.
func (d *Desk) Say(in chat.ConversationID, epoch uint64, text string) *Said {
	id := d.newID()
	return d.Publish("up/message", id, text, chat.Say{ID: id, Conversation: in, Text: text, Epoch: epoch})
}

// Do gives a command over MQTT.
func (d *Desk) Do(do chat.Action, in chat.ConversationID, epoch uint64) *Said {
	id := d.newID()
	return d.Publish("up/command", id, "", chat.Command{ID: id, Do: do, Conversation: in, Epoch: epoch})
}

func (d *Desk) newID() chat.MessageID {
	return chat.MessageID(fmt.Sprintf("%s-%d", d.Name, d.count.Add(1)))
}

// Posted are the answers that went over HTTP.
func (d *Desk) Posted() []*Said {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.posted[:len(d.posted):len(d.posted)]
}

// Own are the events of the agent's inbox.
func (d *Desk) Own() []chat.Event { return d.Inbox("down/event").Events() }

// Queue are the events of the one queue's inbox.
func (d *Desk) Queue() []chat.Event { return d.Inbox("queue/main/event").Events() }

func (d *Desk) hear(_ string, e chat.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Type == chat.TypeRefused {
		for _, h := range d.conversations { // whatever it answered is open again
			for id := range h.answered {
				if answerTo(id, d.Name) == e.ID {
					delete(h.answered, id)
				}
			}
		}
		d.wake()
		return
	}
	if e.Conversation == "" {
		return
	}
	h := d.conversations[e.Conversation]
	if h == nil {
		h = &held{messages: map[uint64]chat.Event{}, answered: map[chat.MessageID]bool{}}
		d.conversations[e.Conversation] = h
	}
	switch {
	case e.Type == chat.TypeMessage:
		h.messages[e.Seq] = e
	case e.Head != nil && e.Head.Epoch >= h.head.Epoch: // two inboxes tell the same: the newer one stays
		h.head = *e.Head
	}
	d.wake()
}

func (d *Desk) wake() {
	select {
	case d.work <- struct{}{}:
	default:
	}
}

// answerTo is the id of a desk's answer to a message. It is the same at each try.
func answerTo(id chat.MessageID, desk string) chat.MessageID {
	return chat.MessageID("re-" + desk + "-" + string(id))
}

// answer gives answers until ctx ends.
func (d *Desk) answer(ctx context.Context) {
	look := time.NewTicker(500 * time.Millisecond) // for what failed
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.work:
		case <-look.C:
		}
		for _, id := range d.holding() {
			if ctx.Err() != nil {
				return
			}
			d.answerIn(ctx, id)
		}
	}
}

func (d *Desk) holding() (ids []chat.ConversationID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, h := range d.conversations {
		if d.owns(h.head) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *Desk) answerIn(ctx context.Context, id chat.ConversationID) {
	d.mu.Lock()
	h := d.conversations[id]
	epoch, missing := h.head.Epoch, false
	for seq := uint64(1); seq <= h.head.LastSeq; seq++ {
		if _, ok := h.messages[seq]; !ok {
			missing = h.asked < h.head.LastSeq
			break
		}
	}
	last := h.head.LastSeq
	d.mu.Unlock()
	if missing { // said before this desk could hear it
		thread, err := d.server.Thread(ctx, id)
		if err != nil {
			return // the next look tries again
		}
		d.mu.Lock()
		for _, m := range thread {
			h.messages[m.Seq] = m
		}
		h.asked = last
		d.mu.Unlock()
	}
	d.mu.Lock()
	var open []chat.Event
	for _, m := range h.messages {
		if m.From != nil && m.From.Role == chat.Customer && !h.answered[m.ID] {
			h.answered[m.ID] = true
			open = append(open, m)
		}
	}
	d.mu.Unlock()
	for _, m := range open {
		say := chat.Say{ID: answerTo(m.ID, d.Name), Conversation: id, Text: "re: " + m.Text, Epoch: epoch}
		if d.way == ByMQTT {
			d.Publish("up/message", say.ID, say.Text, say)
			continue
		}
		d.post(ctx, say)
	}
}

// post says something over HTTP until it is taken or refused.
func (d *Desk) post(ctx context.Context, say chat.Say) {
	s := &Said{ID: say.ID, Text: say.Text}
	d.mu.Lock()
	d.posted = append(d.posted, s)
	d.mu.Unlock()
	for ctx.Err() == nil {
		err := d.server.Call(ctx, d.token, http.MethodPost, "/conversations/"+string(say.Conversation)+"/messages",
			map[string]any{"id": say.ID, "text": say.Text, "epoch": say.Epoch}, nil)
		var p *Problem
		switch {
		case err == nil:
			d.mu.Lock()
			s.acked = true
			d.mu.Unlock()
			return
		case errors.As(err, &p) && p.Status < 500 && p.Status != http.StatusTooManyRequests:
			d.tb.Errorf("%s: answer %s: %v", d, say.ID, err)
			return
		}
		select { // down, or starting: the same id again is harmless
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
