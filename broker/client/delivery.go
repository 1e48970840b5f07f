package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"holdline/broker/topics"
	"holdline/chat"
)

// held is an own event that arrived before the ones it follows.
type held struct {
	e  chat.Event
	id uint16 // of the packet to acknowledge when it is delivered
}

// arrived takes a PUBLISH. The error ends Run: it is a callback's.
func (n *connection) arrived(p *packets.Publish) error {
	if p.QoS > 0 {
		n.acks = append(n.acks, unacked{id: p.PacketID})
	}
	queue, isQueue := topics.QueueOf(p.Topic)
	switch {
	case n.c.syncs() && p.Topic == ownInbox:
		e, ok := n.decode(p.Topic, p.Payload)
		if !ok {
			break
		}
		if waits, err := n.own(e, p.PacketID); err != nil || waits {
			return err
		}
	case n.c.syncs() && p.Topic == topics.CustomerReply.Name:
		return n.reply(p.Payload)
	case isQueue && n.c.cfg.OnQueueEvent != nil:
		if e, ok := n.decode(p.Topic, p.Payload); ok {
			if err := n.queued(p.Topic, queue, e); err != nil {
				return err
			}
		}
	case n.c.cfg.OnMessage != nil:
		if err := n.c.cfg.OnMessage(p.Topic, p.Payload); err != nil {
			return fmt.Errorf("take a message on %s: %w", p.Topic, err)
		}
	}
	n.done(p.PacketID)
	return nil
}

// done lets the acknowledgement of a packet leave, in its turn.
func (n *connection) done(id uint16) {
	for at := range n.acks {
		if n.acks[at].id == id && !n.acks[at].done {
			n.acks[at].done = true
			return
		}
	}
}

// decode reads an event. One that cannot be read is dropped: it will not be
// readable later either.
func (n *connection) decode(topic string, payload []byte) (e chat.Event, ok bool) {
	if err := json.Unmarshal(payload, &e); err != nil {
		n.c.log.Error("event cannot be read", "topic", topic, "err", err)
		return e, false
	}
	if placeOf(e.Event) == (place{}) {
		n.c.log.Error("event has no number", "topic", topic, "event", e.Event)
		return e, false
	}
	return e, true
}

// own takes an event of the own inbox: at once when it is the next one. waits is
// true when it is held until the ones before it are there.
func (n *connection) own(e chat.Event, id uint16) (waits bool, err error) {
	switch n.place(ownInbox).judge(e.Event) {
	case next:
		return false, n.deliver(e)
	case ahead, foreign:
		if len(n.held) >= int(n.c.cfg.ReceiveMaximum) {
			n.link.fail(broken("protocol", errFlooded))
			return true, nil
		}
		n.held = append(n.held, held{e, id})
		n.c.sync.want(time.Now())
		return true, nil
	}
	return false, nil
}

// merge delivers what was held, as far as it follows now, and drops what came
// otherwise meanwhile. What is left still misses events before it.
func (n *connection) merge() error {
	slices.SortStableFunc(n.held, func(a, b held) int {
		p, q := placeOf(a.e.Event), placeOf(b.e.Event)
		switch {
		case p.n < q.n:
			return -1
		case p.n > q.n:
			return 1
		}
		return 0
	})
	left := n.held[:0]
	for _, h := range n.held {
		switch n.place(ownInbox).judge(h.e.Event) {
		case next:
			if err := n.deliver(h.e); err != nil {
				return err
			}
		case ahead, foreign:
			left = append(left, h)
			continue
		}
		n.done(h.id)
	}
	n.held = left
	return nil
}

// deliver hands an own event to the callback and moves the place.
func (n *connection) deliver(e chat.Event) error {
	if n.c.cfg.OnEvent != nil {
		if err := n.c.cfg.OnEvent(e); err != nil {
			return fmt.Errorf("take event %s: %w", e.Event, err)
		}
	}
	n.move(ownInbox, e.Event)
	n.settledBy(e)
	return nil
}

// queued takes an event of a queue.
func (n *connection) queued(topic string, queue chat.QueueID, e chat.Event) error {
	at := n.place(topic)
	switch s := at.judge(e.Event); {
	case s == stale:
		return nil
	case s != next && at.known && n.c.cfg.OnGap != nil:
		if err := n.c.cfg.OnGap(queue); err != nil {
			return fmt.Errorf("fetch queue %s: %w", queue, err)
		}
	}
	if err := n.c.cfg.OnQueueEvent(queue, e); err != nil {
		return fmt.Errorf("take event %s of queue %s: %w", e.Event, queue, err)
	}
	n.move(topic, e.Event)
	return nil
}

// place is how far an inbox was read.
func (n *connection) place(inbox string) place {
	p, ok := n.c.places[inbox]
	if ok {
		return p
	}
	id := n.c.state.position(inbox)
	if queue, isQueue := topics.QueueOf(inbox); id == "" && isQueue {
		id = n.c.cfg.From.Queues[queue]
	} else if id == "" && inbox == ownInbox {
		id = n.c.cfg.From.Own
	}
	p = placeOf(id)
	n.c.places[inbox] = p
	return p
}

// move sets how far an inbox was read; an empty id forgets it.
func (n *connection) move(inbox string, to chat.EventID) {
	n.c.places[inbox], n.moved[inbox] = placeOf(to), true
}

// settledBy takes out of the outbox what an own event tells the end of.
func (n *connection) settledBy(e chat.Event) {
	r := Receipt{ID: e.ID, Status: Accepted, Conversation: e.Conversation, Seq: e.Seq}
	switch e.Type {
	case chat.TypeMessage:
		if e.From == nil || e.From.Role != n.c.cfg.Role || n.c.cfg.Subject != "" && e.From.ID != n.c.cfg.Subject {
			return // an id is unique for its sender only
		}
	case chat.TypeDone:
	case chat.TypeRefused:
		r = Receipt{ID: e.ID, Status: Refused, Reason: e.Reason, Detail: e.Detail}
	default:
		return
	}
	if i := n.c.state.item(0, e.ID); e.ID != "" && i != nil && !i.Final {
		n.settle(i, r)
	}
}
