package agentd_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/agentd"
	"holdline/chat"
	"holdline/storage"
)

func TestAWakeIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 2)
		w.session("ann", "desk", 1, true)
		w.run(1)
		time.Sleep(300 * time.Millisecond) // between two looks
		id := w.wait("cid", time.Now())
		w.wake()
		synctest.Wait()
		w.wantHolder(id, "ann")
	})
}

func TestALostWakeCostsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 2)
		w.session("ann", "desk", 1, true)
		w.run(1)
		synctest.Wait()
		id := w.wait("cid", time.Now())
		synctest.Wait()
		w.wantHolder(id, "") // nobody said so yet
		time.Sleep(1100 * time.Millisecond)
		w.wantHolder(id, "ann")
	})
}

func TestNobodyToAnswerIsNoBusyLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 1) // never connected
		since := time.Now()
		w.wait("cid", since)
		all, _ := w.run(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		s := all[0].Stats()
		if s.Rounds > 62 {
			t.Errorf("looked %d times in a minute in which nothing happened, want about 60", s.Rounds)
		}
		if !s.Oldest.Equal(since.Truncate(time.Millisecond)) {
			t.Errorf("oldest waits since %v, want %v", s.Oldest, since)
		}
	})
}

func TestWakesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		all, _ := w.run(1)
		synctest.Wait()
		before := all[0].Stats().Rounds
		for range 100 {
			for range 10 {
				w.wake()
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if got := all[0].Stats().Rounds - before; got < 3 || got > 8 {
			t.Errorf("1000 wakes in 100 ms made %d rounds, want about 5", got)
		}
	})
}

func TestTheLongestWaitingIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 1)
		now := time.Now()
		late, early := w.wait("late", now), w.wait("early", now.Add(-time.Minute))
		w.session("ann", "desk", 1, true)
		w.run(1)
		synctest.Wait()
		w.wantHolder(early, "ann")
		w.wantHolder(late, "")
		w.change(early, func(c *chat.Conversation) error { return c.Resolve(time.Now()) })
		w.wake()
		time.Sleep(time.Second)
		synctest.Wait()
		w.wantHolder(late, "ann")
	})
}

// TestGrace is the life of an agent's desk: gone for less than the grace,
// nothing moves; gone for longer, everything goes to somebody else in the
// order of the waiting times.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		w.run(2)
		since := time.Now().UTC().Truncate(time.Millisecond)
		id := w.wait("cid", since)
		time.Sleep(2 * time.Second)
		w.wantHolder(id, "ann")
		epoch := w.conversation(id).Epoch

		w.session("ann", "desk", 1, false)
		time.Sleep(chat.Grace - 50*time.Millisecond)
		w.session("ann", "desk", 2, true)
		time.Sleep(2 * chat.Grace)
		if c := w.conversation(id); c.Holder != "ann" || c.Epoch != epoch {
			t.Fatalf("back within the grace: %+v; want nothing moved", *c)
		}

		w.session("ann", "desk", 2, false)
		time.Sleep(chat.Grace - time.Millisecond)
		synctest.Wait()
		w.wantHolder(id, "ann")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		c := w.conversation(id)
		if c.State != chat.Waiting || !c.Since.Equal(since) || c.Epoch != epoch+1 {
			t.Fatalf("past the grace: %+v; want it to wait since %v under the next epoch", *c, since)
		}

		w.hire("bob", 5)
		w.session("bob", "desk", 1, true)
		time.Sleep(2 * time.Second)
		w.wantHolder(id, "bob")
		if d := cmp.Diff([]string{"assign", "requeue", "assign"}, w.audits(string(id))); d != "" {
			t.Errorf("audit (-want +got):\n%s", d)
		}
		if _, ok, err := w.store.NextJob(t.Context(), []string{"grace"}); ok || err != nil {
			t.Errorf("a grace job is left: %v, %v", ok, err)
		}
	})
}

func TestOneOfTwoTabsClosedMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "tab1", 1, true)
		w.session("ann", "tab2", 1, true)
		w.run(1)
		id := w.wait("cid", time.Now())
		time.Sleep(2 * time.Second)
		w.session("ann", "tab1", 1, false)
		time.Sleep(3 * chat.Grace)
		if c := w.conversation(id); c.Holder != "ann" || c.Epoch != 1 {
			t.Errorf("conversation %+v, want ann's still", *c)
		}
	})
}

func TestManyConversationsGoBackInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 100)
		var ids []chat.ConversationID
		for i := range 100 {
			ids = append(ids, w.wait(fmt.Sprintf("c%03d", i), time.Now()))
		}
		w.session("ann", "desk", 1, true)
		all, _ := w.run(1)
		time.Sleep(5 * time.Second)
		if n := w.agents()["ann"].Load; n != 100 {
			t.Fatalf("ann holds %d, want 100", n)
		}
		w.session("ann", "desk", 1, false)
		time.Sleep(chat.Grace + time.Second)
		for _, id := range ids {
			w.wantHolder(id, "")
		}
		if s := all[0].Stats(); s.Requeued != 100 || s.Assigned != 100 || s.Failures != 0 {
			t.Errorf("stats %+v, want 100 assigned and 100 given back", s)
		}
	})
}

// TestAStrayIsFoundWithoutAJob: an accept that was stored only after the
// grace had ended leaves a conversation with somebody who is gone.
func TestAStrayIsFoundWithoutAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		w.session("ann", "desk", 1, false)
		w.run(1)
		time.Sleep(2 * chat.Grace)
		id := w.wait("cid", time.Now())
		w.change(id, func(c *chat.Conversation) error { return c.Accept("ann", "Ann") })
		time.Sleep(chat.Grace)
		w.wantHolder(id, "ann")
		time.Sleep(10 * time.Second)
		w.wantHolder(id, "")
	})
}

func TestADisabledAgentHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		_, stop := w.run(1)
		id := w.wait("cid", time.Now())
		time.Sleep(2 * time.Second)
		w.wantHolder(id, "ann")
		staff := agentd.Staff{Store: w.store, Journal: w.journal, By: "test"}
		if err := staff.Disable(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		w.wantHolder(id, "") // when Disable returns
		time.Sleep(5 * time.Second)
		w.wantHolder(id, "") // and not given to ann again
		if err := staff.Enable(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.wantHolder(id, "ann")

		// Disabled by a process that died before it gave anything back.
		stop()
		cred, err := w.store.Credential(t.Context(), key("ann"))
		if err != nil {
			t.Fatal(err)
		}
		cred.Agent.Disabled = true
		if err := w.store.PutAgent(t.Context(), cred, false, storage.Audit{Tenant: "main", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		w.run(1)
		synctest.Wait()
		w.wantHolder(id, "")
	})
}

func TestIntentDecidesWhoIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		w.run(1)
		staff := agentd.Staff{Store: w.store, Journal: w.journal, By: "ann"}
		a, err := staff.SetIntent(t.Context(), "ann", chat.Away)
		if err != nil || a.Intent != chat.Away || !a.Reachable {
			t.Fatalf("SetIntent = %+v, %v", a, err)
		}
		id := w.wait("cid", time.Now())
		w.wake()
		time.Sleep(5 * time.Second)
		w.wantHolder(id, "")
		if _, err := staff.SetIntent(t.Context(), "ann", chat.Available); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		w.wantHolder(id, "ann")
		if _, err := staff.SetIntent(t.Context(), "ann", "asleep"); !errors.Is(err, chat.ErrInvalid) {
			t.Errorf("SetIntent asleep = %v, want ErrInvalid", err)
		}
		if _, err := staff.SetIntent(t.Context(), "eve", chat.Away); !errors.Is(err, chat.ErrNotFound) {
			t.Errorf("SetIntent of nobody = %v, want ErrNotFound", err)
		}
		if d := cmp.Diff([]string{"agent intent", "agent intent"}, w.audits("agent/ann")); d != "" {
			t.Errorf("audit (-want +got):\n%s", d)
		}
	})
}

