package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
	"holdline/storage"
)

// benchmarks run on the embedded engines: what one machine does.
func benchmarkWorld(b *testing.B) (journal.Journal, storage.Store, func()) {
	b.Helper()
	j, s := openPebble(b), openSQLite(b)
	bridge := New(Config{Node: "a", Journal: j, Store: s, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- bridge.Run(ctx, func() { close(ready) }) }()
	<-ready
	return j, s, func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if n := bridge.Stats(); n.Entries < uint64(b.N) {
			b.Errorf("%d entries stored of %d", n.Entries, b.N)
		} else {
			b.ReportMetric(n.GroupSize(), "entries/group")
		}
	}
}

// BenchmarkMessage is the way of one message when nothing else goes on: from
// its publish to its event in the journal, two syncs and a commit in between.
func BenchmarkMessage(b *testing.B) {
	j, _, stop := benchmarkWorld(b)
	defer stop()
	arrived := make(chan time.Time, 1000)
	end, err := j.Follow(j.Tail().Seq, func(list []*journal.Entry) {
		for _, e := range list {
			if e.Inbox != "" && e.Topic[len(e.Topic)-len("ada/down/event"):] == "ada/down/event" {
				arrived <- time.Now()
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer end()
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		begin := time.Now()
		s := &journal.Submission{Entries: []journal.Entry{says(ada, fmt.Sprint(n), "hello")}}
		if err := j.Append(context.Background(), s); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-arrived).Sub(begin))
		if n == 0 {
			<-arrived // the head of the new conversation
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkBacklog is how fast input is stored and published that 1000
// customers have left in the journal.
func BenchmarkBacklog(b *testing.B) {
	j, _, stop := benchmarkWorld(b)
	defer stop()
	arrived := make(chan int, 100000)
	end, err := j.Follow(j.Tail().Seq, func(list []*journal.Entry) {
		n := 0
		for _, e := range list {
			if e.Inbox != "" {
				n++
			}
		}
		arrived <- n
	})
	if err != nil {
		b.Fatal(err)
	}
	defer end()
	for b.Loop() {
		const messages, size = 10000, 1000
		want := 0
		for n := 0; n < messages; n += size {
			s := &journal.Submission{}
			for i := range size {
				a := chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprint("customer-", i)}
				s.Entries = append(s.Entries, says(a, fmt.Sprint(time.Now().UnixNano(), "-", i), "Hello, where is my order 4711? I have been waiting for a week now."))
				want += 2 // the customer and the queue
			}
			if err := j.Append(context.Background(), s); err != nil {
				b.Fatal(err)
			}
		}
		begin := time.Now()
		for got := 0; got < want; {
			got += <-arrived
		}
		b.ReportMetric(messages/time.Since(begin).Seconds(), "messages/s")
	}
}
