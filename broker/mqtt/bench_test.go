package mqtt_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// BenchmarkPairs has pairs of a publisher and a subscriber, QoS 1 both ways,
// 256 bytes, 16 publishes under way each. One operation is one message that was
// acknowledged to its publisher and, acknowledged, delivered to its subscriber.
//
// HOLDLINE_PROBE_PEER=host:port measures another broker in the same way.
func BenchmarkPairs(b *testing.B) {
	for _, pairs := range []int{1, 100} {
		b.Run(fmt.Sprint(pairs), func(b *testing.B) { benchPairs(b, pairs, 16) })
	}
}

func benchPairs(b *testing.B, pairs, window int) {
	addr := startProbe(b).Addr
	each := max(1, b.N/pairs)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	latency := make([]time.Duration, pairs)
	for i := range pairs {
		ready.Add(2)
		topic := fmt.Sprint("bench/", i)
		done.Go(func() { benchSubscriber(b, addr, fmt.Sprint("s", i), topic, each, &ready) })
		done.Go(func() { latency[i] = benchPublisher(b, addr, fmt.Sprint("p", i), topic, each, window, &ready, begin) })
	}
	ready.Wait()
	b.ResetTimer()
	close(begin)
	done.Wait()
	b.StopTimer()
	var sum time.Duration
	for _, l := range latency {
		sum += l
	}
	b.ReportMetric(float64(each*pairs)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(sum.Microseconds())/float64(each*pairs), "µs/puback")
}

func benchDial(b *testing.B, addr, id string) (net.Conn, *bufio.Reader) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return nil, nil
	}
	var p []byte
	p = append(p, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60)
	p = binary.BigEndian.AppendUint16(p, uint16(len(id)))
	p = append(p, id...)
	r := bufio.NewReaderSize(c, 64<<10)
	_, _ = c.Write(append([]byte{0x10, byte(len(p))}, p...))
	var ack [4]byte
	if _, err := io.ReadFull(r, ack[:]); err != nil || ack[3] != 0 {
		b.Errorf("CONNACK %x: %v", ack, err)
	}
	return c, r
}

func benchSubscriber(b *testing.B, addr, id, topic string, n int, ready *sync.WaitGroup) {
	c, r := benchDial(b, addr, id)
	if c == nil {
		ready.Done()
		return
	}
	defer c.Close()
	p := []byte{0, 1}
	p = binary.BigEndian.AppendUint16(p, uint16(len(topic)))
	p = append(append(p, topic...), 1)
	_, _ = c.Write(append([]byte{0x82, byte(len(p))}, p...))
	if _, err := r.Discard(5); err != nil {
		b.Error(err)
	}
	ready.Done()
	var acks []byte
	for got := 0; got < n; {
		packet, err := benchPacket(r)
		if err != nil {
			b.Errorf("after %d of %d: %v", got, n, err)
			return
		}
		at := 2 + int(binary.BigEndian.Uint16(packet))
		acks = append(acks, 0x40, 2, packet[at], packet[at+1])
		got++
		if r.Buffered() == 0 || len(acks) >= 256 {
			if _, err := c.Write(acks); err != nil {
				b.Error(err)
				return
			}
			acks = acks[:0]
		}
	}
}

func benchPacket(r *bufio.Reader) ([]byte, error) {
	if _, err := r.ReadByte(); err != nil {
		return nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

// benchPublisher returns the sum of the times from publish to acknowledgement.
func benchPublisher(b *testing.B, addr, id, topic string, n, window int, ready *sync.WaitGroup, begin chan struct{}) (sum time.Duration) {
	c, r := benchDial(b, addr, id)
	ready.Done()
	<-begin
	if c == nil {
		return 0
	}
	defer c.Close()
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	at := len(body)
	body = append(body, make([]byte, 2+256)...)
	var out []byte
	sent, acked := 0, 0
	times := make([]time.Time, window)
	for acked < n {
		out = out[:0]
		now := time.Now()
		for sent < n && sent-acked < window {
			binary.BigEndian.PutUint16(body[at:], uint16(sent%60000+1))
			out = append(out, 0x32)
			out = binary.AppendUvarint(out, uint64(len(body)))
			out = append(out, body...)
			times[sent%window] = now
			sent++
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				b.Error(err)
				return sum
			}
		}
		for first := true; first || r.Buffered() >= 4; first = false {
			var ack [4]byte
			if _, err := io.ReadFull(r, ack[:]); err != nil || ack[0] != 0x40 {
				b.Errorf("PUBACK %x: %v", ack, err)
				return sum
			}
			sum += time.Since(times[acked%window])
			acked++
		}
	}
	return sum
}

// BenchmarkIdle reports what one idle connection with a session and a
// subscription costs, the test's own end included.
func BenchmarkIdle(b *testing.B) {
	const conns = 4000
	addr := startOwn(b).Addr
	open := make([]net.Conn, 0, conns)
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		for i := range conns {
			c, r := benchDial(b, addr, fmt.Sprint("idle", i))
			p := []byte{0, 1, 0, 1, 'a', 1}
			_, _ = c.Write(append([]byte{0x82, byte(len(p))}, p...))
			if _, err := r.Discard(5); err != nil {
				b.Fatal(err)
			}
			open = append(open, c)
		}
		for range 3 { // stacks shrink, pools empty
			runtime.GC()
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/conns, "B/conn")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/conns, "stack-B/conn")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/conns, "goroutines/conn")
	}
}
