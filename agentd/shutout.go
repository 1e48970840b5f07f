package agentd

import (
	"context"
	"encoding/json"
	"fmt"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// shutOut tells the brokers to let go of disabled agents who are still
// connected: their tokens have not expired. It says so in every round until they
// are gone, so nothing is lost when a word of it is.
func (d *Agentd) shutOut(ctx context.Context, agents []chat.Agent) {
	for _, a := range agents {
		if !a.Disabled || !a.Reachable {
			continue
		}
		payload, err := json.Marshal(chat.Revocation{Tenant: a.Tenant, Role: chat.AgentRole, Subject: a.ID, Before: d.Now().UTC()})
		if err != nil {
			panic(fmt.Sprintf("agentd: revocation does not marshal: %v", err)) // strings and a time: cannot happen
		}
		if err := d.Journal.Announce(ctx, journal.Announcement{Topic: topics.Revoked(), Payload: payload}); err != nil && ctx.Err() == nil {
			d.Log.WarnContext(ctx, "a disabled agent could not be disconnected", "agent", a.ID, "err", err)
		}
	}
}
