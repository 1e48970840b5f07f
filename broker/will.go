package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// Will is what is published for a client whose connection ends without a goodbye.
type Will struct {
	Publish // without ID
	// Delay is how long the client may be away before; the end of the session cuts it short.
	Delay time.Duration
}

// ErrWill wraps what is wrong with a will; the connection is refused.
var ErrWill = errors.New("the will cannot be taken")

// will is one that was taken. It is in the session's record until the moment it
// is published: the entry and the record without it share a submission.
type will struct {
	topic      string // full
	partition  int
	properties []byte // with mark
	payload    []byte
	expiry     time.Duration
	delay      time.Duration
}

// takeWill checks a will as any publish of the client is checked.
func (b *Broker) takeWill(h *Hello) (*will, error) {
	if h.Will == nil {
		return nil, nil
	}
	p := &h.Will.Publish
	e := journal.Entry{Partition: journal.NoPartition}
	s := &Session{b: b, mount: h.Mount, limits: LimitsOf(h.Mount.Account.Role)}
	if _, err := s.admit(p, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWill, err)
	}
	w := &will{topic: e.Topic, partition: e.Partition, payload: p.Payload, properties: p.Properties, expiry: p.Expiry, delay: h.Will.Delay}
	if mark := markOf(p); mark != 0 {
		w.properties = append([]byte{marked | mark}, p.Properties...)
	}
	return w, nil
}

// publish adds the will to a submission that also takes it out of its record. A
// will for whose retaining there is no room is published like any other.
func (w *will) publish(sub *journal.Submission, b *Broker, origin string, now time.Time) {
	e := journal.Entry{Topic: w.topic, Partition: w.partition, Client: origin, Payload: w.payload, Properties: w.properties}
	if w.expiry > 0 {
		e.Expires = now.UTC().Add(w.expiry)
	}
	if isRetained(e.Properties) {
		if b.retained.fits(e.Topic, len(e.Payload)) {
			sub.Puts = append(sub.Puts, retainedPut(&e))
		} else {
			e.Properties = slices.Clone(e.Properties)
			e.Properties[0] &^= markRetain
		}
	}
	sub.Entries = append(sub.Entries, e)
}

// originOf is how entries name a session. Accounts are known to the bridge by
// client id. Those who share a tree are told apart by the whole key, which no client id can be.
func originOf(m topics.Mount, key string) string {
	if m.Tree || m.Account == (chat.Account{}) {
		return key
	}
	return m.Client
}

// willDue is when the will of a session that is away is to be published.
func (r *record) willDue() time.Time { return r.left.Add(min(r.will.delay, r.expiry)) }

// next is when something is to be done about a session if nobody comes.
func (r *record) next() time.Time {
	if r.will != nil {
		return r.willDue()
	}
	return r.ends()
}

// lastWords reports whether the will of the connection before is to be
// published when another connects; present tells that it resumes the session.
func (r *record) lastWords(present bool, now time.Time) bool {
	switch {
	case r == nil || r.will == nil:
		return false
	case !present: // the session ends
		return true
	case r.left.IsZero(): // its connection ends here, and the delay with it
		return r.will.delay == 0
	}
	return !now.Before(r.willDue()) // otherwise it came back in time [MQTT-3.1.3-9]
}

func (w *will) append(b []byte) []byte {
	b = appendString(b, w.topic)
	b = binary.AppendUvarint(b, uint64(w.partition+1))
	b = appendString(b, string(w.properties))
	b = appendString(b, string(w.payload))
	b = binary.AppendUvarint(b, uint64(w.expiry))
	return binary.AppendUvarint(b, uint64(w.delay))
}

func readWill(in *reader) *will {
	w := &will{topic: in.string()}
	partition := in.number()
	in.bad = in.bad || partition > chat.Partitions
	w.partition = int(partition) - 1
	w.properties, w.payload = []byte(in.string()), []byte(in.string())
	w.expiry, w.delay = time.Duration(min(in.number(), 1<<62)), time.Duration(min(in.number(), 1<<62))
	return w
}
