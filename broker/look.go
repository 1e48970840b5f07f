package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// SessionName is how operators call a session: tenant/role/subject/client, each
// part escaped as in a URL. Clients without an account are -/anonymous/-/client.
type SessionName string

func (n SessionName) key() string { return sessionPrefix + string(n) }

// Tenant is whose session it is; "-" for a client without an account.
func (n SessionName) Tenant() chat.Tenant {
	t, _, _ := strings.Cut(string(n), "/")
	return chat.Tenant(t)
}

// SessionState is what operators see of a session. It says nothing of what was said.
type SessionState struct {
	Session SessionName `json:"session"`
	Client  string      `json:"client"`
	Online  bool        `json:"online"`
	// Since is when the connection began, or when the last one ended; the zero time
	// when that is not known.
	Since time.Time `json:"since,omitzero"`
	// Expires is when the session ends if nobody comes; the zero time while it is online.
	Expires time.Time `json:"expires,omitzero"`
	// Window of Limit deliveries are not acknowledged.
	Window int `json:"window"`
	Limit  int `json:"limit,omitempty"`
	// Lag is how many entries of the journal, for whomever, are newer than all the
	// session has seen through.
	Lag           uint64   `json:"lag"`
	ExpirySeconds int64    `json:"expiry_seconds"` // how long it is kept while away
	Subscriptions []string `json:"subscriptions"`
	Peer
}

// Peer is what the transport knows of a connection.
type Peer struct {
	Protocol  string    `json:"protocol,omitempty"`  // "3.1.1" or "5"
	Transport string    `json:"transport,omitempty"` // "tcp", "tls" or "websocket"
	Address   string    `json:"address,omitempty"`   // the client's network, not its address
	Since     time.Time `json:"-"`
}

// A Link that tells about its peer has this method, too.
type describer interface{ Describe() Peer }

// Look returns what is known of a session; chat.ErrNotFound when there is none.
func (b *Broker) Look(ctx context.Context, name SessionName) (SessionState, error) {
	if s := b.online.get(name.key()); s != nil {
		return s.look(name), nil
	}
	m, ok := mountOf(name.key())
	if !ok {
		return SessionState{}, fmt.Errorf("session %s: %w", name, chat.ErrNotFound)
	}
	raw, ok, err := b.j.Record(ctx, name.key())
	switch {
	case err != nil:
		return SessionState{}, fault(err)
	case !ok:
		return SessionState{}, fmt.Errorf("session %s: %w", name, chat.ErrNotFound)
	}
	return b.lookAway(name, m, raw), nil
}

// errEnough ends a walk over records.
var errEnough = errors.New("enough")

// List returns up to limit sessions, by name, of those whose name begins with
// prefix and comes after `after`; more tells that there are others. With away,
// sessions that nobody is connected to are among them.
func (b *Broker) List(ctx context.Context, prefix string, after SessionName, limit int, away bool) (list []SessionState, more bool, err error) {
	found := map[SessionName]SessionState{}
	if away {
		err := b.j.Records(ctx, sessionPrefix+prefix, func(raw journal.Record) error {
			name := SessionName(strings.TrimPrefix(raw.Key, sessionPrefix))
			m, ok := mountOf(raw.Key)
			if !ok || name <= after {
				return ctx.Err()
			}
			if len(found) > limit {
				return errEnough
			}
			found[name] = b.lookAway(name, m, raw)
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, false, fault(err)
		}
	}
	online := map[SessionName]*Session{}
	for _, s := range b.online.all() {
		if name := SessionName(strings.TrimPrefix(s.key, sessionPrefix)); strings.HasPrefix(string(name), prefix) && name > after {
			online[name] = s
		}
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(found)), maps.Keys(online))
	slices.Sort(names)
	names = slices.Compact(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	for _, name := range names {
		if s := online[name]; s != nil {
			list = append(list, s.look(name))
		} else {
			list = append(list, found[name])
		}
	}
	return list, more, nil
}

// look is the state of a session that is connected.
func (s *Session) look(name SessionName) SessionState {
	x := SessionState{Session: name, Client: s.mount.Client, Online: true}
	if d, ok := s.link.(describer); ok {
		x.Peer = d.Describe()
		x.Since = x.Peer.Since
	}
	tail := s.b.routed.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	x.Window, x.Limit = s.deliver.window.waiting, s.deliver.window.limit
	x.ExpirySeconds = int64(s.expiry / time.Second)
	x.Subscriptions = filtersAsked(s.subs)
	if cursor := s.cursor(); len(s.subs) > 0 && cursor < tail {
		x.Lag = tail - cursor
	}
	return x
}

// lookAway is the state of a session that nobody is connected to, here.
func (b *Broker) lookAway(name SessionName, m topics.Mount, raw journal.Record) SessionState {
	x := SessionState{Session: name, Client: m.Client}
	r, err := decodeRecord(raw.Value, m)
	if err != nil {
		return x // it cannot be read: connecting starts it anew
	}
	x.Since, x.ExpirySeconds = r.left, int64(r.expiry/time.Second)
	if !r.left.IsZero() {
		x.Expires = r.ends()
	}
	x.Subscriptions = filtersAsked(r.subs)
	if tail := b.j.Tail(); len(r.subs) > 0 && r.cursor.Epoch == tail.Epoch && r.cursor.Seq < tail.Seq {
		x.Lag = tail.Seq - r.cursor.Seq
	}
	return x
}

func filtersAsked(subs []*subscription) []string {
	list := []string{}
	for _, s := range subs {
		if s.until == 0 {
			list = append(list, s.Filter)
		}
	}
	return list
}

// Kick ends the connection of a session: the client is told so and should stay
// away until its user acts. With forget the session ends as well, as if it had
// expired; otherwise the client finds it again. It returns chat.ErrNotFound when
// there is nothing to end, and does not wait until the connection is gone.
func (b *Broker) Kick(ctx context.Context, name SessionName, forget bool) error {
	unlock, err := b.lockSession(ctx, name.key())
	if err != nil {
		return fmt.Errorf("%w: session is busy", ErrUnavailable)
	}
	defer unlock()
	if s := b.online.get(name.key()); s != nil {
		if forget {
			s.mu.Lock()
			s.expiry = 0
			s.mu.Unlock()
		}
		s.link.Close(Kicked)
		return nil
	}
	if !forget {
		return fmt.Errorf("session %s is not connected: %w", name, chat.ErrNotFound)
	}
	r, raw, err := b.stored(ctx, name.key())
	switch {
	case err != nil:
		return fault(err)
	case r == nil && raw.Version == 0:
		return fmt.Errorf("session %s: %w", name, chat.ErrNotFound)
	case r == nil || r.left.IsZero():
		return fmt.Errorf("session %s: %w: it is not known yet how its connection ended", name, chat.ErrConflict)
	}
	// The record says that its time is over, and whoever ends sessions whose time is over ends it.
	r.expiry = 0
	if _, err := b.append(ctx, &journal.Submission{Puts: []journal.Put{{Key: name.key(), Value: r.encode(), If: raw.Version}}}); err != nil {
		return err
	}
	b.expiries.at(name.key(), r.ends())
	return nil
}
