package jetstream

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"holdline/broker/journal"
)

const (
	// heartbeat is how often the server says that there is nothing; after two that
	// did not come the consumer is made anew, on another server if need be.
	heartbeat = time.Second
	// messageQueue is how much may wait for the releaser; then the consumer waits.
	messageQueue = 256
	// pulledMessages and pulledBytes are how much the server may send ahead.
	pulledMessages = 4000
	pulledBytes    = 8 << 20
)

// tail is this process's one ordered view of the stream's entries and of what
// the journal says about itself.
type tail struct {
	j       *Journal
	consume jetstream.ConsumeContext

	messages chan stored

	turn chan struct{} // holds one: whoever puts it there receives, even when the consumer is made anew

	mu      sync.Mutex    // the second lock
	seen    uint64        // everything up to it was received, and given to the releaser
	changed chan struct{} // closed when seen grows, and replaced
	ended   bool
}

// start receives everything after a place.
func (t *tail) start(ctx context.Context, js jetstream.JetStream, after uint64) error {
	t.seen, t.changed, t.messages = after, make(chan struct{}), make(chan stored, messageQueue)
	t.turn = make(chan struct{}, 1)
	var c jetstream.Consumer
	err := patiently(ctx, func(ctx context.Context) (err error) {
		c, err = js.OrderedConsumer(ctx, t.j.fetch.stream, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{t.j.names.entries(), t.j.names.allMeta()},
			DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:    after + 1,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("follow the stream: %w", err)
	}
	t.consume, err = c.Consume(t.receive, jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(10*time.Second), jetstream.PullMaxMessagesWithBytesLimit(pulledMessages, pulledBytes),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			t.j.log.Warn("following the stream is interrupted", "err", err)
		}))
	return err
}

// receive gets every message in order, one after the other.
func (t *tail) receive(m jetstream.Msg) {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	meta, err := m.Metadata()
	if err != nil {
		t.j.fail(fmt.Errorf("follow the stream: %w", err))
		return
	}
	seq := meta.Sequence.Stream
	t.mu.Lock()
	again := seq <= t.seen || t.ended
	t.mu.Unlock()
	if again {
		return
	}
	b, err := decode(m.Data())
	if err != nil {
		t.j.fail(fmt.Errorf("message %d: %w", seq, err))
		return
	}
	select {
	case t.messages <- stored{m.Subject(), seq, meta.Timestamp, b}:
		t.advance(seq)
	case <-t.j.released:
	}
}

func (t *tail) advance(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq > t.seen {
		t.seen = seq
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

func (t *tail) now() (seen uint64, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen, t.changed
}

// receivedTo waits until everything up to a place of the stream was received,
// where others may have written what is not for the tail.
func (t *tail) receivedTo(ctx context.Context, place uint64) error {
	for {
		seen, changed := t.now()
		if seen >= place {
			return nil
		}
		next := uint64(0)
		for _, filter := range []string{t.j.names.entries(), t.j.names.allMeta()} {
			err := again(ctx, func(ctx context.Context) (bool, error) {
				seq, ok, err := t.j.fetch.leaderNext(ctx, filter, seen+1)
				if err == nil && ok && seq <= place {
					next = max(next, seq)
				}
				return err == nil, err
			})
			if err != nil {
				return err
			}
		}
		if next == 0 { // there is nothing for the tail up to there
			return nil
		}
		look := time.After(requestWait) // it may be removed before it is received
		for waits := true; waits && seen < next; {
			select {
			case <-changed:
				seen, changed = t.now()
			case <-look:
				waits = false
			case <-ctx.Done():
				return fmt.Errorf("the tail has not reached %d: %w", place, ctx.Err())
			}
		}
	}
}

// reach waits until everything up to a place of the stream is made known.
func (t *tail) reach(ctx context.Context, place uint64) error {
	if t.j.Tail().Seq >= place {
		return nil
	}
	if err := t.receivedTo(ctx, place); err != nil {
		return err
	}
	b := &barrier{place: place, dealt: make(chan struct{})}
	select {
	case t.j.events <- event{barrier: b}:
	case <-t.j.released:
		return journal.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-b.dealt:
		return nil
	case <-t.j.released:
		return journal.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the tail. What comes after is not received.
func (t *tail) stop() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.consume.Stop()
	<-t.consume.Closed()
}

// partitionOf is the partition that a place kept is of.
func (n names) partitionOf(subject string) (string, bool) {
	return strings.CutPrefix(subject, n.prefix+rootMeta+"kept.")
}
