package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"holdline/broker/journal"
	"holdline/broker/token"
	"holdline/broker/topics"
	"holdline/chat"
)

// Authenticate reads a token that came as a password. The errors are
// token.ErrExpired, ErrClient, and others that wrap chat.ErrForbidden.
func (b *Broker) Authenticate(password, client string, now time.Time) (Identity, error) {
	claims, err := b.Keys.Verify(password, now)
	if err != nil {
		return Identity{}, err
	}
	if b.revoked.covers(claims.Account, claims.Issued) {
		return Identity{}, ErrRevoked
	}
	if claims.Device != "" && claims.Device != client {
		return Identity{}, ErrClient
	}
	return Identity{Mount: topics.MountFor(claims.Account, client), Name: claims.Name, Expires: claims.Expires.Add(token.Leeway)}, nil
}

// stripes is how many sessions can connect at the same moment without waiting
// for each other.
const stripes = 1024

// lockSession lets one caller at a time decide about a session.
func (b *Broker) lockSession(ctx context.Context, key string) (unlock func(), err error) {
	l := b.stripes[b.index.hash(key)%stripes]
	if err := l.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { l.Release(1) }, nil
}

func newStripes() []*semaphore.Weighted {
	l := make([]*semaphore.Weighted, stripes)
	for i := range l {
		l[i] = semaphore.NewWeighted(1)
	}
	return l
}

// Connect gives the client its session, or a new one. When it returns, the
// session is durable, nothing of an older connection is under way or will be, and nothing
// is delivered before Begin. present tells whether the session was there already.
//
// The older connection is told after this returned, in Begin: the client that
// is here now comes first.
func (b *Broker) Connect(ctx context.Context, h Hello) (s *Session, present bool, err error) {
	if b.broken.Load() || b.stopping.Load() {
		return nil, false, ErrUnavailable
	}
	// From here it goes through whether or not the client still waits: half a
	// takeover would leave nobody in charge. The journal answers or fails in its own time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	key := sessionKey(h.Mount)
	unlock, err := b.lockSession(ctx, key)
	if err != nil {
		return nil, false, fmt.Errorf("%w: session is busy", ErrUnavailable)
	}
	defer unlock()

	last, err := b.takeWill(&h)
	if err != nil {
		return nil, false, err
	}
	old := b.online.get(key)
	had, version, err := b.recall(ctx, key, h.Mount, old)
	if err != nil {
		return nil, false, err
	}
	tail := b.j.Tail()
	s = b.newSession(key, h, old, tail)
	s.will = last
	if had != nil {
		s.epoch = max(s.epoch, had.epoch+1)
		present = !h.Clean && b.resumable(ctx, had, tail)
	}
	if present {
		s.resume(had, b.crashed(had, old))
	}
	s.version = version
	var sub journal.Submission
	if now := time.Now(); had.lastWords(present, now) {
		had.will.publish(&sub, b, s.origin, now)
	}
	if err := s.register(ctx, &sub, version != 0); err != nil {
		if old != nil {
			b.online.remove(old)
			old.link.Close(Unavailable)
			b.farewells.put(old.farewell(false)) // its own end finds it gone
		}
		return nil, false, err
	}
	b.online.put(s)
	b.expiries.cancel(key)
	if old != nil {
		b.count.takeovers.Add(1)
	}
	return s, present, nil
}

// recall returns the session as it was left: by the connection that has it
// now, which is fenced, or by the last one. version is that of its record.
func (b *Broker) recall(ctx context.Context, key string, m topics.Mount, old *Session) (had *record, version uint64, err error) {
	if old != nil {
		old.fence()
		if err := old.lockRecord(ctx); err != nil { // and never unlock: the record is the next one's
			b.online.remove(old)
			old.link.Close(Unavailable)
			return nil, 0, fmt.Errorf("%w: session is busy", ErrUnavailable)
		}
		old.mu.Lock()
		defer old.mu.Unlock()
		r := old.picture()
		if !old.durable || old.lost {
			r.expiry, r.subs = 0, nil // it ends with its connection; only the count goes on
		}
		return &r, old.version, nil
	}
	raw, ok, err := b.j.Record(ctx, key)
	if err != nil {
		return nil, 0, fault(err)
	}
	if !ok {
		return nil, 0, nil
	}
	had, err = decodeRecord(raw.Value, m)
	if err != nil {
		b.Log.ErrorContext(ctx, "session is started anew", "device", m.Client, "err", err)
		return nil, raw.Version, nil
	}
	return had, raw.Version, nil
}

// resumable reports whether a session can go on: it has not expired, and the
// journal still has all that comes after its cursor.
func (b *Broker) resumable(ctx context.Context, r *record, tail journal.Cursor) bool {
	switch {
	case r.expiry == 0, r.cursor.Epoch != tail.Epoch, r.cursor.Seq > tail.Seq:
		return false
	case !r.left.IsZero() && time.Now().After(r.ends()):
		return false
	}
	_, err := b.j.Read(ctx, filtersOf(r.subs), r.cursor.Seq, 1)
	return !errors.Is(err, journal.ErrTruncated)
}

