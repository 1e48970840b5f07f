package journaltest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdline/broker/journal"
)

func followEverything(t *testing.T, d Disk) {
	j := open(t, d)
	for i := range 50 {
		write(t, j, plain("a", fmt.Sprint(i)))
	}
	var mu sync.Mutex
	var early, late []*journal.Entry
	ends := make(chan string, 2)
	stop := follow(t, j, func(entries []*journal.Entry) {
		mu.Lock()
		defer mu.Unlock()
		if early = append(early, entries...); len(early) == 100 {
			ends <- "early"
		}
	})
	defer stop()
	half, err := j.Follow(j.Tail().Seq, func(entries []*journal.Entry) {
		mu.Lock()
		defer mu.Unlock()
		if late = append(late, entries...); len(late) == 50 {
			ends <- "late"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer half()
	for i := range 25 {
		write(t, j, plain("a", fmt.Sprint(50+2*i)), plain("b", fmt.Sprint(51+2*i)))
	}
	receive(t, "the end of a follower", ends)
	receive(t, "the end of the other follower", ends)
	all := readAll(t, j, 0, 100, "#")
	mu.Lock()
	defer mu.Unlock()
	if d := diff(all, early); d != "" {
		t.Errorf("the early follower (-want +got):\n%s", d)
	}
	if d := diff(all[50:], late); d != "" {
		t.Errorf("the late follower (-want +got):\n%s", d)
	}
}

func followStops(t *testing.T, d Disk) {
	j := open(t, d)
	calls := 0
	stop, err := j.Follow(0, func([]*journal.Entry) { calls++ })
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan struct{}, 10)
	stopOther, err := j.Follow(0, func([]*journal.Entry) { other <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stopOther()
	write(t, j, plain("a", "1"))
	receive(t, "the other follower", other)
	stop()
	was := calls
	write(t, j, plain("a", "2"))
	receive(t, "the other follower", other)
	if calls != was || was > 1 {
		t.Errorf("%d calls, then %d after stop", was, calls)
	}
	// Past the tail is allowed: it begins there.
	seen := make(chan string, 10)
	stopAhead, err := j.Follow(j.Tail().Seq+1, func(entries []*journal.Entry) { seen <- payloads(entries) })
	if err != nil {
		t.Fatal(err)
	}
	defer stopAhead()
	write(t, j, plain("a", "3"))
	write(t, j, plain("a", "4"))
	if got := receive(t, "the follower ahead", seen); got != "4" {
		t.Errorf("the follower that begins after 3 sees %q", got)
	}
}

func announcements(t *testing.T, d Disk) {
	j := open(t, d)
	heard := make(chan string, 10)
	say := func(topic string) {
		t.Helper()
		if err := j.Announce(t.Context(), journal.Announcement{Topic: topic, Payload: []byte("p"), Properties: []byte{1}}); err != nil {
			t.Fatalf("Announce = %v", err)
		}
	}
	say("nobody listens")
	stop := j.Listen(func(a journal.Announcement) { heard <- "1 " + a.Topic + string(a.Payload) + fmt.Sprint(a.Properties) })
	stopOther := j.Listen(func(a journal.Announcement) { heard <- "2 " + a.Topic })
	defer stopOther()
	say("a")
	say("b")
	got := map[string]bool{}
	for range 4 {
		got[receive(t, "an announcement", heard)] = true
	}
	for _, want := range []string{"1 ap[1]", "1 bp[1]", "2 a", "2 b"} {
		if !got[want] {
			t.Errorf("heard %v, want %q too", got, want)
		}
	}
	stop()
	say("c")
	if got := receive(t, "an announcement", heard); got != "2 c" {
		t.Errorf("heard %q after stop", got)
	}
	if tail := j.Tail().Seq; tail != 0 {
		t.Errorf("announcements were written: the tail is %d", tail)
	}
	closeNow(t, j)
	if err := j.Announce(t.Context(), journal.Announcement{Topic: "d"}); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Announce on a closed journal = %v", err)
	}
	select {
	case got := <-heard:
		if strings.HasSuffix(got, "d") {
			t.Errorf("heard %q of a closed journal", got)
		}
	default:
	}
}
