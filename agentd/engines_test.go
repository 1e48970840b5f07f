package agentd_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdline/agentd"
	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
	"holdline/storage/postgres"
	"holdline/storage/postgres/pgtest"
	"holdline/storage/sqlite"
)

// TestManyInstancesOneOwner lets three processes deal at once while customers
// come and agents resolve, on every engine.
func TestManyInstancesOneOwner(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { manyInstances(t, newWorld(t), 300) })
	})
	t.Run("sqlite", func(t *testing.T) { manyInstances(t, newSQLiteWorld(t), 120) })
	t.Run("postgres", func(t *testing.T) { manyInstances(t, newPostgresWorld(t), 120) })
}

// newPostgresWorld is three machines on one database: each agentd has connections of its own.
func newPostgresWorld(t *testing.T) *world {
	url := pgtest.Database(t, postgres.Migrate)
	open := func() *postgres.Store {
		s, err := postgres.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := worldOn(t, open())
	w.open = func() storage.Store {
		s := open()
		t.Cleanup(func() { s.Close() }) // registered before the end of its agentd, so it comes after it
		return s
	}
	return w
}

func newSQLiteWorld(t *testing.T) *world {
	path := filepath.Join(t.TempDir(), "holdline.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return worldOn(t, s)
}

// TestGivingBackOnEveryEngine ends a grace that is long over, and disables
// an agent, with three processes at it.
func TestGivingBackOnEveryEngine(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *world{"memory": newWorld, "sqlite": newSQLiteWorld, "postgres": newPostgresWorld} {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			since := time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Millisecond)
			ids := map[string]chat.ConversationID{}
			for _, agent := range []string{"ann", "bob"} {
				w.hire(agent, 5)
				w.sessionAt(agent, "desk", 1, agent == "bob", time.Now().Add(-time.Hour))
				ids[agent] = w.wait("of "+agent, since)
				w.change(ids[agent], func(c *chat.Conversation) error { return c.Accept(agent, agent) })
			}
			if _, err := (agentd.Staff{Store: w.store, By: "bob"}).SetIntent(t.Context(), "bob", chat.Busy); err != nil {
				t.Fatal(err)
			}
			told := make(chan struct{}, 100)
			deaf := w.journal.Listen(func(a journal.Announcement) {
				if a.Topic == topics.Wake("bridge") {
					told <- struct{}{}
				}
			})
			defer deaf()
			w.run(3)
			select {
			case <-told:
			case <-time.After(30 * time.Second):
				t.Fatal("nothing was given back")
			}
			if err := (agentd.Staff{Store: w.store, By: "test"}).Disable(t.Context(), "bob"); err != nil {
				t.Fatal(err)
			}
			for agent, id := range ids {
				if c := w.conversation(id); c.State != chat.Waiting || !c.Since.Equal(since) || c.Epoch != 2 {
					t.Errorf("what %s held: %+v; want it waiting since %v", agent, *c, since)
				}
				if got := w.audits(string(id)); !slices.Equal(got, []string{"requeue"}) {
					t.Errorf("audit of what %s held: %v, want it given back once", agent, got)
				}
			}
			if _, ok, err := w.store.NextJob(t.Context(), []string{"grace"}); ok || err != nil {
				t.Errorf("a job is left: %v, %v", ok, err)
			}
		})
	}
}

func manyInstances(t *testing.T, w *world, customers int) {
	const agents, capacity = 7, 4
	for i := range agents {
		id := fmt.Sprintf("a%d", i)
		w.hire(id, capacity)
		w.session(id, "desk", 1, true)
	}
	all, stop := w.run(3)
	assigned := make(chan struct{}, 1)
	deaf := w.journal.Listen(func(a journal.Announcement) {
		if a.Topic == topics.Wake("bridge") {
			select {
			case assigned <- struct{}{}:
			default:
			}
		}
	})
	defer deaf()
	var mu sync.Mutex
	var ids []chat.ConversationID
	var coming sync.WaitGroup
	for part := range 6 {
		coming.Go(func() {
			for i := part; i < customers; i += 6 {
				id := w.wait(fmt.Sprintf("c%04d", i), time.Now())
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
				w.wake()
			}
		})
	}
	patience := time.After(time.Minute)
	for resolved := 0; resolved < customers; {
		for id, a := range w.agents() {
			if a.Load > capacity {
				t.Fatalf("%s holds %d, has room for %d", id, a.Load, capacity)
			}
		}
		held, err := w.store.Conversations(t.Context(), storage.ConversationQuery{Tenant: "main", States: []chat.State{chat.Held}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range held {
			w.change(c.ID, func(c *chat.Conversation) error { return c.Resolve(time.Now()) })
			resolved++
			w.wake()
		}
		if len(held) == 0 {
			select {
			case <-assigned:
			case <-patience:
				t.Fatalf("%d of %d are resolved after a minute", resolved, customers)
			}
		}
	}
	coming.Wait()
	count := func() (sum, lost uint64) {
		for _, d := range all {
			sum, lost = sum+d.Stats().Assigned, lost+d.Stats().Lost
		}
		return sum, lost
	}
	for sum, _ := count(); sum < uint64(customers); sum, _ = count() { // the last is counted after its commit, before its announcement
		select {
		case <-assigned:
		case <-patience:
			t.Fatalf("%d assignments counted, want %d", sum, customers)
		}
	}
	stop()
	for _, id := range ids {
		if c := w.conversation(id); c.Epoch != 2 {
			t.Errorf("conversation %s has epoch %d, want 2: one owner, then resolved", id, c.Epoch)
		}
		if got := w.audits(string(id)); !slices.Equal(got, []string{"assign"}) {
			t.Errorf("conversation %s: %v, want one assignment", id, got)
		}
	}
	for _, d := range all {
		if n := d.Stats().Failures; n != 0 {
			t.Errorf("%d rounds failed", n)
		}
	}
	sum, lost := count()
	if sum != uint64(customers) {
		t.Errorf("%d assignments counted, want %d", sum, customers)
	}
	t.Logf("%d assigned by three, %d lost to somebody faster", sum, lost)
}