// presume fills in what a crash left unknown: what was sent after the last
// checkpoint. It was at most a window full of what the journal had by then.
func (b *Broker) presume(r *record, l Limits) {
	r.presumed, r.maybe = b.started, l.Window
}

// crashed reports whether the connection that had the session ended without
// writing down how far it got.
func (b *Broker) crashed(r *record, old *Session) bool { return old == nil && r.left.IsZero() }

func (b *Broker) newSession(key string, h Hello, old *Session, tail journal.Cursor) *Session {
	limits := LimitsOf(h.Mount.Account.Role)
	s := &Session{
		b: b, key: key, mount: h.Mount, name: h.Name, limits: limits, strict: h.Strict, link: h.Link, replaced: old,
		// Greater than any before: each connection of an account appends its presence.
		epoch: tail.Seq + 1, began: tail.Seq, life: tail.Epoch,
		in:      inbound{freed: make(chan struct{}, 1)},
		rec:     make(chan struct{}, 1),
		gone:    make(chan struct{}),
		expiry:  min(h.Expiry, b.Retention).Truncate(time.Second),
		durable: h.Expiry >= time.Second || h.Will != nil,
	}
	s.origin = originOf(h.Mount, key)
	s.deliver.next = tail.Seq
	s.deliver.window.limit = limits.Window
	if h.Window > 0 {
		s.deliver.window.limit = min(h.Window, limits.Window)
	}
	return s
}

// resume goes on from a record.
func (s *Session) resume(r *record, crashed bool) {
	d := &s.deliver
	if crashed {
		s.b.presume(r, s.limits)
	}
	d.next, d.sent, d.before, d.skip = r.cursor.Seq, r.sent, r.sent, r.ahead
	d.presumed, d.maybe = r.presumed, r.maybe
	d.owed = r.owed.again()
	d.window.releasing, d.window.beside = r.releasing, len(r.releasing)
	for _, id := range r.received {
		if s.received == nil {
			s.received = map[uint16]received{}
		}
		s.received[id] = received{}
	}
	s.setSubs(slices.DeleteFunc(r.subs, func(x *subscription) bool { return x.until != 0 && x.until <= r.cursor.Seq }))
}

// register makes the session durable and tells that it is up. sub has what else
// belongs to that moment.
func (s *Session) register(ctx context.Context, sub *journal.Submission, recorded bool) error {
	sub.Entries = append(sub.Entries, s.presence(chat.Presence{Up: true, Epoch: s.epoch, Node: s.b.Node, Name: s.name})...)
	switch {
	case s.durable:
		r := s.picture()
		sub.Puts = append(sub.Puts, journal.Put{Key: s.key, Value: r.encode(), If: s.version})
	case recorded:
		sub.Puts = append(sub.Puts, journal.Put{Key: s.key, If: s.version})
	case len(sub.Entries) == 0:
		return nil
	}
	result, err := s.b.append(ctx, sub)
	if err != nil {
		return err
	}
	if s.durable {
		s.version = result.Version
		s.written.Store(time.Now().UnixNano())
	} else {
		s.version = 0
	}
	return nil
}

// presence is the journal input that tells of the session; nothing for a client
// without an account.
func (s *Session) presence(p chat.Presence) []journal.Entry {
	a, ok := s.account()
	if !ok {
		return nil
	}
	payload, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("broker: presence does not marshal: %v", err)) // strings and numbers only: cannot happen
	}
	return []journal.Entry{{Topic: topics.Presence(a, s.mount.Client), Payload: payload, Partition: a.Slot().Partition()}}
}

// Begin starts delivery; the answer to CONNECT is on its way. Only now the
// connection that had the session is closed.
func (s *Session) Begin() {
	s.resend()
	s.mu.Lock()
	if !s.closed { // it may be another's by now
		s.begin()
	}
	queue := s.wantsPump()
	old := s.replaced
	s.replaced = nil
	s.mu.Unlock()
	if queue {
		s.b.pumps.add(s)
	}
	if old != nil {
		old.link.Close(TakenOver)
	}
	if s.b.stopping.Load() || s.b.broken.Load() {
		s.link.Close(ShuttingDown) // it came after the others were told
	}
}

// begin is Begin with s.mu held.
func (s *Session) begin() {
	d := &s.deliver
	s.begun, d.live = true, true
	for _, sub := range s.subs {
		s.index(sub)
	}
	now := s.b.routing.Load()
	if len(s.subs) == 0 {
		d.next = max(d.next, now) // there is nothing to look for
	}
	if d.next < now || d.owed.due() {
		s.fallBehind(d.next)
	}
}
