package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// replies collects what is announced to a session.
func (w *world) replies(a chat.Account, client string) <-chan []byte {
	c := make(chan []byte, 1000)
	w.Cleanup(w.journal.Listen(func(an journal.Announcement) {
		if an.Topic == topics.Reply(a, client) {
			c <- an.Payload
		}
	}))
	return c
}

func (w *world) reply(from <-chan []byte) chat.Reply {
	w.Helper()
	select {
	case b := <-from:
		if len(b) > chat.MaxPayloadBytes {
			w.Errorf("a reply of %d bytes", len(b))
		}
		var r chat.Reply
		if err := json.Unmarshal(b, &r); err != nil {
			w.Fatalf("reply %s: %v", b, err)
		}
		return r
	case <-time.After(patience):
		w.Fatal("no reply")
		panic("unreachable")
	}
}

func asks(a chat.Account, id string, since chat.EventID, limit int) journal.Entry {
	return publishes(a, "up/request", chat.Request{ID: chat.MessageID(id), Op: chat.OpSync, Since: since, Limit: limit})
}

func TestSyncTellsWhatCameAfter(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	for n := range 5 {
		w.take(says(ada, fmt.Sprint(n), fmt.Sprint("word ", n)))
	}
	life, _ := w.store.Incarnation(t.Context())
	id := func(n uint64) chat.EventID { return chat.NewEventID(life, n) }
	replies := w.replies(ada, "ada-1")
	for _, tt := range []struct {
		name   string
		since  chat.EventID
		limit  int
		first  uint64
		count  int
		more   bool
		resync bool
	}{
		{"from the start", "", 0, 1, 6, false, false},
		{"after one that is known", id(4), 0, 5, 2, false, false},
		{"a page", id(1), 2, 2, 2, true, false},
		{"nothing new", id(6), 0, 0, 0, false, false},
		{"ahead of the inbox", id(99), 0, 1, 6, false, true},
		{"another life", "other-3", 3, 1, 3, true, true},
		{"not an event id", "?", 0, 1, 6, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.append(asks(ada, tt.name, tt.since, tt.limit))
			r := w.reply(replies)
			if r.ID != chat.MessageID(tt.name) || r.Error != nil || len(r.Events) != tt.count || r.More != tt.more || r.Resync != tt.resync || r.Last != id(6) {
				t.Errorf("reply %+v with %d events, want %d, more %t, resync %t", r, len(r.Events), tt.count, tt.more, tt.resync)
			}
			for n, raw := range r.Events {
				var e chat.Event
				if err := json.Unmarshal(raw, &e); err != nil || e.Event != id(tt.first+uint64(n)) {
					t.Errorf("event %d is %s (%v), want %s", n, e.Event, err, id(tt.first+uint64(n)))
				}
			}
		})
	}
	if w.settle(); len(w.told(ada.Inbox())) != 6 {
		t.Error("a request told something in the inbox")
	}
}

// A client that follows More gets everything once, in replies that fit a packet.
func TestSyncPagesFitAPacket(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	const messages = 40
	var all []journal.Entry
	for n := range messages {
		all = append(all, says(ada, fmt.Sprint(n), strings.Repeat("<x>", 2000+n*10)))
	}
	w.take(all...)
	replies := w.replies(ada, "ada-1")
	var since chat.EventID
	got, pages := 0, 0
	for more := true; more; pages++ {
		w.append(asks(ada, fmt.Sprint("p", pages), since, 200))
		r := w.reply(replies)
		for _, raw := range r.Events {
			var e chat.Event
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			if e.Type == chat.TypeMessage {
				got++
			}
			since = e.Event
		}
		more = r.More
	}
	if got != messages || pages < 5 {
		t.Errorf("%d messages in %d pages, want %d in several", got, pages, messages)
	}
}

func TestARequestThatCannotBeUnderstood(t *testing.T) {
	w := newWorld(t)
	w.start("a")
	replies := w.replies(ada, "ada-1")
	w.append(publishes(ada, "up/request", []byte(`{"request":"r","op":"dance"}`)))
	if r := w.reply(replies); r.ID != "r" || r.Error == nil || r.Error.Reason != chat.ReasonInvalid {
		t.Errorf("reply %+v, want invalid", r)
	}
	w.take(publishes(ada, "up/request", []byte(`[]`)))
	if e := w.last(ada.Inbox()); e.Reason != chat.ReasonInvalid {
		t.Errorf("told %+v, want refused invalid", e)
	}
}

// While storage does not answer reads, input is stored all the same; requests
// beyond the queue are told to ask again, and so are those whose time is over.
func TestSlowReadsHoldUpNothing(t *testing.T) {
	w := newWorld(t)
	hold := make(chan struct{})
	w.store.reading = func(ctx context.Context) error {
		select {
		case <-hold:
			return errors.New("storage is slow")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b := w.start("a")
	replies := w.replies(ada, "ada-1")
	const requests = answerQueue + answerWorkers + 10
	var all []journal.Entry
	for n := range requests {
		all = append(all, asks(ada, fmt.Sprint(n), "", 0))
	}
	w.append(all...)
	w.take(says(ada, "1", "hello"))
	if got := b.Stats().Entries; got != requests+1 {
		t.Errorf("%d entries stored, want %d", got, requests+1)
	}
	for range requests - answerQueue - answerWorkers {
		if r := w.reply(replies); r.Error == nil || r.Error.Reason != chat.ReasonBusy {
			t.Errorf("reply %+v, want busy", r)
		}
	}
	close(hold)
	for range answerQueue + answerWorkers {
		if r := w.reply(replies); r.Error == nil || r.Error.Reason != chat.ReasonBusy {
			t.Errorf("reply %+v, want busy", r)
		}
	}
}
