package test

import (
	"context"
	"testing"
	"time"

	"holdline/test/chaos"
)

// TestRandomCuts spoils the links of phones and desks, not the server: cut,
// reset, cut in the middle of a packet, frozen, deaf in one direction.
func TestRandomCuts(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		lasting := time.Duration(Scale(t, "HOLDLINE_STORM_SECONDS", 3, 20, 180)) * time.Second
		s := NewServer(t, setup)
		proxy, err := chaos.Listen("127.0.0.1:1") // nobody is there yet
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		desks := []*Desk{s.HireDesk("a", 100, ByMQTT, proxy.Addr), s.HireDesk("b", 100, ByHTTP, proxy.Addr)}
		s.Start()
		proxy.Retarget(s.MQTT())
		awaitDesks(t, s, desks...)
		phones := crowd(s, Scale(t, "HOLDLINE_PHONES", 10, 40, 100), proxy.Addr)
		proxy.Weather(chaos.Weather{Latency: 10 * time.Millisecond, Jitter: 30 * time.Millisecond, BytesPerSecond: 64 << 10})
		stop := chatter(t, phones, 4)
		ctx, cancel := context.WithTimeout(t.Context(), lasting)
		defer cancel()
		tally := proxy.Storm(ctx, chaos.Storm{Seed: 7, Every: 25 * time.Millisecond, Silence: 3 * time.Second})
		stop()
		proxy.Weather(chaos.Weather{})
		t.Logf("%d faults: %+v", tally.Total(), tally)
		l := Ledger{Server: s, Phones: phones, Desks: desks, Answered: true}
		l.Close(t)
	})
}
