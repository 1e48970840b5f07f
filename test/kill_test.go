package test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"holdline/broker/journal/killpoint"
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
		words := 0
		for _, p := range phones {
			words += len(p.Sayings())
		}
		t.Logf("%d kills in %s, %d words of %d phones", kills, time.Since(began).Round(time.Second), words, len(phones))
		l := Ledger{Server: s, Phones: phones, Desks: desks, Answered: true, Within: 2 * Patience}
		l.Close(t)
	})
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
