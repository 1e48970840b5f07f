// Package topics is the MQTT namespace of Holdline: every topic, who may
// publish or subscribe to it, and how the short names that clients use become
// the full names the journal keeps.
//
// It mirrors topics.md; a test compares the two, and another refuses topic
// literals in other packages. The access rules derive from the same table.
//
// It imports chat and the standard library only and holds no state.
package topics

import (
	"strings"

	"holdline/chat"
)

// Root is the first level of our tree. By MQTT's own rule a filter that starts
// with a wildcard never matches it [MQTT-4.7.2-1].
const Root = "$hl"

// Direction says which way a topic goes, seen from the client.
type Direction string

// Up is published by the client, Down subscribed by it.
const (
	Up   Direction = "up"
	Down Direction = "down"
)

// Topic is one row of the contract.
type Topic struct {
	Name string // short, as the client writes it; {x} stands for one level
	Role chat.Role
	Dir  Direction
	QoS  byte // the QoS it is meant for; a lower one is granted as asked
	// Input marks what the bridge reads: it is appended to a partition of the journal.
	Input bool
	// Session marks what belongs to one session, not to the whole account.
	Session bool
	// Shared marks what is mounted at the tenant, not at the account.
	Shared  bool
	Payload string // the golden file, without its ending
	Doc     string
}

// The topics of the contract.
var (
	CustomerMessage = Topic{Name: "up/message", Role: chat.Customer, Dir: Up, QoS: 1, Input: true, Payload: "say", Doc: "say something"}
	CustomerRequest = Topic{Name: "up/request", Role: chat.Customer, Dir: Up, QoS: 1, Input: true, Payload: "request", Doc: "ask for what was missed"}
	CustomerEvent   = Topic{Name: "down/event", Role: chat.Customer, Dir: Down, QoS: 1, Payload: "event", Doc: "everything that happened, numbered"}
	CustomerReply   = Topic{Name: "down/reply", Role: chat.Customer, Dir: Down, QoS: 0, Session: true, Payload: "reply", Doc: "the answer to a request, to the asking session"}

	AgentMessage = Topic{Name: "up/message", Role: chat.AgentRole, Dir: Up, QoS: 1, Input: true, Payload: "say-agent", Doc: "answer, under the owner epoch"}
	AgentCommand = Topic{Name: "up/command", Role: chat.AgentRole, Dir: Up, QoS: 1, Input: true, Payload: "command", Doc: "accept, release or resolve a conversation"}
	AgentRequest = Topic{Name: "up/request", Role: chat.AgentRole, Dir: Up, QoS: 1, Input: true, Payload: "request", Doc: "ask for what was missed"}
	AgentEvent   = Topic{Name: "down/event", Role: chat.AgentRole, Dir: Down, QoS: 1, Payload: "event-agent", Doc: "what happens in the agent's conversations, numbered"}
	AgentReply   = Topic{Name: "down/reply", Role: chat.AgentRole, Dir: Down, QoS: 0, Session: true, Payload: "reply", Doc: "the answer to a request, to the asking session"}
	QueueEvent   = Topic{Name: "queue/{queue}/event", Role: chat.AgentRole, Dir: Down, QoS: 1, Shared: true, Payload: "event-queue", Doc: "what happens in the queue, numbered"}

	DeviceReport  = Topic{Name: "up/report", Role: chat.Device, Dir: Up, QoS: 1, Payload: "report", Doc: "what the device measured or noticed; read by services"}
	DeviceResult  = Topic{Name: "up/result", Role: chat.Device, Dir: Up, QoS: 1, Payload: "result", Doc: "how a command went; read by services"}
	DeviceCommand = Topic{Name: "down/command", Role: chat.Device, Dir: Down, QoS: 1, Payload: "device-command", Doc: "what the device shall do; published by services"}
)

// Table is the contract in the order of topics.md.
var Table = []Topic{
	CustomerMessage, CustomerRequest, CustomerEvent, CustomerReply,
	AgentMessage, AgentCommand, AgentRequest, AgentEvent, AgentReply, QueueEvent,
	DeviceReport, DeviceResult, DeviceCommand,
}

// escape makes one topic level of any valid subject or client id.
var escaper = strings.NewReplacer("%", "%25", "/", "%2F", "+", "%2B", "#", "%23", "$", "%24")
var unescaper = strings.NewReplacer("%2F", "/", "%2B", "+", "%23", "#", "%24", "$", "%25", "%")

func escape(s string) string   { return escaper.Replace(s) }
func unescape(s string) string { return unescaper.Replace(s) }

func join(levels ...string) string { return strings.Join(levels, "/") }

// account is the root of everything of one account.
func account(a chat.Account) string {
	return join(Root, escape(string(a.Tenant)), string(a.Role), escape(a.Subject))
}

// Inbox is the full topic that the numbered events of an inbox are appended to.
func Inbox(i chat.Inbox) string {
	if i.Kind == chat.QueueKind {
		return join(Root, escape(string(i.Tenant)), "queue", escape(i.Name), "event")
	}
	return join(Root, escape(string(i.Tenant)), i.Kind, escape(i.Name), CustomerEvent.Name)
}

// Reply is the full topic of the answers to one session.
func Reply(a chat.Account, client string) string {
	return join(account(a), "session", escape(client), CustomerReply.Name)
}

// Presence is the journal topic of a session's comings and goings.
func Presence(a chat.Account, client string) string {
	return join(Root, escape(string(a.Tenant)), "presence", string(a.Role), escape(a.Subject), escape(client))
}

// NodeStart is the journal topic that tells that a broker started, so that no
// session of it can be up; one entry for each partition.
func NodeStart(node string) string { return join(Root, "$node", escape(node)) }

// Wake is the ephemeral topic that tells a part that there is work for it.
// It carries nothing and may be lost: the part also looks by itself.
func Wake(part string) string { return join(Root, "$wake", part) }

// Revoked is the ephemeral topic that tells the brokers whose tokens are over
// (chat.Revocation).
func Revoked() string { return join(Root, "$revoked") }

// Everything is the filter over a tenant's whole tree, for services.
func Everything(t chat.Tenant) string { return join(Root, escape(string(t)), "#") }

// Source is what a full topic of journal input stands for.
type Source struct {
	Account chat.Account
	Topic   string // the short name; empty for Presence and NodeStart
	Client  string // Presence only
	Node    string // NodeStart only
}

// Parse reads a full topic of the journal: one that an account published, a
// Presence or a NodeStart. ok is false for all others.
func Parse(full string) (s Source, ok bool) {
	l := strings.Split(full, "/")
	if len(l) < 3 || l[0] != Root {
		return Source{}, false
	}
	if l[1] == "$node" && len(l) == 3 {
		return Source{Node: unescape(l[2])}, true
	}
	tenant := chat.Tenant(unescape(l[1]))
	if l[2] == "presence" && len(l) == 6 {
		return Source{
			Account: chat.Account{Tenant: tenant, Role: chat.Role(l[3]), Subject: unescape(l[4])},
			Client:  unescape(l[5]),
		}, true
	}
	if len(l) < 5 || !chat.Role(l[2]).Valid() {
		return Source{}, false
	}
	return Source{
		Account: chat.Account{Tenant: tenant, Role: chat.Role(l[2]), Subject: unescape(l[3])},
		Topic:   join(l[4:]...),
	}, true
}
