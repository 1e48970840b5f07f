package bridge

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
	storagememory "holdline/storage/memory"
)

// On other lives of the journal and of storage than the ones the bridge knew.

func TestANewEpochIsReadFromTheBeginningAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	b := w.start("a")
	talk(w)
	before := b.Stats()
	if _, err := w.journal.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.append(says(ada, "5", "in the new epoch")) // one partition with news, the others are polled
	w.settle()
	if s := b.Stats(); s.Duplicates <= before.Duplicates {
		t.Errorf("%d duplicates after reading again, had %d", s.Duplicates, before.Duplicates)
	}
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada anyone?", "3 gus hi", "4 ada order 4711", "5 ada thanks", "6 ada in the new epoch")
	w.audit()
}

func TestALostJournal(t *testing.T) {
	w := newWorld(t)
	w.start("a").stop()
	first := w.start("a")
	w.take(says(ada, "1", "hello"), says(ada, "2", "there"))
	first.stop()
	known := len(w.told(ada.Inbox()))

	j := memory.New() // with none of it
	t.Cleanup(func() { _ = j.Close() })
	w.journal, w.inputs = j, [chat.Partitions]uint64{}
	nextMillisecond()
	w.append(says(ada, "2", "there"), says(ada, "3", "again")) // the phone sends again what it has no acknowledgement of
	w.start("a")
	w.settle()
	w.wantTexts(w.only().ID, "1 ada hello", "2 ada there", "3 ada again")
	live := w.published()[topics.Inbox(ada.Inbox())]
	life, _ := w.store.Incarnation(t.Context())
	if want := fmt.Sprintf(`{"event":"%s-%d"`, life, known+1); len(live) != 2 || !strings.HasPrefix(live[0], want) || !strings.Contains(live[0], `"done"`) {
		t.Errorf("the new journal has %q for ada, want the repeat answered, beginning %s, and the news", live, want)
	}
}

// TestALostJournalCountsSessionsAnew: the epochs of sessions come from the journal.
// A desk that is opened again after a loss is there, whatever it was called before.
func TestALostJournalCountsSessionsAnew(t *testing.T) {
	w := newWorld(t)
	first := w.start("a")
	w.take(session(gus, "desk", "n1", 700, true), session(gus, "desk", "n1", 700, false))
	first.stop()

	j := memory.New()
	t.Cleanup(func() { _ = j.Close() })
	w.journal, w.inputs = j, [chat.Partitions]uint64{}
	nextMillisecond()
	w.start("a")
	w.take(nodeStart("n1")...)
	w.take(session(gus, "desk", "n1", 17, true))
	if !w.reachable("gus") {
		t.Error("gus is connected and not reachable")
	}
	w.take(session(gus, "desk", "n1", 17, false))
	if w.reachable("gus") {
		t.Error("gus is gone and still reachable")
	}
}

// shortJournal ends before what was stored of it, until it gets a new epoch.
type shortJournal struct {
	journal.Journal
	renewed atomic.Bool
}

func (j *shortJournal) Tail() journal.Cursor {
	c := j.Journal.Tail()
	if !j.renewed.Load() {
		c.Seq = 1
	}
	return c
}

func (j *shortJournal) Renew(ctx context.Context) (journal.Cursor, error) {
	c, err := j.Journal.Renew(ctx)
	j.renewed.Store(err == nil)
	return c, err
}

func TestAPositionPastTheTailBeginsANewEpoch(t *testing.T) {
	w := newWorld(t)
	w.append(says(bea, "1", "first in the journal"))
	first := w.start("a")
	w.take(says(ada, "1", "hello"), says(ada, "2", "there"))
	first.stop()
	j := &shortJournal{Journal: w.journal}
	w.startOn(j, w.store, "a", func(b *Bridge) { b.committer.patience = 0 })
	w.store.await(t, func() string {
		if !j.renewed.Load() {
			return "the journal has no new epoch"
		}
		return ""
	})
	w.settle() // under the new epoch
	w.audit()
	if n := len(w.conversations()); n != 2 {
		t.Errorf("%d conversations, want 2", n)
	}
}

// The tail of a shared journal may be late for a moment.
func TestALateTailIsNotALostOne(t *testing.T) {
	w := newWorld(t)
	w.append(says(bea, "1", "first in the journal"))
	first := w.start("a")
	w.take(says(ada, "1", "hello"))
	first.stop()
	epoch := w.journal.Tail().Epoch
	j := &shortJournal{Journal: w.journal}
	w.append(says(ada, "2", "there"))
	w.startOn(j, w.store, "a", func(b *Bridge) {
		b.committer.patience = time.Hour
		time.AfterFunc(50*time.Millisecond, func() { j.renewed.Store(true) })
	})
	w.settle()
	if now := w.journal.Tail().Epoch; now != epoch {
		t.Errorf("epoch %d became %d", epoch, now)
	}
}

// restoredWorld is a world whose storage is a backup: it knows one message of
// ada's and one of bea's, while the journal was told that more are stored, in two partitions.
func restoredWorld(t *testing.T) *world {
	w := newWorld(t)
	backup := w.store
	b := w.start("a")
	w.take(says(ada, "1", "one"), says(bea, "1", "uno"))
	b.stop()

	w.store = newGate(storagememory.New()) // what went on, and is lost
	w.hire("gus")
	b = w.start("a")
	w.take(says(ada, "2", "two"), says(ada, "3", "three"), says(bea, "2", "due"))
	b.stop()
	w.store = backup
	return w
}

