package broker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

// Message is one message on its way out, shared by everybody who gets it.
type Message struct {
	Seq        uint64 // 0 for one that is not in the journal
	Topic      string // the full name
	Payload    []byte
	Properties []byte // to forward, as MQTT 5 writes them
	Expires    time.Time

	origin string  // the session it came from
	most   byte    // the QoS it was published with, and never more
	retain bool    // it was published with the retain flag
	frames *frames // nil for a message of one session
}

// frames are the ways to write a message: by protocol version, QoS and mount.
type frames [12]atomic.Pointer[[]byte]

// Shared reports whether several sessions get the message, so that it is worth
// to keep what was encoded for one of them.
func (m *Message) Shared() bool { return m.frames != nil }

// Frame returns what make made for the same i before, or calls it. It lets a
// transport encode a shared message once for many connections.
func (m *Message) Frame(i int, make func() []byte) []byte {
	if p := m.frames[i].Load(); p != nil {
		return *p
	}
	b := make()
	m.frames[i].Store(&b)
	return b
}

func (m *Message) bytes() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) + 64 }

// Share prepares a message that goes to so many sessions.
func (m *Message) Share(sessions int) *Message {
	if sessions > 1 {
		m.frames = new(frames)
	}
	return m
}

// messageOf an entry.
func messageOf(e *journal.Entry) *Message {
	m := &Message{Seq: e.Seq, Topic: e.Topic, Payload: e.Payload, Expires: e.Expires, origin: e.Client, most: 1}
	var mark byte
	if m.Properties, mark = splitMark(e.Properties); mark != 0 {
		m.retain = mark&markRetain != 0
		switch {
		case mark&markOnce != 0:
			m.most = 0
		case mark&markTwice != 0:
			m.most = 2
		}
	}
	return m
}

// Delivery is a message for one client.
type Delivery struct {
	*Message
	ID  uint16 // 0 for QoS 0
	QoS byte
	Dup bool // it may have been sent to this session before
	// Retain is the flag as the client is to see it.
	Retain bool
	// Subs are the subscription identifiers it matched.
	Subs []uint32
}

// delivery is the receiving side of a session. Session.mu guards it.
//
// A session is live when everything up to what the follower has routed was
// handed to it: the follower then hands it what comes. When there is no room, or a
// subscription changed, it falls behind: a pump reads on from next, when there is
// room, until it is live again. Nothing waits in memory for a session but what is in its window.
type delivery struct {
	live   bool
	queued bool   // waits for a pump, or is with one
	next   uint64 // looked at up to here
	sent   uint64 // the newest entry handed to this or an earlier connection
	before uint64 // the newest entry an earlier connection is known to have been handed
	// After a crash: so many entries, none after presumed, may have been sent by
	// the connection that it ended.
	presumed uint64
	maybe    int
	skip     []uint64 // acknowledged already, ahead of older ones; ascending
	window   window
	pending  []Delivery // handed over, not yet taken; from head on
	head     int
	bytes    int      // of pending
	woken    bool     // the link was told since the last Take
	tossed   *Message // the last one, where subscriptions overlap: it comes once
	owed     owed
}

// end forgets what was not taken, and settles how far the session got.
func (d *delivery) end(b *Broker) {
	if d.live {
		d.live = false
		d.next = max(d.next, b.routed.Load())
	} else {
		b.count.replaying.Add(-1)
	}
	d.pending, d.head, d.bytes, d.tossed = nil, 0, 0, nil
}

// cursor is the place up to which everything is done; s.mu is held.
func (s *Session) cursor() uint64 {
	d := &s.deliver
	if first, ok := d.window.first(); ok {
		return first - 1
	}
	if d.live {
		return max(d.next, s.b.routed.Load())
	}
	return d.next
}

// ahead lists what was acknowledged beyond the cursor; s.mu is held.
func (s *Session) ahead() []uint64 {
	d := &s.deliver
	list := d.window.ahead()
	for _, seq := range d.skip {
		if seq > d.next {
			list = append(list, seq)
		}
	}
	return list
}

// manner is how a message is to be delivered.
type manner struct {
	qos    byte
	retain bool
	ids    []uint32 // the subscription identifiers
}

// match finds how a message is to be delivered; ok is false when it is not.
// s.mu is held.
func (s *Session) match(m *Message, only *subscription) (how manner, ok bool) {
	if only != nil && !s.overlap {
		if !s.wants(m, only) {
			return how, false
		}
		return manner{m.grade(only.QoS), m.retain && only.RetainAsPublished, identifiers(nil, only)}, true
	}
	for _, sub := range s.subs {
		if !slices.ContainsFunc(sub.full, func(f string) bool { return topics.Match(f, m.Topic) }) || !s.wants(m, sub) {
			continue
		}
		how.qos, how.ids, ok = max(how.qos, sub.QoS), identifiers(how.ids, sub), true // [MQTT-3.3.4-2]
		how.retain = how.retain || m.retain && sub.RetainAsPublished
	}
	how.qos = m.grade(how.qos)
	return how, ok
}

