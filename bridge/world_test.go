package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
	storagememory "holdline/storage/memory"
)

var (
	ada  = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	bea  = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "bea"}
	gus  = chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "gus"}
	ida  = chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "ida"}
	mote = chat.Account{Tenant: "main", Role: chat.Device, Subject: "mote"}
)

// patience is for what must happen; a test that waits so long has failed.
const patience = 20 * time.Second

// world is a journal and a store, with bridges that come and go.
type world struct {
	*testing.T
	journal journal.Journal
	store   *gate
	inputs  [chat.Partitions]uint64 // the last input appended, by partition
}

func newWorld(t *testing.T) *world {
	j := memory.New()
	t.Cleanup(func() { _ = j.Close() })
	return worldOn(t, j, storagememory.New())
}

func worldOn(t *testing.T, j journal.Journal, s storage.Store) *world {
	w := &world{T: t, journal: j, store: newGate(s)}
	for _, a := range []chat.Account{gus, ida} {
		w.hire(a.Subject)
	}
	return w
}

func (w *world) hire(id string) {
	w.Helper()
	err := w.store.PutAgent(w.Context(), storage.Credential{
		Agent:        chat.Agent{Tenant: "main", ID: id, Name: strings.ToUpper(id), Intent: chat.Available, Capacity: 3},
		PasswordHash: "-",
	}, true, storage.Audit{Tenant: "main", Actor: "test", Action: "add", Object: id})
	if err != nil && !errors.Is(err, chat.ErrConflict) {
		w.Fatalf("hire %s: %v", id, err)
	}
}

// running is a bridge at work.
type running struct {
	*Bridge
	stop func() // waits for Run; more than once is fine
}

// start runs a bridge on the world's journal and store.
func (w *world) start(node string, change ...func(*Bridge)) *running {
	w.Helper()
	return w.startOn(w.journal, w.store, node, change...)
}

func (w *world) startOn(j journal.Journal, s storage.Store, node string, change ...func(*Bridge)) *running {
	w.Helper()
	b := New(Config{Node: node, Journal: j, Store: s, Log: logTo(w.T)})
	b.drain, b.publisher.markAfter = 200*time.Millisecond, time.Millisecond
	for _, c := range change {
		c(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.Run(ctx, func() { close(ready) }) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && !gone(err) {
				w.Errorf("Run = %v", err)
			}
		case <-time.After(patience):
			w.Errorf("bridge %s does not stop", node)
		}
	})
	w.Cleanup(stop)
	select {
	case <-ready:
	case <-time.After(patience):
		w.Fatalf("bridge %s is not ready", node)
	}
	return &running{b, stop}
}

// append puts entries into the journal as a broker would, and returns when they are durable.
func (w *world) append(entries ...journal.Entry) {
	w.Helper()
	w.appendTo(w.journal, entries...)
}

func (w *world) appendTo(j journal.Journal, entries ...journal.Entry) {
	w.Helper()
	s := &journal.Submission{Entries: entries}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := write(ctx, j, s); err != nil {
		w.Fatalf("append: %v", err)
	}
	for _, e := range s.Entries {
		if e.Partition >= 0 {
			w.inputs[e.Partition] = e.Seq
		}
	}
}

// up is the full name of what an account published.
func up(a chat.Account, name string) string {
	return strings.TrimSuffix(topics.Inbox(a.Inbox()), "down/event") + name
}

// publishes is the entry of a publish.
func publishes(a chat.Account, name string, payload any) journal.Entry {
	b, ok := payload.([]byte)
	if !ok {
		b, _ = json.Marshal(payload)
	}
	slot := a.Slot()
	var named struct{ Conversation chat.ConversationID }
	if json.Unmarshal(b, &named) == nil {
		if s, err := named.Conversation.Slot(); err == nil {
			slot = s
		}
	}
	return journal.Entry{Topic: up(a, name), Payload: b, Partition: slot.Partition(), Client: a.Subject + "-1"}
}

func says(a chat.Account, id, text string) journal.Entry {
	return publishes(a, "up/message", chat.Say{ID: chat.MessageID(id), Text: text})
}

func saysIn(a chat.Account, id string, c chat.ConversationID, epoch uint64, text string) journal.Entry {
	return publishes(a, "up/message", chat.Say{ID: chat.MessageID(id), Conversation: c, Epoch: epoch, Text: text})
}

func does(a chat.Account, id string, do chat.Action, c chat.ConversationID, epoch uint64) journal.Entry {
	return publishes(a, "up/command", chat.Command{ID: chat.MessageID(id), Do: do, Conversation: c, Epoch: epoch})
}

func session(a chat.Account, client, node string, epoch uint64, isUp bool) journal.Entry {
	b, _ := json.Marshal(chat.Presence{Up: isUp, Epoch: epoch, Node: node, Name: strings.ToUpper(a.Subject)})
	return journal.Entry{Topic: topics.Presence(a, client), Payload: b, Partition: a.Slot().Partition()}
}

// settle waits until everything appended is stored, published and marked.
func (w *world) settle() {
	w.Helper()
	w.store.await(w.T, func() string {
		for p, seq := range w.inputs {
			at, err := w.store.Store.Position(context.Background(), p)
			if err != nil {
				return err.Error()
			}
			if epoch := w.journal.Tail().Epoch; seq > 0 && (at.Journal != epoch || at.Seq < seq) {
				return fmt.Sprintf("partition %d is stored up to %+v of %d", p, at, seq)
			}
			if left, err := w.store.Store.Unpublished(context.Background(), p, 10); err != nil || len(left) > 0 {
				return fmt.Sprintf("partition %d has %d events unpublished (%v)", p, len(left), err)
			}
		}
		return ""
	})
}

