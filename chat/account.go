package chat

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Tenant separates the data of independent operators. Every key, token and row carries one.
type Tenant string

// DefaultTenant is the tenant of tokens that name none.
const DefaultTenant Tenant = "main"

// Role says what kind of party an account is. It decides the mount point and the access rules.
type Role string

// The four roles of a token, and of an account.
const (
	Customer  Role = "customer"
	AgentRole Role = "agent"
	Device    Role = "device"
	Service   Role = "service"
)

// Valid reports whether r is one of the four roles.
func (r Role) Valid() bool {
	switch r {
	case Customer, AgentRole, Device, Service:
		return true
	}
	return false
}

// MaxSubjectBytes bounds a subject: the host application's own id of a user or device.
const MaxSubjectBytes = 128

// Account is one party: a customer, an agent, a field device or a service.
// It is comparable and may be a map key.
type Account struct {
	Tenant  Tenant
	Role    Role
	Subject string
}

// String is "tenant/role/subject", for logs and stable sorting.
func (a Account) String() string {
	return string(a.Tenant) + "/" + string(a.Role) + "/" + a.Subject
}

// Validate returns ErrInvalid naming the faulty part.
func (a Account) Validate() error {
	if err := validName("tenant", string(a.Tenant)); err != nil {
		return err
	}
	if !a.Role.Valid() {
		return fmt.Errorf("%w: role %q is not customer, agent, device or service", ErrInvalid, string(a.Role))
	}
	return validName("subject", a.Subject)
}

func validName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", ErrInvalid, what)
	case len(s) > MaxSubjectBytes:
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, what, MaxSubjectBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, what)
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fmt.Errorf("%w: %s contains a control character", ErrInvalid, what)
	}
	return nil
}

// Slot is the coarse address, of 256, that keeps everything about one account
// in one order. A conversation lives in its customer's slot.
type Slot uint8

// Partitions is the number of ordered input streams the slots are dealt to.
const Partitions = 16

// Partition is the ordered input stream that serves the slot.
func (s Slot) Partition() int { return int(s) * Partitions / 256 }

// Slot of an account never changes: it is the first byte of a SHA-256 of its name.
func (a Account) Slot() Slot { return slotOf(a.String()) }

func slotOf(s string) Slot {
	sum := sha256.Sum256([]byte(s))
	return Slot(sum[0])
}

// Inbox is where numbered events are delivered: an account's, or a queue's
// (which every agent of the queue reads). It is comparable.
type Inbox struct {
	Tenant Tenant
	Kind   string // a Role, or "queue"
	Name   string // the subject, or the queue id
}

// QueueKind is the Kind of a queue's inbox.
const QueueKind = "queue"

// Inbox is where the account's own events arrive.
func (a Account) Inbox() Inbox { return Inbox{a.Tenant, string(a.Role), a.Subject} }

// String is "tenant/kind/name". For an account it equals Account.String.
func (i Inbox) String() string { return string(i.Tenant) + "/" + i.Kind + "/" + i.Name }

// Slot of an account's inbox is the account's.
func (i Inbox) Slot() Slot { return slotOf(i.String()) }

// ParseInbox reads what Inbox.String wrote.
func ParseInbox(s string) (Inbox, error) {
	p := strings.SplitN(s, "/", 3)
	if len(p) != 3 || p[0] == "" || p[1] == "" || p[2] == "" {
		return Inbox{}, fmt.Errorf("%w: inbox %q", ErrInvalid, s)
	}
	return Inbox{Tenant(p[0]), p[1], p[2]}, nil
}
