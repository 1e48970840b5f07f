package broker_test

import (
	"fmt"
	"testing"
	"time"

	"holdline/broker"
	"holdline/broker/journal/memory"
)

func willing(topic, payload string, delay time.Duration) func(*broker.Hello) {
	return func(h *broker.Hello) {
		h.Will = &broker.Will{Publish: broker.Publish{QoS: 1, Topic: []byte(topic), Payload: []byte(payload)}, Delay: delay}
	}
}

// TestACrashPublishesTheWillsOfThoseWhoWereThere, once, those that are to wait
// in their time; sessions that end with their connection leave nothing behind.
func TestACrashPublishesTheWillsOfThoseWhoWereThere(t *testing.T) {
	n := start(t, memory.New())
	n.connect(anonymous("reader")).sub("wills", 1)
	n.connect(anonymous("lasting"), willing("wills", "lasting", 0))
	n.connect(anonymous("short"), transient, willing("wills", "short", time.Hour))
	n.connect(anonymous("waits"), willing("wills", "waits", time.Hour))
	left := n.connect(anonymous("left"), willing("wills", "left", 0))
	left.end(true)
	j := n.j.Crash()
	n.stop()
	n = start(t, j)
	n.connect(anonymous("reader")).take(2)
	got := func() map[string]int {
		m := map[string]int{}
		for _, e := range n.entries("wills") {
			m[string(e.Payload)]++
		}
		return m
	}
	if want := map[string]int{"lasting": 1, "short": 1}; fmt.Sprint(got()) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got(), want)
	}
	// Nothing is published twice by another crash, and the one that waits is still there.
	j = n.j.Crash()
	n.stop()
	n = start(t, j)
	if p := n.connect(anonymous("waits"), willing("wills", "second", 0)); !p.present {
		t.Error("the session is gone")
	} else {
		p.drop()
	}
	if p := n.connect(anonymous("short")); p.present {
		t.Error("a session that ends with its connection is still there")
	}
	if want := map[string]int{"lasting": 1, "short": 1, "second": 1}; fmt.Sprint(got()) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got(), want)
	}
}
