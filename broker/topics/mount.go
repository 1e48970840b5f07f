package topics

import (
	"fmt"
	"strings"

	"holdline/chat"
)

// Mount puts one session's short names into the full tree and back. The zero
// Mount is that of a client without an account (development only): names
// stay as they are and everything under a first level that starts with '$' is refused.
type Mount struct {
	Account chat.Account
	Client  string
	// Tree marks a service: it sees the full tree, under its own rules.
	Tree bool
}

// MountFor is the mount of an authenticated session.
func MountFor(a chat.Account, client string) Mount {
	return Mount{Account: a, Client: client, Tree: a.Role == chat.Service}
}

func (m Mount) anonymous() bool { return m.Account == chat.Account{} }

// Publish maps the topic of a PUBLISH to its full name. t is the row of the
// contract it stands for; nil for topics outside our tree. The error wraps
// chat.ErrForbidden and says what may be published instead.
func (m Mount) Publish(name string) (full string, t *Topic, err error) {
	if m.anonymous() || m.Tree {
		if !strings.HasPrefix(name, "$") {
			return name, nil, nil
		}
		if m.Tree {
			if s, ok := Parse(name); ok && s.Account.Tenant == m.Account.Tenant && s.Account.Role == chat.Device && s.Topic == DeviceCommand.Name {
				return name, nil, nil
			}
		}
		return "", nil, fmt.Errorf("%w: topic %q is not yours to publish to", chat.ErrForbidden, name)
	}
	for i := range Table {
		t := &Table[i]
		if t.Role == m.Account.Role && t.Dir == Up && t.Name == name {
			return join(account(m.Account), name), t, nil
		}
	}
	return "", nil, fmt.Errorf("%w: topic %q is not one a %s may publish to; these are: %s",
		chat.ErrForbidden, name, m.Account.Role, names(m.Account.Role, Up))
}

// Subscribe maps a topic filter to the full filters it stands for. Accounts
// may subscribe to "down/#", and to each topic of their table; a queue's level
// may be "+". Other wildcards are refused with chat.ErrForbidden.
func (m Mount) Subscribe(filter string) (full []string, err error) {
	switch {
	case m.anonymous():
		if !strings.HasPrefix(filter, "$") {
			return []string{filter}, nil
		}
	case m.Tree:
		own := join(Root, escape(string(m.Account.Tenant))) + "/"
		if !strings.HasPrefix(filter, "$") || strings.HasPrefix(filter, own) {
			return []string{filter}, nil
		}
	case filter == "down/#":
		return []string{join(account(m.Account), "down/#"), join(account(m.Account), "session", escape(m.Client), "down/#")}, nil
	default:
		for _, t := range Table {
			if t.Role != m.Account.Role || t.Dir != Down || !matchesRow(t.Name, filter) {
				continue
			}
			switch {
			case t.Session:
				return []string{join(account(m.Account), "session", escape(m.Client), filter)}, nil
			case t.Shared:
				return []string{join(Root, escape(string(m.Account.Tenant)), filter)}, nil
			}
			return []string{join(account(m.Account), filter)}, nil
		}
	}
	if m.anonymous() || m.Tree {
		return nil, fmt.Errorf("%w: filter %q reaches into a tree that is not yours", chat.ErrForbidden, filter)
	}
	return nil, fmt.Errorf("%w: filter %q is not one a %s may subscribe to; these are: down/#, %s",
		chat.ErrForbidden, filter, m.Account.Role, names(m.Account.Role, Down))
}

// Deliver maps a full topic back to the name the client knows.
func (m Mount) Deliver(full string) string {
	if m.anonymous() || m.Tree {
		return full
	}
	own := account(m.Account) + "/"
	if rest, ok := strings.CutPrefix(full, own); ok {
		if s, ok := strings.CutPrefix(rest, "session/"); ok {
			if _, name, ok := strings.Cut(s, "/"); ok {
				return name
			}
		}
		return rest
	}
	return strings.TrimPrefix(full, join(Root, escape(string(m.Account.Tenant)))+"/")
}

// matchesRow reports whether filter is the row's name, with a level in braces
// standing for any one level, "+" included.
func matchesRow(name, filter string) bool {
	n, f := strings.Split(name, "/"), strings.Split(filter, "/")
	if len(n) != len(f) {
		return false
	}
	for i := range n {
		if strings.HasPrefix(n[i], "{") {
			if f[i] == "" || f[i] == "#" {
				return false
			}
		} else if n[i] != f[i] {
			return false
		}
	}
	return true
}

func names(r chat.Role, d Direction) string {
	var s []string
	for _, t := range Table {
		if t.Role == r && t.Dir == d {
			s = append(s, t.Name)
		}
	}
	return strings.Join(s, ", ")
}
