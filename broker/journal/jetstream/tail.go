package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"holdline/broker/journal"
)

const (
	// heartbeat is how often the server says that there is nothing. After some that
	// did not come the consumer is made anew, on another server if need be.
	heartbeat = time.Second
	silence   = 5 * heartbeat / 2
	// messageQueue is how much may wait for the releaser; then the server waits.
	messageQueue = 256
)

// tail is this process's one ordered view of the stream's entries and of what
// the journal says about itself. One goroutine follows the stream.
type tail struct {
	j        *Journal
	messages chan stored
	cancel   context.CancelFunc
	ended    chan struct{}

	mu      sync.Mutex
	seen    uint64        // everything up to it was received, and given to the releaser
	changed chan struct{} // closed when seen grows, and replaced
}

// newTail is a tail that begins after a place.
func newTail(j *Journal, after uint64) *tail {
	return &tail{j: j, messages: make(chan stored, messageQueue), ended: make(chan struct{}), seen: after, changed: make(chan struct{})}
}

// run follows the stream until ctx ends, with one consumer after the other.
func (t *tail) run(ctx context.Context) {
	defer close(t.ended)
	for ctx.Err() == nil {
		err := t.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		t.j.log.Warn("following the stream is interrupted", "err", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// stop ends the tail.
func (t *tail) stop() {
	t.cancel()
	<-t.ended
}

type consumerRequest struct {
	Stream string         `json:"stream_name"`
	Config consumerConfig `json:"config"`
}

type consumerConfig struct {
	Name        string        `json:"name"`
	Deliver     string        `json:"deliver_subject"`
	Policy      string        `json:"deliver_policy"`
	Start       uint64        `json:"opt_start_seq"`
	Ack         string        `json:"ack_policy"`
	MaxDeliver  int           `json:"max_deliver"`
	Replay      string        `json:"replay_policy"`
	Filters     []string      `json:"filter_subjects"`
	FlowControl bool          `json:"flow_control"`
	Heartbeat   time.Duration `json:"idle_heartbeat"`
	Inactive    time.Duration `json:"inactive_threshold"`
	Replicas    int           `json:"num_replicas"`
	Memory      bool          `json:"mem_storage"`
}

// follow makes a consumer that begins after what was seen, and receives from
// it until something is missing.
func (t *tail) follow(ctx context.Context) error {
	f := t.j.fetch
	inbox := f.conn.NewInbox()
	sub, err := f.conn.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only when the connection is gone
	seen, _ := t.now()
	name := "tail-" + strings.TrimPrefix(inbox, nats.InboxPrefix)
	data, err := json.Marshal(consumerRequest{Stream: f.stream, Config: consumerConfig{
		Name: name, Deliver: inbox, Policy: "by_start_sequence", Start: seen + 1, Ack: "none", MaxDeliver: 1, Replay: "instant",
		Filters:     []string{t.j.names.entries(), t.j.names.allMeta()},
		FlowControl: true, Heartbeat: heartbeat, Inactive: 10 * time.Second, Replicas: 1, Memory: true,
	}})
	if err != nil {
		return err
	}
	once, cancel := context.WithTimeout(ctx, adminWait)
	m, err := f.conn.RequestWithContext(once, "$JS.API.CONSUMER.CREATE."+f.stream+"."+name, data)
	cancel()
	if err != nil {
		return fmt.Errorf("make a consumer: %w", err)
	}
	var made leaderResponse
	if err := json.Unmarshal(m.Data, &made); err != nil {
		return fmt.Errorf("make a consumer: %w", err)
	}
	if made.Error != nil {
		return fmt.Errorf("make a consumer: %s (%d)", made.Error.Description, made.Error.ErrCode)
	}
	// The server forgets it when nobody listens any more; this is sooner.
	defer func() { _ = f.conn.Publish("$JS.API.CONSUMER.DELETE."+f.stream+"."+name, nil) }()
	return t.consume(ctx, sub)
}

// consume receives what a consumer delivers, until something is missing.
func (t *tail) consume(ctx context.Context, sub *nats.Subscription) error {
	delivered := uint64(0)
	for {
		once, cancel := context.WithTimeout(ctx, silence)
		m, err := sub.NextMsgWithContext(once)
		cancel()
		if err != nil {
			return fmt.Errorf("no heartbeat: %w", err)
		}
		if status := m.Header.Get("Status"); status == "100" {
			if last := m.Header.Get("Nats-Last-Consumer"); last != "" && last != strconv.FormatUint(delivered, 10) {
				return fmt.Errorf("%s messages were delivered, %d received", last, delivered)
			}
			goOn := m.Reply // a flow control request
			if stalled := m.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
				goOn = stalled
			}
			if goOn != "" {
				if err := t.j.fetch.conn.Publish(goOn, nil); err != nil {
					return err
				}
			}
			continue
		} else if status != "" && len(m.Data) == 0 {
			return fmt.Errorf("%s %s", status, m.Header.Get("Description"))
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if delivered++; meta.Sequence.Consumer != delivered {
			return fmt.Errorf("delivery %d came as number %d", meta.Sequence.Consumer, delivered)
		}
		b, err := decode(m.Data)
		if err != nil {
			t.j.fail(fmt.Errorf("message %d: %w", meta.Sequence.Stream, err))
			return err
		}
		select {
		case t.messages <- stored{m.Subject, meta.Sequence.Stream, meta.Timestamp, b}:
			t.advance(meta.Sequence.Stream)
		case <-ctx.Done():
			return ctx.Err()
		}
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

// partitionOf is the partition that a place kept is of.
func (n names) partitionOf(subject string) (string, bool) {
	return strings.CutPrefix(subject, n.prefix+rootMeta+"kept.")
}
