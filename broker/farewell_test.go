package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
)

// filling is a journal whose disk is full at times.
type filling struct {
	*memory.Journal
	full *atomic.Bool
}

func (f filling) Append(ctx context.Context, s *journal.Submission) error {
	if !f.full.Load() {
		return f.Journal.Append(ctx, s)
	}
	done := s.Done
	return f.Journal.Append(ctx, &journal.Submission{Puts: []journal.Put{{Key: "x", If: journal.AnyVersion}}, Done: func(journal.Result) {
		done(journal.Result{Err: journal.ErrFull})
	}})
}

// lastPresence is what the journal knows last about ada's phone.
func lastPresence(t *testing.T, j *memory.Journal) (p chat.Presence) {
	t.Helper()
	a := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"}
	page, err := j.Read(t.Context(), []journal.Filter{topics.Presence(a, "phone")}, 0, 100)
	if err != nil || len(page.Entries) == 0 {
		t.Fatalf("%d entries, %v", len(page.Entries), err)
	}
	if err := json.Unmarshal(page.Entries[len(page.Entries)-1].Payload, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAnEndThatFoundNoRoomIsToldLater(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, n *node, p *phone)
	}{
		{"when the link is lost", func(t *testing.T, _ *node, p *phone) {
			if err := p.s.End(p.ctx, false, nil); !errors.Is(err, broker.ErrBusy) {
				t.Fatalf("End: %v, want ErrBusy", err)
			}
		}},
		{"when the client tried to come back", func(t *testing.T, n *node, _ *phone) {
			if _, err := n.dial(broker.Hello{Identity: customer("ada", "phone"), Expiry: time.Hour}); !errors.Is(err, broker.ErrBusy) {
				t.Fatalf("Connect: %v, want ErrBusy", err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := memory.New()
				var full atomic.Bool
				n := startOn(t, j, filling{j, &full})
				p := n.connect(customer("ada", "phone"))
				p.sub("down/#", 1)
				full.Store(true)
				tt.end(t, n, p)
				time.Sleep(time.Minute)
				if !lastPresence(t, j).Up {
					t.Fatal("the journal was full and took it all the same")
				}
				full.Store(false)
				time.Sleep(2 * time.Second)
				if lastPresence(t, j).Up {
					t.Error("ada counts as connected")
				}
				if s := n.Stats(); s.Sessions != 1 {
					t.Errorf("%d sessions wait for their client, want 1", s.Sessions)
				}
				if again := n.connect(customer("ada", "phone")); !again.present {
					t.Error("the session was not kept")
				}
			})
		})
	}
}

func TestAnEndThatFoundNoRoomIsNotToldAfterAReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := memory.New()
		var full atomic.Bool
		n := startOn(t, j, filling{j, &full})
		p := n.connect(customer("ada", "phone"))
		full.Store(true)
		if err := p.s.End(p.ctx, false, nil); !errors.Is(err, broker.ErrBusy) {
			t.Fatalf("End: %v, want ErrBusy", err)
		}
		full.Store(false)
		n.connect(customer("ada", "phone"))
		time.Sleep(time.Minute)
		if !lastPresence(t, j).Up {
			t.Error("ada is connected and counts as gone")
		}
	})
}
