package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// sessionPrefix is where the records of sessions are.
const sessionPrefix = "session/"

// SessionPrefix is the beginning of the record keys of all sessions of an
// account: what erasing the account erases too.
func SessionPrefix(a chat.Account) string {
	return sessionPrefix + url.PathEscape(string(a.Tenant)) + "/" + string(a.Role) + "/" + url.PathEscape(a.Subject) + "/"
}

// sessionKey names a session: by account and client id, so that two customers
// may both call their phone phone-1.
func sessionKey(m topics.Mount) string {
	if m.Account == (chat.Account{}) {
		return sessionPrefix + "-/anonymous/-/" + url.PathEscape(m.Client)
	}
	return SessionPrefix(m.Account) + url.PathEscape(m.Client)
}

// Subscription is a topic filter of a client and how it wants to be served.
type Subscription struct {
	Filter            string // as the client wrote it
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	ID                uint32 // the subscription identifier; 0 for none
}

// subscription is one that was granted. It is replaced, never changed.
type subscription struct {
	Subscription
	// from is the tail at the time it was made: what came before is not for it.
	from uint64
	// until ends it, for a filter that was given up while messages for it were on
	// their way: these are still seen through [MQTT-3.10.4-3]. 0 for no end.
	until uint64
	full  []string // the filters in the tree
}

// record is the part of a session that outlives connections and processes.
type record struct {
	epoch  uint64 // grows with each connection
	cursor journal.Cursor
	sent   uint64 // the newest entry that is known to have been handed to a connection
	// After a crash that is not all: at most maybe entries, none of them after
	// presumed, may have been.
	presumed uint64
	maybe    int
	ahead    []uint64
	expiry   time.Duration // how long it is kept while away
	left     time.Time     // when the last connection ended; zero while one is there
	node     string        // where that connection is, or was
	subs     []*subscription
	owed     owed
	will     *will // while it may have to be published
	// The handshakes of QoS 2 that are not over: ids of publishes that were taken and
	// not released, and of deliveries that were received and not completed.
	received, releasing []uint16
}

// ends is when the session is over if nobody comes.
func (r *record) ends() time.Time { return r.left.Add(r.expiry) }

// recordFormat is what is written. Format 1, without what comes after the
// subscriptions, is still read.
const recordFormat = 2

// The parts of a record that most sessions do not have.
const (
	partOwed = 1 << iota
	partWill
	partHandshakes
)

const (
	bitNoLocal = 1 << iota
	bitRetainAsPublished
)

func (r *record) encode() []byte {
	b := make([]byte, 0, 96)
	b = append(b, recordFormat)
	b = binary.AppendUvarint(b, r.epoch)
	b = binary.AppendUvarint(b, r.cursor.Epoch)
	b = binary.AppendUvarint(b, r.cursor.Seq)
	b = binary.AppendUvarint(b, r.sent)
	b = binary.AppendUvarint(b, r.presumed)
	b = binary.AppendUvarint(b, uint64(r.maybe))
	b = binary.AppendUvarint(b, uint64(r.expiry/time.Second))
	if r.left.IsZero() {
		b = binary.AppendUvarint(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(r.left.UnixMilli()))
	}
	b = appendString(b, r.node)
	b = binary.AppendUvarint(b, uint64(len(r.ahead)))
	last := r.cursor.Seq
	for _, seq := range r.ahead {
		b = binary.AppendUvarint(b, seq-last)
		last = seq
	}
	b = binary.AppendUvarint(b, uint64(len(r.subs)))
	for _, s := range r.subs {
		var bits byte
		if s.NoLocal {
			bits |= bitNoLocal
		}
		if s.RetainAsPublished {
			bits |= bitRetainAsPublished
		}
		b = appendString(b, s.Filter)
		b = append(b, s.QoS, bits, s.RetainHandling)
		b = binary.AppendUvarint(b, uint64(s.ID))
		b = binary.AppendUvarint(b, s.from)
		b = binary.AppendUvarint(b, s.until)
	}
	parts := uint64(0)
	if !r.owed.empty() {
		parts |= partOwed
	}
	if r.will != nil {
		parts |= partWill
	}
	if len(r.received)+len(r.releasing) > 0 {
		parts |= partHandshakes
	}
	b = binary.AppendUvarint(b, parts)
	if parts&partOwed != 0 {
		b = r.owed.append(b)
	}
	if parts&partWill != 0 {
		b = r.will.append(b)
	}
	if parts&partHandshakes != 0 {
		b = r.appendHandshakes(b)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes a record apart; after a fault it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) string() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

var errRecord = errors.New("session record cannot be read")

// decodeRecord reads what encode wrote. Filters are mounted anew, so that the
// rules are those of today; what they no longer allow is left out.
func decodeRecord(b []byte, m topics.Mount) (*record, error) {
	in := reader{b: b}
	format := in.byte()
	if format != recordFormat && format != 1 {
		return nil, fmt.Errorf("%w: format %d", errRecord, format)
	}
	r := &record{epoch: in.number(), cursor: journal.Cursor{Epoch: in.number(), Seq: in.number()}, sent: in.number()}
	r.presumed = in.number()
	r.maybe = int(min(in.number(), idRange))
	r.expiry = time.Duration(min(in.number(), 1<<32)) * time.Second
	if ms := in.number(); ms != 0 {
		r.left = time.UnixMilli(int64(min(ms, 1<<47))).UTC()
	}
	r.node = in.string()
	last := r.cursor.Seq
	for n := in.number(); n > 0 && !in.bad; n-- {
		step := in.number()
		in.bad = in.bad || last+step < last
		last += step
		r.ahead = append(r.ahead, last)
	}
	for n := in.number(); n > 0 && !in.bad; n-- {
		s := &subscription{Subscription: Subscription{Filter: in.string(), QoS: in.byte()}}
		bits := in.byte()
		s.NoLocal, s.RetainAsPublished = bits&bitNoLocal != 0, bits&bitRetainAsPublished != 0
		s.RetainHandling = in.byte()
		s.ID = uint32(in.number())
		s.from, s.until = in.number(), in.number()
		full, err := m.Subscribe(s.Filter)
		if err != nil {
			continue
		}
		s.full = full
		r.subs = append(r.subs, s)
	}
	if format > 1 {
		r.parts(&in)
	}
	if in.bad {
		return nil, errRecord
	}
	return r, nil
}

// parts reads what only some sessions have.
func (r *record) parts(in *reader) {
	parts := in.number()
	if parts&partOwed != 0 {
		r.owed = readOwed(in)
	}
	if parts&partWill != 0 {
		r.will = readWill(in)
	}
	if parts&partHandshakes != 0 {
		r.readHandshakes(in)
	}
}

// mountOf reads the key of a session record.
func mountOf(key string) (m topics.Mount, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, sessionPrefix), "/")
	if len(parts) != 4 {
		return m, false
	}
	for i := range parts {
		p, err := url.PathUnescape(parts[i])
		if err != nil {
			return m, false
		}
		parts[i] = p
	}
	if parts[1] == "anonymous" {
		return topics.Mount{Client: parts[3]}, true
	}
	a := chat.Account{Tenant: chat.Tenant(parts[0]), Role: chat.Role(parts[1]), Subject: parts[2]}
	return topics.MountFor(a, parts[3]), a.Validate() == nil
}