// wants reports whether a message that a subscription matches is for it.
func (s *Session) wants(m *Message, sub *subscription) bool {
	switch {
	case sub.NoLocal && m.origin == s.origin: // [MQTT-3.8.3-3]
		return false
	case m.Seq == 0:
		return sub.until == 0
	case m.Seq <= sub.from, sub.until != 0 && m.Seq > sub.until:
		return false
	case sub.QoS == 0 || m.most == 0:
		return m.Seq > s.began // nobody is owed what was said while nobody listened
	}
	return true
}

func (m *Message) grade(granted byte) byte {
	if m.Seq == 0 {
		return 0
	}
	return min(granted, m.most)
}

func identifiers(ids []uint32, sub *subscription) []uint32 {
	if sub.ID == 0 {
		return ids
	}
	return append(ids, sub.ID) // [MQTT-3.3.4-4]
}

// offer hands a routed entry to a live session. It reports whether the link is
// to be woken.
func (s *Session) offer(m *Message, sub *subscription) (wake bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.deliver
	if s.closed || !d.live || m.Seq <= d.next {
		return false
	}
	how, ok := s.match(m, sub)
	if ok && !s.put(m, how) {
		s.fallBehind(m.Seq - 1)
		return false
	}
	d.next = m.Seq
	if !ok || d.woken {
		return false
	}
	d.woken = true
	return true
}

// fallBehind makes a pump necessary; s.mu is held.
func (s *Session) fallBehind(at uint64) {
	d := &s.deliver
	if d.live {
		d.live = false
		s.b.count.replaying.Add(1)
	}
	d.next = at
}

// toss hands over a message that is not in the journal. It is lost when the
// client does not keep up.
func (s *Session) toss(m *Message, sub *subscription) (wake bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.deliver
	if s.closed || d.tossed == m {
		return false
	}
	if s.overlap {
		d.tossed = m
	}
	how, ok := s.match(m, sub)
	if !ok {
		return false
	}
	if !s.put(m, how) {
		s.b.count.droppedQoS0.Add(1)
		return false
	}
	if d.woken {
		return false
	}
	d.woken = true
	return true
}

// put hands one message over, when there is room; s.mu is held.
func (s *Session) put(m *Message, how manner) bool {
	d := &s.deliver
	if !d.holds(m) {
		return false
	}
	out := Delivery{Message: m, QoS: how.qos, Retain: how.retain, Subs: how.ids}
	if how.qos > 0 {
		if !d.window.fits(m.Seq) {
			return false
		}
		d.window.add(m.Seq, how.qos == 2)
		out.ID = packetID(m.Seq)
		out.Dup = m.Seq <= d.before || m.Seq <= d.presumed && d.maybe > 0 // [MQTT-3.3.1-1]
		d.maybe--
	}
	d.push(out)
	return true
}

// holds reports whether there is room in memory for one more.
func (d *delivery) holds(m *Message) bool {
	return d.bytes+m.bytes() <= pendingBytes || d.head == len(d.pending)
}

// push adds to what is pending.
func (d *delivery) push(out Delivery) {
	if d.head > 0 && len(d.pending) == cap(d.pending) {
		n := copy(d.pending, d.pending[d.head:])
		clear(d.pending[n:])
		d.pending, d.head = d.pending[:n], 0
	}
	d.pending = append(d.pending, out)
	d.bytes += out.bytes()
}

// Take moves deliveries to dst, at most about so many bytes of them. It is
// called by the connection's one writer.
func (s *Session) Take(dst []Delivery, bytes int) []Delivery {
	s.mu.Lock()
	d := &s.deliver
	n := len(dst)
	for d.head < len(d.pending) && bytes > 0 {
		p := &d.pending[d.head]
		bytes -= p.bytes()
		d.bytes -= p.bytes()
		if p.QoS > 0 && p.ID <= idRange {
			d.sent = max(d.sent, p.Seq)
		}
		dst = append(dst, *p)
		*p = Delivery{}
		d.head++
	}
	if d.head == len(d.pending) {
		d.pending, d.head = d.pending[:0], 0
		if cap(d.pending) > smallWindow {
			d.pending = nil
		}
		d.woken = false
	}
	s.b.count.delivered.Add(uint64(len(dst) - n))
	queue := s.wantsPump()
	s.mu.Unlock()
	if queue {
		s.b.pumps.add(s)
	}
	return dst
}

