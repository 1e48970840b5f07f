package broker_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"holdline/broker"
	"holdline/chat"
)

// TestLimitsAreThoseOfTheContract: topics.md states them, and it is law.
func TestLimitsAreThoseOfTheContract(t *testing.T) {
	doc, err := os.ReadFile("../topics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(strings.TrimSpace(line), "|"); len(cells) == 7 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[cells[1]] = cells[2:6]
		}
	}
	for name, figure := range map[string]func(broker.Limits) string{
		"Packet, either way":                          func(l broker.Limits) string { return fmt.Sprintf("%d KiB", l.PacketBytes>>10) },
		"Unacknowledged publishes, client to broker":  func(l broker.Limits) string { return fmt.Sprint(l.Inbound) },
		"Unacknowledged deliveries, broker to client": func(l broker.Limits) string { return fmt.Sprint(l.Window) },
		"Filters of one session":                      func(l broker.Limits) string { return fmt.Sprint(l.Subscriptions) },
		"Keep-alive the server allows": func(l broker.Limits) string {
			return fmt.Sprintf("%d–%d s", int(l.KeepAliveMin.Seconds()), int(l.KeepAliveMax.Seconds()))
		},
	} {
		for i, role := range []chat.Role{chat.Customer, chat.AgentRole, chat.Device, chat.Service} {
			got := figure(broker.LimitsOf(role))
			if row := rows[name]; row == nil || row[i] != got {
				t.Errorf("%s of a %s is %s, topics.md says %q", name, role, got, row)
			}
		}
	}
}
