package storagetest

import (
	"errors"
	"fmt"
	"time"

	"holdline/chat"
	"holdline/storage"
)

var events = map[string]func(*fixture){
	"events wait until they are published":         eventsWait,
	"unpublished events come by inbox and number":  eventsInOrder,
	"unpublished events keep to their partition":   eventsByPartition,
	"only the publisher marks events":              eventsUnderLease,
	"events are read on after a number":            eventsAfter,
	"maintenance forgets what was published":       eventsForgotten,
	"events of a new unit follow across instances": eventsAcrossUnits,
}

// tell appends n events to inboxes in turns.
func (f *fixture) tell(at time.Time, n int, inboxes ...chat.Inbox) {
	f.Helper()
	f.transact(storage.Scope{}, func(u *storage.Unit) error {
		for i := range n {
			for _, in := range inboxes {
				u.Tell(in, chat.Event{Type: chat.TypeDone, ID: chat.MessageID(fmt.Sprintf("%s %d", in, i))}, at)
			}
		}
		return nil
	})
}

func partitionOf(i chat.Inbox) int { return i.Slot().Partition() }

// names writes events down short, for comparing.
func names(list []storage.Event) []string {
	s := []string{}
	for _, e := range list {
		s = append(s, fmt.Sprintf("%s %d", e.Inbox, e.N))
	}
	return s
}

func eventsWait(f *fixture) {
	in := ada.Inbox()
	f.tell(noon, 3, in)
	p := partitionOf(in)
	list, err := f.Unpublished(f.ctx, p, 10)
	f.must(err)
	want := []storage.Event{}
	for n := range 3 {
		want = append(want, storage.Event{Inbox: in, N: uint64(n + 1), At: noon,
			Body: chat.Event{Type: chat.TypeDone, ID: chat.MessageID(fmt.Sprintf("%s %d", in, n))}.Body()})
	}
	f.want("unpublished", list, want)

	l := f.lease("publish/00", "n1")
	f.must(f.Published(f.ctx, l, list[:2]))
	f.must(f.Published(f.ctx, l, list[:2])) // twice is harmless
	f.must(f.Published(f.ctx, l, []storage.Event{{Inbox: in, N: 99}, {Inbox: grace.Inbox(), N: 1}}))
	f.must(f.Published(f.ctx, l, nil))
	list, err = f.Unpublished(f.ctx, p, 10)
	f.must(err)
	f.want("unpublished", names(list), []string{"main/customer/ada 3"})
	all, err := f.Events(f.ctx, in, 0, 10)
	f.must(err)
	f.want("all", all, want)
}

func eventsInOrder(f *fixture) {
	// Inboxes that share a partition and sort differently by language than by bytes.
	var same []chat.Inbox
	for i := 0; len(same) < 4; i++ {
		for _, letter := range []string{"b", "B", "é", "a"} {
			in := chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprintf("%s%d", letter, i)}.Inbox()
			if partitionOf(in) == 4 && len(same) < 4 {
				same = append(same, in)
			}
		}
	}
	f.tell(noon, 3, same...)
	f.tell(noon.Add(-time.Hour), 2, same[0]) // the clock of another process
	list, err := f.Unpublished(f.ctx, 4, 100)
	f.must(err)
	f.want("events", len(list), 14)
	for i := 1; i < len(list); i++ {
		switch c := storage.CompareInboxes(list[i-1].Inbox, list[i].Inbox); {
		case c > 0, c == 0 && list[i-1].N+1 != list[i].N, c < 0 && list[i].N != 1:
			f.Errorf("%v", names(list))
			return
		}
	}
	few, err := f.Unpublished(f.ctx, 4, 5)
	f.must(err)
	f.want("the first five", names(few), names(list[:5]))
}

func eventsByPartition(f *fixture) {
	seen := map[string]int{}
	for i := range 60 {
		f.tell(noon, 1, customer(i).Inbox())
	}
	for p := range chat.Partitions {
		list, err := f.Unpublished(f.ctx, p, 100)
		f.must(err)
		for _, e := range list {
			seen[e.Inbox.String()]++
			f.want("partition of "+e.Inbox.String(), partitionOf(e.Inbox), p)
		}
	}
	f.want("inboxes", len(seen), 60)
}

func eventsUnderLease(f *fixture) {
	in := ada.Inbox()
	f.tell(noon, 1, in)
	old := f.lease("publish/00", "n1")
	f.lease("publish/00", "n1")
	f.wantErr("Published under a stale lease", f.Published(f.ctx, old, []storage.Event{{Inbox: in, N: 1}}), storage.ErrFenced)
	list, err := f.Unpublished(f.ctx, partitionOf(in), 10)
	f.must(err)
	f.want("unpublished", names(list), []string{"main/customer/ada 1"})
}

func eventsAfter(f *fixture) {
	in := ada.Inbox()
	f.tell(noon, 10, in, grace.Inbox())
	list, err := f.Events(f.ctx, in, 4, 3)
	f.must(err)
	f.want("events", names(list), []string{"main/customer/ada 5", "main/customer/ada 6", "main/customer/ada 7"})
	list, err = f.Events(f.ctx, in, 10, 3)
	f.must(err)
	f.want("events", names(list), []string{})
	list, err = f.Events(f.ctx, chat.Inbox{Tenant: "other", Kind: "customer", Name: "ada"}, 0, 3)
	f.must(err)
	f.want("events of another tenant", names(list), []string{})
	n, err := f.LastEvent(f.ctx, in)
	f.must(err)
	f.want("LastEvent", n, uint64(10))
}

func eventsForgotten(f *fixture) {
	in := ada.Inbox()
	f.tell(noon, 2, in)
	f.tell(noon.Add(time.Hour), 2, in)
	l := f.lease("publish/00", "n1")
	list, err := f.Events(f.ctx, in, 0, 10)
	f.must(err)
	// Number 2 is old, and was never published; 4 is new.
	f.must(f.Published(f.ctx, l, []storage.Event{list[0], list[2]}))
	f.must(f.Maintain(f.ctx, noon.Add(2*time.Hour), noon.Add(time.Hour)))
	list, err = f.Events(f.ctx, in, 0, 10)
	f.must(err)
	f.want("events", names(list), []string{"main/customer/ada 2", "main/customer/ada 3", "main/customer/ada 4"})
	f.must(f.Published(f.ctx, l, list))
	f.must(f.Maintain(f.ctx, noon.AddDate(1, 0, 0), noon.AddDate(1, 0, 0)))
	n, err := f.LastEvent(f.ctx, in)
	f.must(err)
	f.want("LastEvent", n, uint64(4))
	f.tell(noon, 1, in)
	list, err = f.Events(f.ctx, in, 0, 10)
	f.must(err)
	f.want("the number goes on", names(list), []string{"main/customer/ada 5"})
}

func eventsAcrossUnits(f *fixture) {
	in := ada.Inbox()
	for range 5 {
		f.tell(noon, 2, in)
		err := f.Transact(f.ctx, storage.Scope{}, func(u *storage.Unit) error {
			u.Tell(in, chat.Event{Type: chat.TypeDone}, noon)
			return chat.ErrInvalid
		})
		if !errors.Is(err, chat.ErrInvalid) {
			f.Fatal(err)
		}
	}
	list, err := f.Events(f.ctx, in, 0, 100)
	f.must(err)
	for i, e := range list {
		f.want("number", e.N, uint64(i+1))
	}
	f.want("events", len(list), 10)
}
