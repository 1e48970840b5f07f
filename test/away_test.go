package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"holdline/storage/postgres/pgtest"
)

// TestTheDatabaseGoesAway: phones are served all the same; what they were
// acknowledged is stored when the database is back.
func TestTheDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, "fsync=on")
	s := NewServer(t, Setup{Storage: pg.Database(t)})
	desk := s.HireDesk("bob", 50, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	phones := crowd(s, 8, nil)
	for _, p := range phones {
		p.AwaitOnline()
	}
	stop := chatter(t, phones, 3)
	ready := func(want int) {
		t.Helper()
		Eventually(t, Patience, func() string {
			r, err := http.Get(s.HTTP() + "/readyz")
			if err != nil {
				return err.Error()
			}
			defer r.Body.Close()
			if r.StatusCode != want {
				return fmt.Sprintf("/readyz is %d, want %d", r.StatusCode, want)
			}
			return ""
		})
	}
	for round := range 2 {
		was := phones[0].Answers()
		Eventually(t, Patience, func() string {
			if phones[0].Answers() < was+5 {
				return fmt.Sprintf("round %d: no answers come", round)
			}
			return ""
		})
		pg.Kill()
		ready(http.StatusServiceUnavailable)
		// New words, on old connections and on new ones, are acknowledged all the same.
		late := s.Phone(fmt.Sprint("late-", round), "phone", nil)
		late.On()
		phones = append(phones, late)
		words := map[*Phone]*Said{}
		for _, p := range phones {
			words[p] = p.Say("is the database there?")
		}
		for p, w := range words {
			Eventually(t, Patience, func() string {
				if !p.Taken(w) {
					return fmt.Sprintf("%s: no PUBACK while the database is away", p)
				}
				return ""
			})
			if p.Told(w.ID) != "" {
				t.Errorf("%s was told an outcome while nothing could be stored", p)
			}
		}
		if round == 1 {
			s.Kill() // and the server too, with everything still to be stored
		}
		pg.Restart(t)
		if round == 1 {
			s.Start()
		}
		ready(http.StatusOK)
	}
	stop()
	l := Ledger{Server: s, Phones: phones, Desks: []*Desk{desk}, Answered: true}
	l.Close(t)
}

// TestNoQoS1IsEverDropped is the figure that docs/operations.md says must stay 0, after some load.
func TestNoQoS1IsEverDropped(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Setup{})
	desk := s.HireDesk("bob", 50, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	phones := crowd(s, 5, nil)
	stop := chatter(t, phones, 4)
	Eventually(t, Patience, func() string {
		if phones[0].Answers() < 50 {
			return "no conversation"
		}
		return ""
	})
	stop()
	l := Ledger{Server: s, Phones: phones, Desks: []*Desk{desk}, Answered: true}
	l.Close(t)
	figures := map[string]string{}
	for line := range strings.SplitSeq(s.Get(t, "/metrics"), "\n") {
		if name, value, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
			figures[name] = value
		}
	}
	if got := figures["holdline_qos1_dropped_total"]; got != "0" {
		t.Errorf("holdline_qos1_dropped_total is %q, want 0", got)
	}
}