// TestAGraceJobOutlivesWhoeverClaimedIt: a process claims the job and dies
// before it decides; another does it when the claim has run out.
func TestAGraceJobOutlivesWhoeverClaimedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		_, stop := w.run(1)
		id := w.wait("cid", time.Now())
		time.Sleep(2 * time.Second)
		stop()
		w.session("ann", "desk", 1, false)
		time.Sleep(chat.Grace)
		jobs, err := w.store.DueJobs(t.Context(), []string{"grace"}, time.Now(), 30*time.Second, 10)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("claimed %v, %v; want the grace job", jobs, err)
		}
		w.run(1)
		time.Sleep(29 * time.Second)
		w.wantHolder(id, "ann")
		time.Sleep(2 * time.Second)
		w.wantHolder(id, "")
	})
}

func TestAJobThatCannotBeReadIsDroppedAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.transact(storage.Scope{}, func(u *storage.Unit) error {
			u.Schedule(storage.Job{ID: "grace:junk", Kind: "grace", At: time.Now(), Payload: []byte("{")})
			u.Schedule(storage.Job{ID: "grace:main/nobody", Kind: "grace", At: time.Now(), Payload: []byte(`{"tenant":"main","agent":"nobody"}`)})
			u.Schedule(storage.Job{ID: "grace:odd", Kind: "grace", At: time.Now(), Payload: []byte(`{"tenant":"main","agent":"ann"}`)})
			return nil
		})
		w.hire("ann", 5)
		w.run(1)
		synctest.Wait()
		if at, ok, err := w.store.NextJob(t.Context(), []string{"grace"}); ok || err != nil {
			t.Errorf("a job is left for %v, %v", at, err)
		}
	})
}

// reluctant refuses the first transactions that name an account, which is what giving back does.
type reluctant struct {
	storage.Store
	left atomic.Int64
}

func (r *reluctant) Transact(ctx context.Context, s storage.Scope, decide func(*storage.Unit) error) error {
	if len(s.Accounts) > 0 && len(s.Agents) > 0 && r.left.Add(-1) >= 0 {
		return errors.New("connection reset")
	}
	return r.Store.Transact(ctx, s, decide)
}

func TestAGraceJobThatFailsIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := &reluctant{Store: w.store}
		r.left.Store(3)
		w.store = r
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		all, _ := w.run(1)
		id := w.wait("cid", time.Now())
		time.Sleep(2 * time.Second)
		w.session("ann", "desk", 1, false)
		time.Sleep(chat.Grace + 5*time.Second)
		w.wantHolder(id, "")
		if s := all[0].Stats(); r.left.Load() > -1 || s.Failures != 0 {
			t.Errorf("%d refusals left, stats %+v; want all met without failing a round", r.left.Load(), s)
		}
	})
}

// broken is a store whose transactions fail for a while.
type broken struct {
	storage.Store
	down  atomic.Bool
	tried atomic.Int64
}

func (b *broken) Agents(ctx context.Context, t chat.Tenant) ([]chat.Agent, error) {
	if b.down.Load() {
		b.tried.Add(1)
		return nil, errors.New("connection refused")
	}
	return b.Store.Agents(ctx, t)
}

func TestABrokenStoreIsLeftInPeaceAndThenUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := &broken{Store: w.store}
		b.down.Store(true)
		w.store = b
		w.hire("ann", 5)
		w.session("ann", "desk", 1, true)
		id := w.wait("cid", time.Now())
		all, _ := w.run(1)
		for range 60 {
			time.Sleep(time.Second)
			w.wake()
		}
		if n := b.tried.Load(); n < 10 || n > 40 {
			t.Errorf("tried %d times in a minute, want a growing pause of at most 7.5 s", n)
		}
		b.down.Store(false)
		time.Sleep(8 * time.Second)
		synctest.Wait()
		w.wantHolder(id, "ann")
		if s := all[0].Stats(); s.Failures != uint64(b.tried.Load()) {
			t.Errorf("failures %d, want %d", s.Failures, b.tried.Load())
		}
	})
}
