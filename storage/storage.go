// Package storage is the contract of what is remembered: conversations and
// their messages, the events every inbox is owed, agents, sessions, jobs,
// leases, and how far each partition of the journal has been taken in.
//
// One transaction is a Unit. The caller says what it needs (a Scope), the
// engine locks and loads exactly that in one fixed order, a plain function
// decides in memory with the rules of package chat, and the engine writes the
// difference. Nothing is visible before the commit, and the position in the
// journal moves in the same commit, so reading an entry twice changes nothing.
//
// Engines are storage/sqlite and storage/postgres; storage/memory is the fake. All
// three pass storagetest. Storage decides nothing about support; it returns
// the errors of chat and ErrFenced, never its driver's own.
package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdline/chat"
)

var (
	// ErrFenced: a lease or position in the Scope is no longer the caller's. Nothing was
	// written; the caller must stop working under that lease.
	ErrFenced = errors.New("storage: fenced: the lease has moved on")
	// ErrPermanent: this very transaction can never succeed (a value the engine
	// cannot store); tried again it fails again. A group is bisected for it.
	ErrPermanent = errors.New("storage: cannot be stored")
)

// Lease is the right to do one job for a while, held by one process at a time.
type Lease struct {
	Name   string
	Holder string
	Epoch  uint64 // the fence: grows with each new holder
	Until  time.Time
}

// Position is how far a partition's input is stored. Journal is the epoch of
// the journal that Seq counts in; 0 when nothing was ever stored.
type Position struct {
	Journal uint64
	Seq     uint64
}

// Advance is the fence and the position in one: it moves a partition from From
// to To if the lease is still the caller's, or the whole transaction is ErrFenced.
type Advance struct {
	Partition int
	Lease     Lease
	From, To  Position
}

// Scope is what a transaction needs. The engine first moves Advance, then
// checks Leases, then locks and loads, in this order and each sorted: Accounts (made when
// missing) with their sessions, said ids, conversations (the named ones, and the
// open one of every customer in Accounts), agents. Event numbers are taken last.
type Scope struct {
	Advance         []Advance
	Leases          []Lease
	Accounts        []chat.Account
	Said            []SaidKey
	Conversations   []chat.ConversationID
	ConversationsOf chat.Tenant // the tenant of Conversations
	Agents          []AgentKey
	// Nodes adds to Accounts every account that has a session up on such a node (see Unit.On).
	Nodes []NodeKey
}

// NodeKey names the sessions of one broker node whose accounts are in one partition.
type NodeKey struct {
	Node      string
	Partition int
}

// SaidKey names something a party said or commanded, unique for ever.
type SaidKey struct {
	Account chat.Account
	ID      chat.MessageID
}

// Said is what became of it the first time.
type Said struct {
	Hash         [32]byte
	Conversation chat.ConversationID
	Seq          uint64    // 0 for commands
	At           time.Time // when, as engines keep it (see Millis)
}

// AgentKey names an agent.
type AgentKey struct {
	Tenant chat.Tenant
	ID     string
}

// Session is one MQTT session of an account, as the journal's presence entries tell.
type Session struct {
	Account chat.Account
	Client  string
	Node    string
	Epoch   uint64 // the session epoch; see Unit.PutSession for what an older one changes
	Up      bool
	Changed time.Time
}

// Event is something an inbox is owed: number N, rendered, not yet carrying its id.
type Event struct {
	Inbox chat.Inbox
	N     uint64
	Body  []byte
	At    time.Time
}

// Job is work for later: a timer, a retry, a push. ID is chosen so that the
// same cause makes the same job, and the job can be cancelled by it.
type Job struct {
	ID      string
	Kind    string
	At      time.Time // not before
	Attempt int       // how often it was claimed since it was scheduled
	Payload []byte
	// Claim tells this claim from every other one of the same id. DueJobs sets
	// it, FinishJob and RetryJob compare it.
	Claim uint64
}

// Audit is one line of who did what. Detail must not hold what people said.
type Audit struct {
	Tenant chat.Tenant
	At     time.Time
	Actor  string
	Action string
	Object string
	Detail string
}

// ConversationQuery chooses heads of conversations. Zero fields do not restrict.
type ConversationQuery struct {
	Tenant   chat.Tenant
	States   []chat.State
	Queue    chat.QueueID
	Holder   string
	Customer string // subject
	// After continues a listing: heads ordered after (Since, ID).
	AfterSince time.Time
	AfterID    chat.ConversationID
	Limit      int // 1 to 500
}

// Configuration is a numbered revision of the operators' settings (queues, hours, rules).
type Configuration struct {
	Revision uint64
	At       time.Time
	Actor    string
	Body     []byte // JSON
}

// ConfigureAudit is the line that Configure adds to the audit trail.
func ConfigureAudit(t chat.Tenant, c Configuration) Audit {
	return Audit{Tenant: t, At: c.At, Actor: c.Actor, Action: "configure", Object: "configuration", Detail: fmt.Sprintf("revision %d", c.Revision)}
}

// Credential is how an agent signs in.
type Credential struct {
	Agent        chat.Agent
	PasswordHash string
}