// Acknowledge takes the client's PUBACK. Ids of nothing in flight with QoS 1 are ignored.
func (s *Session) Acknowledge(id uint16) { s.acknowledge(id, false) }

func (s *Session) acknowledge(id uint16, twice bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.settled(id, twice) {
		return
	}
	s.b.count.confirmed.Add(1)
	s.unsaved++
	if s.durable && (!s.dirty || s.unsaved == checkpointAcks) {
		s.dirty = true
		s.b.checkpoints.add(s, s.unsaved >= checkpointAcks)
	}
}

// settled ends what is in flight under an id, with QoS 2 or 1; false when there
// is nothing. s.mu is held.
func (s *Session) settled(id uint16, twice bool) bool {
	if id > idRange {
		return s.deliver.settleOwed(id, twice)
	}
	return s.deliver.window.ack(id, twice)
}

// Drop says that a delivery that was taken cannot be sent: too large for the
// client, or expired. It counts as done.
func (s *Session) Drop(d Delivery) {
	s.b.count.skipped.Add(1)
	if d.QoS == 0 {
		return
	}
	s.acknowledge(d.ID, d.QoS == 2)
	s.refill()
}

// refill asks for a pump when the session is behind and has room.
func (s *Session) refill() {
	s.mu.Lock()
	queue := s.wantsPump()
	s.mu.Unlock()
	if queue {
		s.b.pumps.add(s)
	}
}

// wantsPump reports, once, that the session should be queued for a pump; s.mu is held.
func (s *Session) wantsPump() bool {
	d := &s.deliver
	if s.closed || d.live || d.queued || s.room() == 0 {
		return false
	}
	d.queued = true
	return true
}

// room is how many entries a pump may bring; s.mu is held.
func (s *Session) room() int {
	d := &s.deliver
	if d.bytes >= pendingBytes/2 {
		return 0
	}
	return d.window.room()
}

// pump brings a session that is behind up to one page further. It reports
// whether to go on.
func (s *Session) pump(ctx context.Context) (again bool) {
	s.mu.Lock()
	d := &s.deliver
	if !s.closed && !d.live && d.owed.due() {
		s.mu.Unlock()
		return s.pumpOwed(ctx)
	}
	after, filters, revision, room := d.next, s.filters, s.revision, min(s.room(), pageEntries)
	if s.closed || d.live || room == 0 {
		d.queued = false
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()

	page := journal.Page{Through: s.b.routing.Load()}
	if len(filters) > 0 {
		var err error
		if page, err = s.b.j.Read(ctx, filters, after, room); err != nil {
			s.pumpFailed(ctx, err)
			return false
		}
	}

	s.mu.Lock()
	if s.closed {
		d.queued = false
		s.mu.Unlock()
		return false
	}
	if s.revision != revision {
		s.mu.Unlock()
		return true // read with filters that are no longer right
	}
	full := s.take(page)
	switch {
	case !full && d.next >= s.b.routing.Load():
		d.live = true
		s.b.count.replaying.Add(-1)
		again = false
	default:
		again = !full && s.room() > 0
	}
	d.queued = again
	wake := d.head < len(d.pending) && !d.woken
	d.woken = d.woken || wake
	s.mu.Unlock()
	if wake {
		s.link.Wake()
	}
	return again
}

// take hands over what a page brought; full is true when it did not all fit.
// s.mu is held.
func (s *Session) take(page journal.Page) (full bool) {
	d := &s.deliver
	for _, e := range page.Entries {
		if e.Seq <= d.next {
			continue
		}
		for len(d.skip) > 0 && d.skip[0] < e.Seq {
			d.skip = d.skip[1:]
		}
		if len(d.skip) > 0 && d.skip[0] == e.Seq {
			d.window.pass(e.Seq)
		} else if e.Refused == nil {
			m := messageOf(e)
			if how, ok := s.match(m, nil); ok && !s.put(m, how) {
				return true
			}
		}
		d.next = e.Seq
	}
	d.next = max(d.next, page.Through)
	return false
}

// pumpFailed ends a session whose place is gone; anything else is the journal's
// trouble, and the connection ends so that the client comes back.
func (s *Session) pumpFailed(ctx context.Context, err error) {
	s.mu.Lock()
	s.deliver.queued = false
	lost := errors.Is(err, journal.ErrTruncated)
	s.lost = s.lost || lost
	closed := s.closed
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil || closed:
	case lost:
		s.b.Log.WarnContext(ctx, "session was away longer than the journal is kept", "device", s.mount.Client)
		s.link.Close(SessionLost)
	default:
		s.b.Log.ErrorContext(ctx, "journal cannot be read", "device", s.mount.Client, "err", err)
		s.link.Close(Unavailable)
	}
}
