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

const (
	// replyPatience is the time for an answer: it has QoS 0 and may get lost.
	replyPatience = 10 * time.Second
	replyCap      = time.Minute
	// busyPause is the wait when the server is too busy to answer.
	busyPause = 3 * time.Second
	// pageEvents is how many events we ask for at once. It shrinks when no answer
	// comes: a page of long texts may be more than the server may send us.
	pageEvents = 100
	// keptAsks is how many of the last requests of a page may still be answered.
	keptAsks = 4
)

// syncing is the asking for what was missed. It outlives connections.
type syncing struct {
	wanted bool
	anew   bool // when it is done, acknowledged messages are sent again

	due   time.Time        // when to ask
	asked []chat.MessageID // that an answer would be taken for
	tries int              // without an answer
	limit int
}

// begin starts over on a new connection.
func (s *syncing) begin(wanted bool) {
	s.wanted = s.wanted || wanted
	s.due, s.asked, s.tries, s.limit = time.Now(), nil, 0, pageEvents
}

// want asks now, unless it is being asked already.
func (s *syncing) want(now time.Time) {
	if !s.wanted {
		s.wanted, s.due, s.asked, s.tries = true, now, nil, 0
	}
}

// later asks again after a while.
func (s *syncing) later(now time.Time) { s.due = now.Add(replyPatience) }

// proceed asks for the next page.
func (s *syncing) proceed(now time.Time) { s.due, s.asked, s.tries = now, nil, 0 }

// ask requests the events after the last one known.
func (n *connection) ask(now time.Time) {
	s := &n.c.sync
	if s.tries > 0 {
		s.limit = max(1, s.limit/4)
	}
	r := chat.Request{ID: NewID(), Op: chat.OpSync, Since: n.place(ownInbox).id(), Limit: s.limit}
	payload, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("client: request does not marshal: %v", err)) // strings and numbers only: cannot happen
	}
	s.asked = append(s.asked, r.ID)
	s.asked = s.asked[max(0, len(s.asked)-keptAsks):]
	s.due = now.Add(doubled(replyPatience, max(0, s.tries-2), replyCap))
	s.tries++
	n.publish(&packets.Publish{
		Topic: topics.CustomerRequest.Name, Payload: payload, QoS: 1,
		PacketID: n.link.otherID(), Properties: &packets.Properties{},
	}, 0)
}

// reply takes the answer to a request. The error ends Run.
func (n *connection) reply(payload []byte) error {
	s := &n.c.sync
	var r chat.Reply
	if err := json.Unmarshal(payload, &r); err != nil {
		n.c.log.Error("reply cannot be read", "err", err)
		return nil
	}
	if !s.wanted || !slices.Contains(s.asked, r.ID) {
		return nil // of an earlier request
	}
	before := n.place(ownInbox)
	switch useless := r.Error != nil && r.Error.Reason == chat.ReasonInvalid; {
	case before.known && (r.Resync || useless): // a position that cannot be read is of no use
		if err := n.restart(); err != nil || useless {
			s.proceed(time.Now())
			return err
		}
	case r.Error != nil:
		wait := replyCap
		if r.Error.Reason == chat.ReasonBusy {
			wait = busyPause
		}
		n.c.log.Warn("server will not sync now", "reason", r.Error.Reason, "wait", wait)
		s.due, s.tries = time.Now().Add(wait), 0 // an answer did come: the page was not too large
		return nil
	}
	for _, raw := range r.Events {
		e, ok := n.decode(topics.CustomerReply.Name, raw)
		if !ok {
			continue
		}
		switch n.place(ownInbox).judge(e.Event) {
		case stale:
			continue
		case foreign:
			if err := n.restart(); err != nil {
				return err
			}
		case ahead:
			if n.place(ownInbox).known {
				n.c.log.Error("the server lacks events", "after", n.place(ownInbox).id(), "event", e.Event)
			}
		}
		if err := n.deliver(e); err != nil {
			return err
		}
	}
	now, at := time.Now(), n.place(ownInbox)
	if !at.known && r.Last != "" && !r.More {
		n.move(ownInbox, r.Last) // an empty inbox: the next is its first
		at = n.place(ownInbox)
	}
	if err := n.merge(); err != nil {
		return err
	}
	switch {
	case r.More && at != before:
		s.proceed(now)
	case r.More:
		n.c.log.Error("sync makes no progress", "since", before.id())
		s.later(now)
	case len(n.held) > 0 && at != before:
		s.proceed(now) // the page is older than what arrived
	default:
		// This answer is the server's newest: what is of another incarnation is of an older one.
		n.drop(func(p place) bool { return at.known && p.incarnation != at.incarnation })
		if len(n.held) > 0 {
			s.proceed(now.Add(time.Second))
			return nil
		}
		n.synced()
	}
	return nil
}

// synced ends the asking. What the server acknowledged and has not told the end
// of is sent again when it forgot us: the journal may be another one.
func (n *connection) synced() {
	s := &n.c.sync
	s.wanted, s.asked = false, nil
	if s.anew {
		s.anew = false
		n.recs = append(n.recs, record{Anew: true})
		for _, number := range n.acked {
			n.recs = append(n.recs, record{Acked: number})
		}
		n.acked = nil
	}
}

// restart forgets the place, because the server's numbering began anew.
func (n *connection) restart() error {
	n.c.log.Warn("the server cannot go on from our place", "last", n.place(ownInbox).id())
	if n.c.cfg.OnResync != nil {
		if err := n.c.cfg.OnResync(); err != nil {
			return fmt.Errorf("start anew: %w", err)
		}
	}
	n.move(ownInbox, "")
	n.c.sync.anew = true
	return nil
}

// drop forgets held events that can never be delivered.
func (n *connection) drop(which func(place) bool) {
	n.held = slices.DeleteFunc(n.held, func(h held) bool {
		if !which(placeOf(h.e.Event)) {
			return false
		}
		n.done(h.id)
		return true
	})
}
