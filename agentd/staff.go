package agentd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
	"holdline/storage"
)

// MaxCapacity bounds how many conversations an agent can be set to hold.
const MaxCapacity = 100

// Staff are the agents of one tenant, for those who administer them: the
// commands of the program and the HTTP API. Every change is in the audit trail
// under By. It may be used from any goroutine.
type Staff struct {
	Store storage.Store
	// Journal is where the parts are woken; nil in a command that runs beside them,
	// whose changes they find when they look by themselves.
	Journal journal.Journal
	Tenant  chat.Tenant
	By      string           // who changes, for the audit trail: "cli", an agent's id
	Now     func() time.Time // default time.Now
}

// Hire is what makes an agent.
type Hire struct {
	ID       string // the sign-in name, case-sensitive
	Name     string // as customers see it; default the id
	Password string
	Capacity int // default chat.DefaultCapacity
}

// Add creates an agent who is available as soon as a desk is connected. The
// error names everything that is wrong with h (chat.ErrInvalid), or is
// chat.ErrConflict when the id is taken.
func (s Staff) Add(ctx context.Context, h Hire) error {
	if h.Name == "" {
		h.Name = h.ID
	}
	if h.Capacity == 0 {
		h.Capacity = chat.DefaultCapacity
	}
	a := chat.Agent{Tenant: s.tenant(), ID: h.ID, Name: h.Name, Intent: chat.Available, Capacity: h.Capacity}
	if err := a.Account().Validate(); err != nil {
		return err
	}
	if strings.TrimSpace(h.ID) != h.ID {
		return fmt.Errorf("%w: id begins or ends with a space", chat.ErrInvalid)
	}
	if err := (chat.Account{Tenant: a.Tenant, Role: chat.AgentRole, Subject: h.Name}).Validate(); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if h.Capacity < 1 || h.Capacity > MaxCapacity {
		return fmt.Errorf("%w: capacity %d is not 1 to %d", chat.ErrInvalid, h.Capacity, MaxCapacity)
	}
	if err := CheckPassword(h.Password); err != nil {
		return err
	}
	cred := storage.Credential{Agent: a, PasswordHash: HashPassword(h.Password)}
	if err := s.Store.PutAgent(ctx, cred, true, s.audit("agent add", h.ID, fmt.Sprintf("capacity=%d", h.Capacity))); err != nil {
		return fmt.Errorf("add agent %s: %w", h.ID, err)
	}
	return nil
}

// List returns every agent, disabled ones included, ordered by id.
func (s Staff) List(ctx context.Context) ([]chat.Agent, error) {
	return s.Store.Agents(ctx, s.tenant())
}

// SetPassword changes an agent's password. Whoever is signed in with the old
// one has to sign in again.
func (s Staff) SetPassword(ctx context.Context, id, password string) error {
	if err := CheckPassword(password); err != nil {
		return err
	}
	return s.change(ctx, id, "agent password", func(c *storage.Credential) { c.PasswordHash = HashPassword(password) })
}

// Disable shuts an agent out: signing in is refused, cookies end at once,
// and what the agent holds goes back to the queue before Disable returns. (A
// token for MQTT lives until it expires; what is said with it is refused, because the
// conversations have another owner epoch.)
func (s Staff) Disable(ctx context.Context, id string) error {
	if err := s.change(ctx, id, "agent disable", func(c *storage.Credential) { c.Agent.Disabled = true }); err != nil {
		return err
	}
	for {
		n, more, err := giveBackSome(ctx, s.Store, s.key(id), s.By, 0, s.now())
		if err != nil {
			return fmt.Errorf("give back what %s holds: %w", id, err)
		}
		if !more || n == 0 {
			break
		}
	}
	s.wake(ctx, "bridge", Part)
	return nil
}

// Enable takes a disabled agent back, with the intent as it was.
func (s Staff) Enable(ctx context.Context, id string) error {
	if err := s.change(ctx, id, "agent enable", func(c *storage.Credential) { c.Agent.Disabled = false }); err != nil {
		return err
	}
	s.wake(ctx, Part)
	return nil
}

// SetIntent stores what an agent wants, and returns the agent as it is now.
func (s Staff) SetIntent(ctx context.Context, id string, want chat.Intent) (chat.Agent, error) {
	if !want.Valid() {
		return chat.Agent{}, fmt.Errorf("%w: intent %q is not available, busy or away", chat.ErrInvalid, string(want))
	}
	var now chat.Agent
	err := s.Store.Transact(ctx, storage.Scope{Agents: []storage.AgentKey{s.key(id)}}, func(u *storage.Unit) error {
		a, err := u.Agent(s.key(id))
		if err != nil {
			return err
		}
		if a.Intent != want {
			u.Audit(s.audit("agent intent", id, string(a.Intent)+" to "+string(want)))
			a.Intent = want
			u.Update(a)
		}
		now = *a
		return nil
	})
	if err != nil {
		return chat.Agent{}, fmt.Errorf("intent of %s: %w", id, err)
	}
	s.wake(ctx, Part)
	return now, nil
}

func (s Staff) change(ctx context.Context, id, action string, edit func(*storage.Credential)) error {
	c, err := s.Store.Credential(ctx, s.key(id))
	if err != nil {
		return fmt.Errorf("%s %s: %w", action, id, err)
	}
	c.PasswordHash = "" // keeps the one that is stored, whatever it is by now
	edit(&c)
	if err := s.Store.PutAgent(ctx, c, false, s.audit(action, id, "")); err != nil {
		return fmt.Errorf("%s %s: %w", action, id, err)
	}
	return nil
}

func (s Staff) wake(ctx context.Context, parts ...string) {
	if s.Journal == nil {
		return
	}
	for _, p := range parts {
		wakeUp(ctx, s.Journal, p)
	}
}

func (s Staff) tenant() chat.Tenant {
	if s.Tenant == "" {
		return chat.DefaultTenant
	}
	return s.Tenant
}

func (s Staff) key(id string) storage.AgentKey { return storage.AgentKey{Tenant: s.tenant(), ID: id} }

func (s Staff) now() time.Time {
	if s.Now == nil {
		return time.Now().UTC()
	}
	return s.Now().UTC()
}

func (s Staff) audit(action, id, detail string) storage.Audit {
	return storage.Audit{Tenant: s.tenant(), At: s.now(), Actor: s.By, Action: action, Object: "agent/" + id, Detail: detail}
}
