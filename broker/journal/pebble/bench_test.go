package pebble

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

// BenchmarkAppend measures durable messages of 256 B per second: n writers, of
// which each waits for its message before it sends the next. A bare file that is
// written and synced for all who wait is measured in the same run, because it is
// what the disk allows; ratio is the journal's share of it.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 256, 1600} {
		raw := 0.0
		b.Run(fmt.Sprintf("writers=%d/file", writers), func(b *testing.B) {
			f := newGroupFile(b)
			raw = measure(b, writers, func() func() error {
				message := make([]byte, 256)
				done := make(chan error, 1)
				return func() error { f.write(message, done); return <-done }
			})
		})
		b.Run(fmt.Sprintf("writers=%d/journal", writers), func(b *testing.B) {
			j, err := Open(b.Context(), Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			var n atomic.Int64
			rate := measure(b, writers, func() func() error {
				w := int(n.Add(1))
				done := make(chan error, 1)
				topic := fmt.Sprintf("$hl/main/customer/%d/up/message", w)
				s := &journal.Submission{
					Entries: make([]journal.Entry, 1),
					Done:    func(r journal.Result) { done <- r.Err },
				}
				payload := make([]byte, 256)
				return func() error {
					s.Entries[0] = journal.Entry{Topic: topic, Payload: payload, Partition: w % chat.Partitions, Client: "phone-1"}
					if err := j.Append(context.Background(), s); err != nil {
						return err
					}
					return <-done
				}
			})
			b.ReportMetric(rate/raw, "ratio")
			b.ReportMetric(float64(j.Stats().Entries)/float64(j.Stats().Syncs), "msgs/sync")
		})
	}
}

// measure lets the writers send b.N messages in all, and returns the rate.
func measure(b *testing.B, writers int, writer func() func() error) (rate float64) {
	b.ReportAllocs()
	took := make([][]time.Duration, writers)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	begin, used := time.Now(), processorTime(b)
	for w := range writers {
		wg.Go(func() {
			send := writer()
			for left.Add(-1) >= 0 {
				begin := time.Now()
				if err := send(); err != nil {
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
	used = processorTime(b) - used
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(rate, "msgs/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/msg")
	return rate
}

// processorTime is what the process used so far. Beside the rate it tells the
// journal's cost from that of a busy machine.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// groupFile appends to a bare file: one write and one sync for all that wait.
type groupFile struct {
	f    *os.File
	wake chan struct{}

	mu      sync.Mutex
	pending []byte
	waiting []chan error
}

func newGroupFile(b *testing.B) *groupFile {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	g := &groupFile{f: f, wake: make(chan struct{}, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var data []byte
		var waiting []chan error
		for range g.wake {
			g.mu.Lock()
			data, g.pending = g.pending, data[:0]
			waiting, g.waiting = g.waiting, waiting[:0]
			g.mu.Unlock()
			_, err := g.f.Write(data)
			if err == nil {
				err = g.f.Sync()
			}
			for _, w := range waiting {
				w <- err
			}
		}
	}()
	b.Cleanup(func() {
		close(g.wake)
		<-ended
		f.Close()
	})
	return g
}

func (g *groupFile) write(message []byte, done chan error) {
	g.mu.Lock()
	g.pending = append(g.pending, message...)
	g.waiting = append(g.waiting, done)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// BenchmarkRead measures readers behind the ring: one account's messages among
// those of many, and a scan with a wildcard.
func BenchmarkRead(b *testing.B) {
	j, err := Open(b.Context(), Options{Dir: b.TempDir(), RingBytes: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	const accounts, each = 1000, 100
	done := make(chan error, 1)
	for range each {
		s := &journal.Submission{Done: func(r journal.Result) { done <- r.Err }}
		for a := range accounts {
			s.Entries = append(s.Entries, journal.Entry{
				Topic: fmt.Sprintf("$hl/main/customer/%d/down/event", a), Payload: make([]byte, 256), Partition: journal.NoPartition,
			})
		}
		if err := j.Append(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	for _, bb := range []struct {
		name   string
		filter string
		want   int
	}{
		{"account", "$hl/main/customer/77/#", each},
		{"wildcard", "$hl/main/+/77/down/event", each},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for after := uint64(0); after < j.Tail().Seq; {
					page, err := j.Read(b.Context(), []string{bb.filter}, after, 16)
					if err != nil {
						b.Fatal(err)
					}
					n += len(page.Entries)
					after = page.Through
				}
				if n != bb.want {
					b.Fatalf("%d entries, want %d", n, bb.want)
				}
			}
		})
	}
}