// Store is the contract. All methods may be called from any goroutine. Reads
// see committed data only. Times are kept to the millisecond, in UTC (see
// Millis). A limit below 1, or above what a method allows, is what it allows (limits.go).
//
// An error that is none of those named here (a lost connection, a full disk, a
// busy database) says that this attempt did not succeed, and may pass when tried
// again. After one from Transact it is not known whether it committed: the
// Position tells.
type Store interface {
	// Transact runs one transaction: see Scope. decide must be a pure function of
	// the Unit: it may run again when the engine retries. When it returns an error, nothing is
	// written and Transact returns that error. What contradicts a promise of the
	// schema (a second open conversation, an id said before, a message's seq taken) is both
	// ErrPermanent and chat.ErrConflict.
	Transact(ctx context.Context, scope Scope, decide func(*Unit) error) error

	// Claim takes or renews a lease for ttl. It is ErrFenced while someone else
	// holds it. A new holder gets a higher Epoch; the same holder keeps its own
	// on renewal of a running lease with the epoch it knows, and gets a higher one when known is 0
	// (a restart), which fences its former life. A former life that renews is ErrFenced.
	Claim(ctx context.Context, name, holder string, known uint64, now time.Time, ttl time.Duration) (Lease, error)
	// Yield gives a lease back early. One that is no longer held is no error.
	Yield(ctx context.Context, l Lease) error
	// Leases lists those whose name begins with prefix, ordered by name, run out or not; given back ones are gone.
	Leases(ctx context.Context, prefix string) ([]Lease, error)
	// Position reads how far a partition is stored.
	Position(ctx context.Context, partition int) (Position, error)

	// Incarnation names this life of the storage; Renew starts another, after a
	// restore from a backup, when the present one is still `old`.
	Incarnation(ctx context.Context) (string, error)
	Renew(ctx context.Context, old string) (string, error)

	// Unpublished returns events not yet marked published, of inboxes whose slot is in
	// the partition, ordered by inbox and number, at most limit, without gaps from
	// the first unpublished of each inbox.
	Unpublished(ctx context.Context, partition, limit int) ([]Event, error)
	// Published marks events under the publisher's lease; ErrFenced when it moved on.
	Published(ctx context.Context, l Lease, events []Event) error
	// Events returns what an inbox was told after number n, published or not, in order, at most limit.
	Events(ctx context.Context, inbox chat.Inbox, n uint64, limit int) ([]Event, error)
	// LastEvent is the newest number of an inbox, 0 when it has none.
	LastEvent(ctx context.Context, inbox chat.Inbox) (uint64, error)

	// Conversation returns a head, or chat.ErrNotFound.
	Conversation(ctx context.Context, t chat.Tenant, id chat.ConversationID) (*chat.Conversation, error)
	// Conversations returns heads ordered by (Since, ID).
	Conversations(ctx context.Context, q ConversationQuery) ([]*chat.Conversation, error)
	// Messages returns messages with seq < before (0: from the newest), newest
	// first, at most limit (1 to 200).
	Messages(ctx context.Context, t chat.Tenant, id chat.ConversationID, before uint64, limit int) ([]chat.Message, error)

	// Agents returns every agent of a tenant with Load and Reachable as of now, ordered by id.
	Agents(ctx context.Context, t chat.Tenant) ([]chat.Agent, error)
	// Credential returns how an agent signs in, or chat.ErrNotFound. Ids are case-sensitive.
	Credential(ctx context.Context, k AgentKey) (Credential, error)
	// PutAgent creates or changes an agent (all but Load, IdleSince and Reachable). An empty hash keeps the old one.
	// With create it is chat.ErrConflict when the agent exists, without it chat.ErrNotFound when not.
	PutAgent(ctx context.Context, c Credential, create bool, by Audit) error
	// Sessions lists an account's sessions, ordered by client.
	Sessions(ctx context.Context, a chat.Account) ([]Session, error)

	// DueJobs claims up to limit jobs of the kinds that are due, longest due first, hiding
	// each from other claims until now+lease; one that is not finished by then is due
	// again. Attempt counts claims; At is when the job was due.
	DueJobs(ctx context.Context, kinds []string, now time.Time, lease time.Duration, limit int) ([]Job, error)
	// FinishJob removes a job as DueJobs returned it; one that is gone, was scheduled anew
	// or was claimed again stays as it is.
	FinishJob(ctx context.Context, j Job) error
	// RetryJob makes a job as DueJobs returned it due again at `at`, with FinishJob's exceptions.
	RetryJob(ctx context.Context, j Job, at time.Time) error
	// NextJob is when the next job of the kinds is due (claimed ones when they would be due again); ok is false when there is none.
	NextJob(ctx context.Context, kinds []string) (at time.Time, ok bool, err error)

	// Configuration returns the newest revision; chat.ErrNotFound when there is none.
	Configuration(ctx context.Context, t chat.Tenant) (Configuration, error)
	// Configure stores revision c.Revision, which must be the newest plus one, or is
	// chat.ErrConflict. It writes its own audit line (ConfigureAudit).
	Configure(ctx context.Context, t chat.Tenant, c Configuration) error

	// AuditTrail returns the newest lines about an object (or all, when empty), newest first.
	AuditTrail(ctx context.Context, t chat.Tenant, object string, limit int) ([]Audit, error)

	// Maintain makes room ahead (partitions by time) and removes events that were
	// published before `before`.
	Maintain(ctx context.Context, now, before time.Time) error
	// Ping returns nil when storage answers and is migrated.
	Ping(ctx context.Context) error
	Close() error
}
