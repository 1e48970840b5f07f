package client

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
)

func rawOf(e chat.Event) []byte { return chat.Numbered(e.Event, e.Body()) }

func rawList(bs ...[]byte) (out []json.RawMessage) {
	for _, b := range bs {
		out = append(out, b)
	}
	return out
}

func ids(incarnation string, from, to uint64) (out []chat.EventID) {
	for n := from; n <= to; n++ {
		out = append(out, chat.NewEventID(incarnation, n))
	}
	return out
}

// request0 does nothing but say that no request is open.
func (p *peer) request0(t *testing.T) { t.Helper(); p.quiet(time.Millisecond) }

func TestGapIsFilledByAskingAndNothingOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.event(1)
		p.acked(1)
		p.event(7)
		r := p.request()
		if r.Since != "k-1" {
			t.Errorf("asked since %q, want k-1", r.Since)
		}
		p.event(8)
		p.quiet(time.Second) // 7 and 8 are held and not acknowledged
		p.reply(chat.Reply{ID: "of another request", Events: raws("k", 2, 6)})
		p.quiet(time.Second)
		p.reply(chat.Reply{ID: r.ID, Events: raws("k", 2, 4), More: true, Last: "k-8"})
		if r = p.request(); r.Since != "k-4" {
			t.Errorf("asked since %q, want k-4", r.Since)
		}
		p.reply(chat.Reply{ID: r.ID, Events: raws("k", 5, 7), Last: "k-8"})
		p.acked(7, 8)
		if d := cmp.Diff(ids("k", 1, 8), notes.seen()); d != "" {
			t.Error(d)
		}
		p.quiet(time.Minute) // it is over
	})
}

func TestAcknowledgementsKeepTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		cfg.OnMessage = func(string, []byte) error { return nil }
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.event(2)
		r := p.request()
		p.publish("down/other", 1, 99, []byte("x"))
		p.event(1)
		p.quiet(time.Second) // both are delivered, but 2 arrived before them [MQTT-4.6.0-2]
		p.reply(chat.Reply{ID: r.ID, Last: "k-2"})
		p.acked(2, 99, 1)
	})
}

func TestLostReplyIsAskedForAgainWithLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false)
		began := time.Now()
		var r chat.Request
		for _, want := range []struct {
			after time.Duration
			limit int
		}{{0, 100}, {10 * time.Second, 25}, {20 * time.Second, 6}, {30 * time.Second, 1}} {
			if r = p.request(); r.Limit != want.limit || time.Since(began) != want.after {
				t.Errorf("asked for %d after %s, want %d after %s", r.Limit, time.Since(began), want.limit, want.after)
			}
		}
		p.reply(chat.Reply{ID: r.ID, Events: raws("k", 3, 3), More: true}) // the beginning of what is kept
		p.reply(chat.Reply{ID: p.request().ID, Events: raws("k", 4, 4), Last: "k-4"})
		p.quiet(time.Minute)
		if d := cmp.Diff(ids("k", 3, 4), notes.seen()); d != "" {
			t.Error(d)
		}
	})
}

func TestRefusedSyncIsTriedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false)
		p.reply(chat.Reply{ID: p.request().ID, Error: &chat.Refusal{Reason: chat.ReasonBusy}})
		p.quiet(busyPause - time.Second)
		r := p.request()
		if r.Limit != pageEvents {
			t.Errorf("asked for %d, want as much as before", r.Limit)
		}
		p.reply(chat.Reply{ID: r.ID, Error: &chat.Refusal{Reason: chat.ReasonInternal}})
		p.quiet(replyCap - time.Second)
		p.ackRequest(0x97)
		p.quiet(replyPatience - time.Second)
		p.request()
	})
}

// ackRequest answers a request's publish with a code.
func (p *peer) ackRequest(code byte) {
	p.t.Helper()
	p.ack(p.published(), code)
}

func TestSyncOutlivesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.event(3)
		p.request()
		_ = p.conn.Close()
		p = f.accept().welcome(true)
		r := p.request() // though the session was there
		p.event(3)
		p.reply(chat.Reply{ID: r.ID, Events: raws("k", 1, 2), Last: "k-3"})
		p.acked(3)
		if d := cmp.Diff(ids("k", 1, 3), notes.seen()); d != "" {
			t.Error(d)
		}
	})
}

func TestAnotherIncarnationBeginsAnew(t *testing.T) {
	for _, how := range []string{"an event tells", "a reply tells"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				cfg, notes := testConfig(f)
				cfg.Dir = t.TempDir()
				c := start(t, cfg)
				p := f.accept().welcome(false).synced("k-0")
				id := send(t, c.Client, "hi")
				_, pub := p.said()
				p.ack(pub, 0)
				p.event(1)
				p.acked(1)
				if how == "an event tells" {
					p.publish("down/event", 1, 50, eventOf("new", 3))
				} else {
					_ = p.conn.Close()
					p = f.accept().welcome(false)
				}
				r := p.request()
				if r.Since != "k-1" {
					t.Errorf("asked since %q", r.Since)
				}
				p.reply(chat.Reply{ID: r.ID, Resync: true, Events: raws("new", 1, 2), Last: "new-3", More: how == "a reply tells"})
				if how == "a reply tells" {
					if r = p.request(); r.Since != "new-2" {
						t.Errorf("went on since %q", r.Since)
					}
					p.reply(chat.Reply{ID: r.ID, Events: raws("new", 3, 3), Last: "new-3"})
				} else {
					p.acked(50)
				}
				// What the old life had acknowledged may be lost with it.
				if say, again := p.said(); say.ID != id || again.Duplicate {
					t.Errorf("said %q again with dup %t", say.ID, again.Duplicate)
				}
				if d := cmp.Diff(append(ids("k", 1, 1), ids("new", 1, 3)...), notes.seen()); d != "" {
					t.Error(d)
				}
				if notes.resyncs != 1 || c.Last() != "new-3" {
					t.Errorf("%d resyncs, position %s", notes.resyncs, c.Last())
				}
			})
		})
	}
}

func TestRemovedEventsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.From.Own = "k-5"
		start(t, cfg)
		p := f.accept().welcome(false)
		r := p.request()
		p.event(10) // not yet stored when the answer was made
		p.quiet(time.Second)
		p.reply(chat.Reply{ID: r.ID, Resync: true, Events: raws("k", 8, 9), Last: "k-9"})
		p.acked(10)
		if d := cmp.Diff(ids("k", 8, 10), notes.seen()); d != "" || notes.resyncs != 1 {
			t.Errorf("%d resyncs; %s", notes.resyncs, d)
		}
		p.quiet(time.Minute)
	})
}

func TestEventOfAnOldIncarnationIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-4")
		p.publish("down/event", 1, 9, eventOf("old", 3))
		r := p.request() // it could as well be a newer one
		p.event(5)
		p.quiet(time.Second)
		p.reply(chat.Reply{ID: r.ID, Last: "k-4"}) // rendered before 5
		p.acked(9, 5)
		p.quiet(time.Minute)
		if d := cmp.Diff(ids("k", 5, 5), notes.seen()); d != "" {
			t.Error(d)
		}
		if notes.resyncs != 0 {
			t.Error("an old event made us start anew")
		}
	})
}

func TestPositionTheServerCannotReadIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.From.Own = "k-5"
		start(t, cfg)
		p := f.accept().welcome(false)
		p.reply(chat.Reply{ID: p.request().ID, Error: &chat.Refusal{Reason: chat.ReasonInvalid}})
		r := p.request()
		if r.Since != "" {
			t.Errorf("asked since %q", r.Since)
		}
		p.reply(chat.Reply{ID: r.ID, Events: raws("k", 1, 2), Last: "k-2"})
		p.quiet(time.Minute)
		if d := cmp.Diff(ids("k", 1, 2), notes.seen()); d != "" {
			t.Error(d)
		}
		if notes.resyncs != 1 {
			t.Errorf("%d resyncs", notes.resyncs)
		}
	})
}
