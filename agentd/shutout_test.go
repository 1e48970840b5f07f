package agentd_test

import (
	"encoding/json"
	"testing"
	"time"

	"holdline/agentd"
	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

func TestADisabledAgentIsDisconnected(t *testing.T) {
	w := newWorld(t)
	w.hire("ada", 5)
	w.hire("bob", 5)
	w.session("ada", "desk", 1, true)
	w.session("bob", "desk", 1, true)
	heard := make(chan chat.Revocation, 1)
	defer w.journal.Listen(func(a journal.Announcement) {
		var r chat.Revocation
		if a.Topic == topics.Revoked() && json.Unmarshal(a.Payload, &r) == nil {
			select {
			case heard <- r:
			default: // one is enough
			}
		}
	})()
	if err := (agentd.Staff{Store: w.store, By: "cli"}).Disable(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	w.run(1)
	select {
	case r := <-heard:
		if r.Subject != "bob" || r.Role != chat.AgentRole || r.Before.IsZero() {
			t.Errorf("revoked %+v, want bob", r)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told that bob is disabled")
	}
}
