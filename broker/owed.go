package broker

import (
	"context"
	"encoding/binary"
	"slices"
	"time"
)

// owed is what a session is still to be sent outside its cursor: the retained
// messages under filters it has subscribed to. They come before what is new.
//
// It holds no messages and no list of topics, only how far the session got through
// those there are, and what is in flight. Packet ids are given out before the record is
// written, and nothing is sent before it is: after any crash a message has its id.
type owed struct {
	scans []scan
	items []item // in the order they are sent
	last  uint16 // the newest packet id given out
}

// scan is a walk through what is retained under one full filter of a
// subscription, by topic.
type scan struct {
	filter  string // as the client wrote it
	nth     int    // which of its full filters
	through uint64 // where it was subscribed: what is newer comes by the cursor
	after   string // the topic it came to
}

// item is one message that has its packet id.
type item struct {
	id      uint16
	qos     byte
	filter  string
	topic   string
	through uint64
	sent    bool // by this connection
	dup     bool // perhaps by an earlier one
}

// scansOf a new subscription.
func scansOf(sub *subscription, through uint64) []scan {
	scans := make([]scan, len(sub.full))
	for i := range scans {
		scans[i] = scan{filter: sub.Filter, nth: i, through: through}
	}
	return scans
}

func (o *owed) empty() bool { return len(o.scans) == 0 && len(o.items) == 0 && o.last == 0 }

// due reports whether there is something to send.
func (o *owed) due() bool {
	return len(o.scans) > 0 || slices.ContainsFunc(o.items, func(i item) bool { return !i.sent })
}

// picture is a copy for the record.
func (o *owed) picture() owed {
	return owed{slices.Clone(o.scans), slices.Clone(o.items), o.last}
}

// again is what a new connection has to do with what the one before left.
func (o *owed) again() owed {
	for i := range o.items {
		o.items[i].sent, o.items[i].dup = false, true
	}
	return *o
}

// rescan begins the scans of filters that were subscribed, and ends those of
// filters that are no longer. What is in flight is seen through [MQTT-3.10.4-3].
func (o *owed) rescan(subs []*subscription, scans []scan) {
	o.scans = slices.DeleteFunc(o.scans, func(x scan) bool {
		return held(subs, x.filter) < 0 || slices.ContainsFunc(scans, func(y scan) bool { return x.filter == y.filter })
	})
	o.scans = append(o.scans, scans...)
}

// nextID is an id that is not in flight. There are more ids than any window is wide.
func (d *delivery) nextID() uint16 {
	o := &d.owed
	for {
		if o.last++; o.last <= idRange {
			o.last = idRange + 1
		}
		if !slices.ContainsFunc(o.items, func(i item) bool { return i.id == o.last }) && !slices.Contains(d.window.releasing, o.last) {
			return o.last
		}
	}
}

// settleOwed ends a delivery outside the cursor.
func (d *delivery) settleOwed(id uint16, twice bool) bool {
	i := slices.IndexFunc(d.owed.items, func(i item) bool { return i.id == id && i.sent && (i.qos == 2) == twice })
	if i < 0 {
		return false
	}
	d.owed.items = slices.Delete(d.owed.items, i, i+1)
	d.window.beside--
	return true
}