// take appends and settles.
func (w *world) take(entries ...journal.Entry) {
	w.Helper()
	w.append(entries...)
	w.settle()
}

// told are the events of an inbox in storage.
func (w *world) told(i chat.Inbox) []chat.Event {
	w.Helper()
	rows, err := w.store.Events(context.Background(), i, 0, 5000)
	if err != nil {
		w.Fatal(err)
	}
	var list []chat.Event
	for n, r := range rows {
		if r.N != uint64(n+1) {
			w.Errorf("inbox %s: event %d has number %d", i, n+1, r.N)
		}
		var e chat.Event
		if err := json.Unmarshal(r.Body, &e); err != nil {
			w.Fatalf("inbox %s: event %d: %v", i, r.N, err)
		}
		list = append(list, e)
	}
	return list
}

// last is the newest event of an inbox.
func (w *world) last(i chat.Inbox) chat.Event {
	w.Helper()
	list := w.told(i)
	if len(list) == 0 {
		w.Fatalf("inbox %s was told nothing", i)
	}
	return list[len(list)-1]
}

// conversations are all heads, by (Since, ID).
func (w *world) conversations() []*chat.Conversation {
	w.Helper()
	list, err := w.store.Conversations(context.Background(), storage.ConversationQuery{Tenant: "main", Limit: 500})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// only is the one conversation there is.
func (w *world) only() *chat.Conversation {
	w.Helper()
	list := w.conversations()
	if len(list) != 1 {
		w.Fatalf("there are %d conversations, want 1", len(list))
	}
	return list[0]
}

// texts are the messages of a conversation as "seq role/subject text".
func (w *world) texts(id chat.ConversationID) []string {
	w.Helper()
	var list []string
	for before := uint64(0); ; {
		page, err := w.store.Messages(context.Background(), "main", id, before, 200)
		if err != nil {
			w.Fatal(err)
		}
		for _, m := range page {
			list = append(list, fmt.Sprintf("%d %s %s", m.Seq, m.From.Subject, m.Text))
		}
		if len(page) < 200 {
			break
		}
		before = page[len(page)-1].Seq
	}
	slices.Reverse(list)
	return list
}

func (w *world) wantTexts(id chat.ConversationID, want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.texts(id)); diff != "" {
		w.Errorf("messages of %s (-want +got):\n%s", id, diff)
	}
}

// audit checks what must hold at any time everything is settled: seq and event
// numbers without gaps, times that never fall, one open conversation for each
// customer, and an inbox in the journal that is the inbox in storage.
func (w *world) audit() {
	w.Helper()
	open := map[chat.Account]chat.ConversationID{}
	inboxes := map[chat.Inbox]bool{chat.DefaultQueue.Inbox("main"): true, gus.Inbox(): true, ida.Inbox(): true}
	for _, c := range w.conversations() {
		inboxes[c.Customer.Inbox()] = true
		if c.IsOpen() {
			if other := open[c.Customer]; other != "" {
				w.Errorf("%s has two conversations open: %s and %s", c.Customer, other, c.ID)
			}
			open[c.Customer] = c.ID
		}
		seq, at := c.Seq, c.LastAt
		for before := uint64(0); ; {
			page, err := w.store.Messages(context.Background(), "main", c.ID, before, 200)
			if err != nil {
				w.Fatal(err)
			}
			for _, m := range page {
				if m.Seq != seq || m.At.After(at) {
					w.Errorf("conversation %s: message %d at %s, want %d not after %s", c.ID, m.Seq, m.At, seq, at)
				}
				seq, at = m.Seq-1, m.At
			}
			if len(page) < 200 {
				break
			}
			before = page[len(page)-1].Seq
		}
		if seq != 0 {
			w.Errorf("conversation %s: messages up to %d are missing", c.ID, seq)
		}
	}
	live := w.published()
	for i := range inboxes {
		rows, err := w.store.Events(context.Background(), i, 0, 5000)
		if err != nil {
			w.Fatal(err)
		}
		incarnation, _ := w.store.Incarnation(context.Background())
		var want []string
		for n, r := range rows {
			if r.N != uint64(n+1) {
				w.Errorf("inbox %s: event %d has number %d", i, n+1, r.N)
			}
			want = append(want, string(chat.Numbered(chat.NewEventID(incarnation, r.N), r.Body)))
		}
		if diff := cmp.Diff(want, live[topics.Inbox(i)]); diff != "" {
			w.Errorf("inbox %s in the journal (-storage +journal):\n%s", i, diff)
		}
	}
}

// published are the payloads of the inbox entries in the journal, by topic.
func (w *world) published() map[string][]string {
	w.Helper()
	live := map[string][]string{}
	for after := uint64(0); ; {
		page, err := w.journal.Read(context.Background(), []journal.Filter{topics.Everything("main")}, after, 1000)
		if err != nil {
			w.Fatal(err)
		}
		for _, e := range page.Entries {
			if e.Inbox != "" {
				live[e.Topic] = append(live[e.Topic], string(e.Payload))
				life, _, _ := strings.Cut(e.Inbox, ":")
				if id := `{"event":"` + string(chat.NewEventID(life, e.Event)) + `"`; !strings.HasPrefix(string(e.Payload), id) && len(e.Payload) > 20 {
					w.Errorf("entry %d is event %d of %s, and says %s", e.Seq, e.Event, e.Inbox, e.Payload)
				}
			}
		}
		if after = page.Through; after >= w.journal.Tail().Seq {
			return live
		}
	}
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}
