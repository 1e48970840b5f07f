package jetstream_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/journal/jetstream"
	"holdline/broker/journal/pebble"
	"holdline/chat"
)

// BenchmarkAppend measures durable messages of 256 B per second: n writers, of
// which each waits for its message before it sends the next. The embedded journal is
// measured in the same run; ratio is this journal's share of its rate. The servers
// are processes of this machine, share its disk, and sync always.
func BenchmarkAppend(b *testing.B) {
	one, three := jetstream.NewTestCluster(b, 1), jetstream.NewTestCluster(b, 3)
	for _, writers := range []int{1, 16, 256} {
		embedded := 0.0
		b.Run(fmt.Sprintf("writers=%d/pebble", writers), func(b *testing.B) {
			j, err := pebble.Open(b.Context(), pebble.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			embedded = measure(b, j, writers)
		})
		for _, c := range []struct {
			name     string
			url      string
			replicas int
		}{{"one", one, 1}, {"three", three, 3}} {
			b.Run(fmt.Sprintf("writers=%d/%s", writers, c.name), func(b *testing.B) {
				j, err := jetstream.Open(b.Context(), jetstream.Options{URL: c.url, Stream: fmt.Sprintf("bench%d-%d", writers, time.Now().UnixNano()), Replicas: c.replicas})
				if err != nil {
					b.Fatal(err)
				}
				rate := measure(b, j, writers)
				b.ReportMetric(rate/embedded, "ratio")
			})
		}
	}
}

// measure lets the writers send b.N messages in all, and returns the rate.
func measure(b *testing.B, j journal.Journal, writers int) (rate float64) {
	took := make([][]time.Duration, writers)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	begin := time.Now()
	for w := range writers {
		wg.Go(func() {
			done := make(chan error, 1)
			topic := fmt.Sprintf("$hl/main/customer/%d/up/message", w)
			s := &journal.Submission{Entries: make([]journal.Entry, 1), Done: func(r journal.Result) { done <- r.Err }}
			payload := make([]byte, 256)
			for left.Add(-1) >= 0 {
				begin := time.Now()
				s.Entries[0] = journal.Entry{Topic: topic, Payload: payload, Partition: w % chat.Partitions, Client: "phone-1"}
				err := j.Append(context.Background(), s)
				if err == nil {
					err = <-done
				}
				if err != nil {
					b.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(begin))
			}
		})
	}
	wg.Wait()
	rate = float64(b.N) / time.Since(begin).Seconds()
	b.StopTimer()
	stats := j.Stats()
	if err := j.Close(); err != nil {
		b.Error(err)
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(rate, "msgs/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(stats.Entries)/float64(stats.Syncs), "msgs/batch")
	return rate
}
