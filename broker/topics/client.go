package topics

import (
	"strings"

	"holdline/chat"
)

// The filters clients subscribe to.
const (
	AllDown   = "down/#"        // everything that comes down to an account
	AllQueues = "queue/+/event" // the events of every queue, for agents
)

// QueueOf reads the queue of a short name that stands for a QueueEvent.
func QueueOf(name string) (chat.QueueID, bool) {
	q, ok := strings.CutPrefix(name, "queue/")
	if !ok {
		return "", false
	}
	q, ok = strings.CutSuffix(q, "/event")
	return chat.QueueID(unescape(q)), ok && q != "" && !strings.Contains(q, "/")
}
