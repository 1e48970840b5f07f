package test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdline/broker/journal/killpoint"
	"holdline/test/wire"
)

// TestKillAtEachNamedPoint ends the process exactly where a crash must lose
// nothing, under load in both directions.
func TestKillAtEachNamedPoint(t *testing.T) {
	points := []string{
		killpoint.Appended, killpoint.Synced, killpoint.Acknowledged, killpoint.Committed,
		killpoint.EventsAppended, killpoint.EventsMarked, killpoint.Checkpointed,
	}
	times := []int{1, 7, 40}
	if testing.Short() {
		times = []int{7}
	}
	if Long() {
		times = []int{1, 2, 3, 5, 7, 15, 40, 100}
	}
	onEngines(t, func(t *testing.T, setup Setup) {
		s := NewServer(t, setup)
		byMQTT, byHTTP := s.HireDesk("mq", 50, ByMQTT, nil), s.HireDesk("ht", 50, ByHTTP, nil)
		s.Start()
		awaitDesks(t, s, byMQTT, byHTTP)
		phones := crowd(s, 6, nil)
		for _, p := range phones {
			p.AwaitOnline()
		}
		ledger := Ledger{Server: s, Phones: phones, Desks: []*Desk{byMQTT, byHTTP}, Answered: true}
		for _, point := range points {
			for _, n := range times {
				at := fmt.Sprintf("%s:%d", point, n)
				s.Stop()
				s.StartToDie(at)
				stop := chatter(t, phones, 4)
				if state := s.Ended(Patience); state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("%s: the process ended with %s:\n%s", at, state, s.Log())
				}
				stop()
				s.Start()
				if !t.Run(at, func(t *testing.T) { ledger.Settle(t) }) {
					return
				}
			}
		}
		ledger.Close(t)
	})
}

// TestRandomKills is kill -9 at any moment, again and again, while a hundred
// phones talk and three desks answer.
func TestRandomKills(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		kills := Scale(t, "HOLDLINE_KILLS", 5, 50, 200)
		s := NewServer(t, setup)
		desks := []*Desk{s.HireDesk("a", 100, ByMQTT, nil), s.HireDesk("b", 100, ByHTTP, nil), s.HireDesk("c", 100, ByMQTT, nil)}
		s.Start()
		awaitDesks(t, s, desks...)
		phones := crowd(s, Scale(t, "HOLDLINE_PHONES", 20, 100, 100), nil)
		var tablets []*Phone // second devices of some, which come and go
		for _, p := range phones[:len(phones)/5] {
			tablet := s.Phone(p.Account.Subject, "tablet", nil)
			tablet.On()
			tablet.AwaitOnline()
			tablets = append(tablets, tablet)
		}
		settle := wander(t, tablets)
		stop := chatter(t, phones, 2)
		began := time.Now()
		for range kills {
			// The moment is what is random: some kills come while the process still starts its work.
			select {
			case <-time.After(50*time.Millisecond + rand.N(700*time.Millisecond)):
			case <-t.Context().Done():
			}
			s.Restart()
		}
		stop()
		settle()
		words := 0
		for _, p := range phones {
			words += len(p.Sayings())
		}
		t.Logf("%d kills in %s, %d words of %d phones", kills, time.Since(began).Round(time.Second), words, len(phones))
		l := Ledger{Server: s, Phones: append(phones, tablets...), Desks: desks, Answered: true, Within: 2 * Patience}
		l.Close(t)
	})
}

// TestKillAfterNineHundredAcknowledgements is row B1 of the probes on the real
// program: publishes to a session that is away, kill -9 right after the last
// PUBACK, and all of them are delivered, once and in order.
func TestKillAfterNineHundredAcknowledgements(t *testing.T) {
	t.Parallel()
	const messages = 900
	s := Start(t, Setup{Flags: []string{"--allow-anonymous"}})
	for round := range 3 {
		for _, version := range []byte{wire.V311, wire.V5} {
			topic := fmt.Sprintf("b1/%d/%d", round, version)
			h := wire.Hello{Version: version, Client: topic, Properties: wire.Properties{{ID: wire.SessionExpiry, Num: 3600}}}
			away := wire.Open(t, s.MQTT(), h)
			away.Sub(1, topic, 1)
			away.Drop()
			publisher := wire.Open(t, s.MQTT(), wire.Hello{Client: "publisher", Clean: true})
			for i := range messages {
				publisher.Must(wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: topic, Payload: fmt.Append(nil, i)})
			}
			for i := range messages {
				if a := publisher.Get(wire.Puback); a.ID != uint16(i+1) || a.Code != 0 && a.Code != 0x10 {
					t.Fatalf("%s, want the PUBACK to id %d", a, i+1)
				}
			}
			s.Restart()
			back := wire.Dialed(t, s.MQTT())
			if !back.Welcome(h).SessionPresent {
				t.Fatal("the session is lost")
			}
			for i := range messages {
				p := back.Get(wire.Publish)
				if string(p.Payload) != fmt.Sprint(i) {
					t.Fatalf("v%d: got %s, want message %d", version, p, i)
				}
				back.Ack(p)
			}
			back.Quiet(50 * time.Millisecond)
		}
	}
}

// wander makes devices come and go at random until stop is called, and leaves them on.
func wander(t *testing.T, devices []*Phone) (stop func()) {
	quit := make(chan struct{})
	var wandering sync.WaitGroup
	for _, p := range devices {
		wandering.Go(func() {
			defer p.On()
			for {
				select {
				case <-quit:
					return
				case <-time.After(rand.N(time.Second)):
				}
				p.Off()
				select {
				case <-quit:
					return
				case <-time.After(rand.N(3 * time.Second)):
				}
				p.On()
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(quit)
		wandering.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// TestAFrozenServerLosesNothing stops the process for longer than phones wait.
func TestAFrozenServerLosesNothing(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Setup{})
	desk := s.HireDesk("a", 50, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	phones := crowd(s, 10, nil)
	stop := chatter(t, phones, 3)
	for range 3 {
		<-time.After(300 * time.Millisecond)
		s.Signal(syscall.SIGSTOP)
		<-time.After(4 * time.Second) // phones give a silent link up after two to four
		s.Signal(syscall.SIGCONT)
	}
	stop()
	l := Ledger{Server: s, Phones: phones, Desks: []*Desk{desk}, Answered: true}
	l.Close(t)
}