// pumpOwed brings a session further through what it is owed; it reports whether
// to go on.
func (s *Session) pumpOwed(ctx context.Context) (again bool) {
	s.mu.Lock()
	d := &s.deliver
	given, full := s.giveOut(time.Now())
	durable := s.durable
	s.mu.Unlock()
	if given && durable {
		if err := s.saveNow(ctx); err != nil {
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
	full = s.sendOwed(time.Now()) || full
	again = !full && s.room() > 0
	d.queued = again
	wake := d.head < len(d.pending) && !d.woken
	d.woken = d.woken || wake
	s.mu.Unlock()
	if wake {
		s.link.Wake()
	}
	return again
}

// giveOut takes what comes next in the scans: messages of QoS 0 are handed
// over, the others get their ids. given tells whether there were any of those,
// full that there was no room in memory. s.mu is held, so that nothing newer on the same topic is
// handed over in between.
func (s *Session) giveOut(now time.Time) (given, full bool) {
	d := &s.deliver
	o := &d.owed
	if s.closed || slices.ContainsFunc(o.items, func(i item) bool { return !i.sent }) {
		return false, false
	}
	for left := s.room(); left > 0 && len(o.scans) > 0; {
		x := &o.scans[0]
		i := held(s.subs, x.filter)
		if i < 0 || x.nth >= len(s.subs[i].full) {
			o.scans = slices.Delete(o.scans, 0, 1)
			continue
		}
		sub := s.subs[i]
		last, more := s.b.retained.page(sub.full[x.nth], x.after, x.through, now, func(m *Message) bool {
			switch qos := min(sub.QoS, m.most); {
			case sub.NoLocal && m.origin == s.origin: // [MQTT-3.8.3-3]
			case left == 0:
				return false
			case qos > 0:
				o.items = append(o.items, item{id: d.nextID(), qos: qos, filter: x.filter, topic: m.Topic, through: x.through})
				given = true
				left--
			case !d.holds(m):
				left, full = 0, true
				return false
			default:
				d.push(Delivery{Message: m, Retain: true, Subs: identifiers(nil, sub)})
			}
			return true
		})
		if x.after = last; !more {
			o.scans = slices.Delete(o.scans, 0, 1)
		} else if left > 0 {
			break // others have their turn
		}
	}
	return given, full
}

// sendOwed hands over what has an id and was not sent; full is true when it did
// not all fit. s.mu is held.
func (s *Session) sendOwed(now time.Time) (full bool) {
	d := &s.deliver
	o := &d.owed
	for i := 0; i < len(o.items); {
		x := &o.items[i]
		if x.sent {
			i++
			continue
		}
		m, ok := s.b.retained.get(x.topic, x.through, now)
		if !ok { // it has expired, or was replaced by what comes by the cursor
			o.items = slices.Delete(o.items, i, i+1)
			continue
		}
		if s.room() == 0 || !d.holds(m) {
			return true
		}
		out := Delivery{Message: m, ID: x.id, QoS: x.qos, Dup: x.dup, Retain: true}
		if at := held(s.subs, x.filter); at >= 0 {
			out.Subs = identifiers(nil, s.subs[at])
		}
		x.sent = true
		d.window.beside++
		d.push(out)
		i++
	}
	return false
}

// saveNow writes the record as it stands and returns when that is durable. It
// does nothing when the session ends meanwhile: whoever ended it writes it.
func (s *Session) saveNow(ctx context.Context) error {
	select {
	case s.rec <- struct{}{}:
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	r := s.picture()
	closed := s.closed
	s.dirty, s.unsaved = s.dirty && closed, 0
	s.mu.Unlock()
	if closed {
		s.unlockRecord()
		return nil
	}
	return s.writeRecord(ctx, &r)
}

func (o *owed) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(o.last))
	b = binary.AppendUvarint(b, uint64(len(o.scans)))
	for _, x := range o.scans {
		b = appendString(b, x.filter)
		b = binary.AppendUvarint(b, uint64(x.nth))
		b = binary.AppendUvarint(b, x.through)
		b = appendString(b, x.after)
	}
	b = binary.AppendUvarint(b, uint64(len(o.items)))
	for _, x := range o.items {
		b = binary.AppendUvarint(b, uint64(x.id))
		b = append(b, x.qos)
		b = appendString(b, x.filter)
		b = appendString(b, x.topic)
		b = binary.AppendUvarint(b, x.through)
	}
	return b
}

func readOwed(in *reader) (o owed) {
	o.last = uint16(in.number())
	for n := in.number(); n > 0 && !in.bad; n-- {
		x := scan{filter: in.string(), nth: int(min(in.number(), 1<<8)), through: in.number(), after: in.string()}
		o.scans = append(o.scans, x)
	}
	for n := in.number(); n > 0 && !in.bad; n-- {
		x := item{id: uint16(in.number()), qos: in.byte(), filter: in.string(), topic: in.string(), through: in.number()}
		o.items = append(o.items, x)
	}
	return o
}
