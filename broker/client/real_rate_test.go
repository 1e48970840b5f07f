package client_test

import (
	"fmt"
	"slices"
	"testing"

	"holdline/broker/mqtt"
	"holdline/chat"
)

// TestAnOutboxOfADayIsNotPunished: a phone that comes back with more than its
// rate allows is held back, and loses, doubles and mixes up nothing.
func TestAnOutboxOfADayIsNotPunished(t *testing.T) {
	h := newHouse(t)
	h.close()
	h.limits = mqtt.DefaultAdmission()
	h.limits.Publish = map[chat.Role]mqtt.Rate{chat.Customer: mqtt.PerSecond(20, 20)}
	one := h.phone(ada, "phone-1", t.TempDir())
	var want []string
	for n := range 60 {
		want = append(want, fmt.Sprint(n))
		one.send(want[n])
	}
	h.open()
	one.settle()
	one.await("all messages", func() bool { return len(one.events) >= len(want) })
	if got := one.said(); !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}