func TestARestoredStorageBeginsANewIncarnationOnce(t *testing.T) {
	w := restoredWorld(t)
	was, _ := w.store.Incarnation(t.Context())
	b := w.start("a")
	w.settle()
	is, _ := w.store.Incarnation(t.Context())
	if is == was {
		t.Error("the incarnation is the same after a restore")
	}
	for _, c := range w.conversations() {
		if c.Customer == ada {
			w.wantTexts(c.ID, "1 ada one", "2 ada two", "3 ada three")
		} else {
			w.wantTexts(c.ID, "1 bea uno", "2 bea due")
		}
	}
	b.stop()
	w.start("a")
	w.take(says(ada, "4", "four"))
	if n := w.store.renewals.Load(); n != 1 {
		t.Errorf("%d incarnations were begun for one restore and one restart", n)
	}
	// The live events go on in the new life of the inbox, in order.
	var live []string
	for _, e := range w.published()[topics.Inbox(ada.Inbox())] {
		if strings.Contains(e, `"`+is+`-`) {
			live = append(live, e)
		}
	}
	if len(live) != 3 || !strings.Contains(live[0], is+"-3") || !strings.Contains(live[2], is+"-5") {
		t.Errorf("events of the new incarnation: %q, want 3 to 5", live)
	}
}

// A crash while the lost input is read again is no second restore.
func TestACrashOnTheWayBackIsNoSecondRestore(t *testing.T) {
	w := restoredWorld(t)
	dead := New(Config{Node: "a", Journal: w.journal, Store: w.store}) // gets as far as the new incarnation
	for p := range chat.Partitions {
		if err := dead.leases.claim(t.Context(), leaseName(kindInput, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, customer := range []chat.Account{ada, bea} {
		p := dead.committer.partitions[customer.Slot().Partition()]
		if _, err := dead.committer.take(t.Context(), p, w.journal.Tail()); err != nil || !p.loaded {
			t.Fatalf("take = %v, loaded %t", err, p.loaded)
		}
	}
	w.start("a", func(b *Bridge) { b.Now = func() time.Time { return time.Now().Add(time.Hour) } }) // much later
	w.settle()
	if n := w.store.renewals.Load(); n != 1 {
		t.Errorf("%d incarnations were begun for one restore", n)
	}
}

// The journal's inbox ends before the events that storage has to tell: the
// inbox begins anew, and the others of the partition go on meanwhile.
func TestAGapBeginsANewIncarnation(t *testing.T) {
	w := newWorld(t)
	b := w.start("a")
	w.take(says(ada, "1", "one"), says(ada, "2", "two"))
	b.stop()
	was, _ := w.store.Incarnation(t.Context())

	j := memory.New() // it lost all but the first event
	t.Cleanup(func() { _ = j.Close() })
	w.journal, w.inputs = j, [chat.Partitions]uint64{}
	w.append(journal.Entry{
		Topic: topics.Inbox(ada.Inbox()), Payload: []byte(`{"event":"?"}`), Partition: journal.NoPartition,
		Inbox: was + ":" + ada.Inbox().String(), Event: 1,
	})
	neighbour := ada // in the same partition
	for n := 0; neighbour == ada || neighbour.Slot().Partition() != ada.Slot().Partition(); n++ {
		neighbour.Subject = fmt.Sprint("neighbour-", n)
	}
	w.append(says(ada, "3", "three"), says(neighbour, "1", "hi"))
	w.start("a")
	w.settle()
	is, _ := w.store.Incarnation(t.Context())
	live := w.published()[topics.Inbox(ada.Inbox())]
	if is == was || len(live) != 2 || !strings.HasPrefix(live[1], `{"event":"`+is+`-4"`) {
		t.Errorf("incarnation %s became %s, ada is told %q", was, is, live)
	}
	if all := w.published()[topics.Inbox(neighbour.Inbox())]; len(all) != 2 {
		t.Errorf("the neighbour is told %q, want the message and the head", all)
	}
	if n := w.store.renewals.Load(); n != 1 {
		t.Errorf("%d incarnations were begun", n)
	}
}

func TestInputThatRetentionRemovedIsPassed(t *testing.T) {
	w := newWorld(t)
	b := w.start("a")
	w.take(says(ada, "1", "one"), says(ada, "2", "two"))
	b.stop() // has told the journal how far it is
	if err := w.journal.Retain(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.store = newGate(storagememory.New())
	w.append(says(ada, "3", "three"))
	w.start("a")
	w.settle()
	w.wantTexts(w.only().ID, "1 ada three")
}

func tellAda(u *storage.Unit) error {
	u.Tell(ada.Inbox(), chat.DoneEvent("x", "", 0, time.Now()), time.Now())
	return nil
}

func TestAFailedJournalEndsRun(t *testing.T) {
	w := newWorld(t)
	b := New(Config{Node: "a", Journal: w.journal, Store: w.store})
	b.drain = time.Millisecond
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- b.Run(t.Context(), func() { close(ready) }) }()
	<-ready
	w.journal.(*memory.Journal).Fail()
	s := &journal.Submission{Entries: []journal.Entry{says(ada, "1", "x")}}
	_ = write(t.Context(), w.journal, s) // fails; it is the next publish that tells the bridge
	if err := w.store.Store.Transact(t.Context(), scopeOf(nil, nil), tellAda); err != nil {
		t.Fatal(err)
	}
	b.publisher.mark(allPartitions)
	select {
	case err := <-ended:
		if !gone(err) {
			t.Errorf("Run = %v, want what became of the journal", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on without a journal")
	}
}
