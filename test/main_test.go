package test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"holdline/storage/postgres/pgtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := removeBinary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// onEngines runs a scenario on both storage engines, each beside other tests.
func onEngines(t *testing.T, scenario func(t *testing.T, s Setup)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		scenario(t, Setup{})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		scenario(t, Setup{Storage: pgtest.Database(t)})
	})
}

// chatter makes phones talk to desks that answer everything: each says its
// next word while no more than `ahead` are without an answer. stop ends it and waits.
func chatter(t *testing.T, phones []*Phone, ahead int) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var talking sync.WaitGroup
	for _, p := range phones {
		talking.Go(func() {
			for n := 1; ; n++ {
				for len(p.Sayings()) >= p.Answers()+ahead {
					select {
					case <-quit:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
				select {
				case <-quit:
					return
				default:
					p.Say(fmt.Sprintf("word %d of %s", n, p))
				}
			}
		})
	}
	var once sync.Once
	stop = func() {
		once.Do(func() { close(quit) })
		talking.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// crowd makes phones of different customers and switches them on.
func crowd(s *Server, n int, address func() string) (phones []*Phone) {
	for i := range n {
		p := s.Phone(fmt.Sprintf("customer-%d", i), "phone-1", address)
		p.On()
		phones = append(phones, p)
	}
	return phones
}

// awaitDesks waits until the agents of the desks count as reachable, so that
// routing knows them.
func awaitDesks(t *testing.T, s *Server, desks ...*Desk) {
	t.Helper()
	for _, d := range desks {
		d.On()
		d.AwaitOnline()
		Eventually(t, Patience, func() string {
			var me struct{ Reachable bool }
			if err := s.Call(t.Context(), d.token, "GET", "/me", nil, &me); err != nil {
				return err.Error()
			}
			if !me.Reachable {
				return d.Agent() + " is connected and does not count as reachable"
			}
			return ""
		})
	}
}
