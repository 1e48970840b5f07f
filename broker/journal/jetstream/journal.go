// Package jetstream is the journal of a cluster: one stream of a NATS server
// cluster that several processes of ours share.
//
// One appender per process takes everything that waits, judges it against what
// is known of the stream, and publishes it as one atomic batch, with the conditions
// under which the judgement holds: a record or an inbox that somebody else has
// changed refuses the batch, which is then judged anew. Every batch also depends on
// the process's fence, a message that nobody else writes. When the answer to a batch
// is lost, the fence is moved; after that the batch cannot be written any more
// wherever it still is, and the stream tells whether it was. So nothing is
// acknowledged on hope and nothing is written twice. The servers decide what
// durable means: a stream of three replicas has it in the log of two of them, and
// only sync_interval: always syncs those logs before they say so.
//
// What readers and followers see comes from one ordered consumer per process, the
// tail, never from a batch of its own, so that everybody sees the stream's order; Done
// is called when the batch is acknowledged and the tail has reached it. The newest
// entries stay in a ring in memory; the stream is read only behind it, from whichever
// server answers, and an answer that ends before this process's tail is asked for again.
//
// Time is that of the stream's leader. It never falls in what one process sees;
// what is read behind the ring has the leader's own time, which may fall by as much as
// the servers' clocks differ when another one leads.
//
// It does not configure the cluster, does not change a stream that is there, and
// cannot see how much space the servers have left: they refuse, and that is
// journal.ErrFull.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdline/broker/journal"
)

const (
	// DefaultRingBytes is how much of the newest entries stays in memory.
	DefaultRingBytes = 64 << 20
	// DefaultStream is the name of the stream and the first token of its subjects.
	DefaultStream = "holdline"
	// DefaultPatience is how long the cluster may be without a leader.
	DefaultPatience = 2 * time.Minute
)

// Options say where the journal lives. URL is required.
type Options struct {
	// URL names the servers: nats://a:4222,b:4222, with nats://user:password@ or tls:// where need be.
	URL string
	// Stream is its name, and the first token of all its subjects; empty means DefaultStream.
	Stream string
	// Replicas of a stream that is made; one that is there must have as many. 0 means 3.
	Replicas int
	// MaxBytes of a stream that is made; 0 for what the servers allow.
	MaxBytes int64
	// RingBytes of the newest entries stay in memory; 0 means DefaultRingBytes.
	RingBytes int64
	// Patience is how long a write may take while the cluster elects a leader or
	// cannot be reached. After that the journal has failed. 0 means DefaultPatience.
	Patience time.Duration
	Log      *slog.Logger

	dialer nats.CustomDialer // of the connection that writes; for tests
}

// Journal is a journal in a stream. Open makes it.
type Journal struct {
	log       *slog.Logger
	names     names
	fetch     *fetcher
	publisher *publisher
	process   uint64
	patience  time.Duration
	queue     *queue
	ring      *ring
	tail      *tail
	gate      gate
	kept      keptPlaces
	erased    erasures
	air       air

	life     context.Context // ends when the process is as good as gone
	endLife  context.CancelCauseFunc
	events   chan event    // to the releaser
	slots    chan struct{} // one for each batch that is taken and not told
	arrived  chan struct{} // holds one: a follower wants its backlog
	appended chan struct{} // closed when the appender has returned
	released chan struct{} // closed when the releaser has returned
	failing  chan struct{} // closed when broken is set
	broken   atomic.Pointer[error]

	entries, bytes, syncs, engineReads atomic.Uint64
	inFlight                           atomic.Int64  // taken by the appender, not yet told
	known                              atomic.Uint64 // how far the stream is known to reach
	oldest                             atomic.Uint64
}

// Open connects to the cluster and opens the journal, or makes one. ctx bounds
// Open only.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if o.Stream == "" {
		o.Stream = DefaultStream
	}
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if token(o.Stream) != o.Stream || strings.Contains(o.Stream, ".") {
		return nil, fmt.Errorf("journal: %q cannot be the name of a stream", o.Stream)
	}
	read, err := connect(&o, "holdline journal", nil)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", o.Stream, err)
	}
	write, err := connect(&o, "holdline journal writer", o.dialer)
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("journal %s: %w", o.Stream, err)
	}
	j, err := open(ctx, &o, read, write)
	if err != nil {
		read.Close()
		write.Close()
		return nil, fmt.Errorf("journal %s: %w", o.Stream, err)
	}
	return j, nil
}

// connect connects to one of the servers, and again to any when it is lost: a
// server that is frozen is one that does not answer for some seconds.
func connect(o *Options, name string, dialer nats.CustomDialer) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name(name),
		nats.NoEcho(), // announcements of this process are heard here without a detour
		nats.Timeout(2 * time.Second),
		nats.FlusherTimeout(ackWait), // a server that is frozen reads nothing
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectBufSize(-1), // what cannot be sent is an error at once
		nats.DisconnectErrHandler(func(c *nats.Conn, err error) {
			if err != nil {
				o.Log.Warn("connection to the stream lost", "connection", name, "err", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			o.Log.Info("connected to the stream again", "connection", name, "server", c.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			o.Log.Warn("connection to the stream", "connection", name, "err", err)
		}),
	}
	if dialer != nil {
		options = append(options, nats.SetCustomDialer(dialer))
	}
	return nats.Connect(o.URL, options...)
}

func open(ctx context.Context, o *Options, read, write *nats.Conn) (_ *Journal, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	js, err := jetstream.New(read)
	if err != nil {
		return nil, err
	}
	if _, err := prepare(ctx, js, o); err != nil {
		return nil, err
	}
	j := &Journal{
		log:      o.Log,
		names:    names{o.Stream},
		process:  1 + rand.Uint64N(1<<63),
		patience: o.Patience,
		queue:    newQueue(),
		events:   make(chan event),
		slots:    make(chan struct{}, unreleased),
		arrived:  make(chan struct{}, 1),
		appended: make(chan struct{}),
		released: make(chan struct{}),
		failing:  make(chan struct{}),
	}
	j.life, j.endLife = context.WithCancelCause(context.Background())
	j.fetch = &fetcher{conn: read, js: js, stream: o.Stream, names: j.names, known: &j.known}
	if j.publisher, err = newPublisher(write); err != nil {
		return nil, err
	}
	j.oldest.Store(1)
	a := &appender{j: j, process: j.process}
	if err := j.name(ctx, a); err != nil {
		return nil, err
	}
	last, err := j.recover(ctx)
	if err != nil {
		return nil, err
	}
	j.ring = newRing(o.RingBytes, last)
	j.tail = newTail(j, last.Seq)
	if err := j.hear(read); err != nil {
		return nil, err
	}
	j.air.start()
	r := &releaser{j: j, at: last.at, passed: last.Seq}
	following, stop := context.WithCancel(j.life)
	j.tail.cancel = stop
	go j.tail.run(following)
	go a.run()
	go r.run()
	return j, nil
}

// name makes sure that the journal has an epoch and this process a fence.
func (j *Journal) name(ctx context.Context, a *appender) error {
	for first := true; ; first = false {
		seq, err := j.fetch.leaderLast(ctx, j.names.epoch())
		if err != nil {
			return fmt.Errorf("epoch: %w", err)
		}
		if seq > 0 {
			j.reached(seq)
			break
		}
		_, err = j.publisher.publish(ctx, "", []*message{j.epochMessage(mark{process: j.process}, 0)})
		if err != nil && !errors.Is(err, errStale) && !first {
			return fmt.Errorf("epoch: %w", err)
		}
	}
	for {
		seq, err := j.publisher.publish(ctx, "", []*message{a.fenceMessage(mark{process: j.process})})
		if err == nil {
			a.moved(seq)
			return nil
		}
		if s, ok, readErr := a.readFence(ctx); readErr != nil {
			return fmt.Errorf("fence: %w", readErr)
		} else if ok { // only this process knows its name
			a.moved(s.seq)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fence: %w", err)
		}
	}
}

func (j *Journal) epochMessage(m mark, old uint64) *message {
	return &message{
		subject: j.names.epoch(), rollup: true,
		data:        appendNumber(m.append(nil), fieldEpoch, newEpoch(old)),
		conditional: old == 0,
	}
}

// recover reads what the journal knows about itself and where it ends.
func (j *Journal) recover(ctx context.Context) (last ringEnd, err error) {
	found, err := j.fetch.last(ctx, j.known.Load(), []string{j.names.allMeta()})
	if err != nil {
		return last, err
	}
	r := &releaser{j: j}
	for _, s := range found {
		switch _, kept := j.names.partitionOf(s.subject); {
		case s.subject == j.names.epoch():
			last.Epoch = s.epoch
		case kept, s.subject == j.names.state(), len(s.filters) > 0:
			r.learn(&s)
		}
		last.Seq = max(last.Seq, s.tail)
	}
	seq, err := j.fetch.leaderLast(ctx, j.names.entries())
	if err != nil {
		return last, err
	}
	if last.Seq = max(last.Seq, seq); seq > 0 {
		found, err := j.fetch.next(ctx, j.names.entries(), seq, seq, 1)
		if err != nil {
			return last, err
		}
		for _, s := range found {
			last.at = s.at.UnixMicro()
		}
	}
	j.reached(last.Seq)
	return last, nil
}

// reached says that the stream is known to reach seq.
func (j *Journal) reached(seq uint64) {
	for {
		known := j.known.Load()
		if known >= seq || j.known.CompareAndSwap(known, seq) {
			return
		}
	}
}

// newEpoch is at random, so that no two lives of a journal share one, and
// small enough for a JSON number.
func newEpoch(old uint64) uint64 {
	for {
		if e := 1 + rand.Uint64N(1<<53-1); e != old {
			return e
		}
	}
}

// Append implements journal.Journal.
func (j *Journal) Append(ctx context.Context, s *journal.Submission) error {
	if err := j.check(s); err != nil {
		return err
	}
	return j.queue.submit(ctx, s)
}

// do writes one message at its place in the order, and waits until the tail
// has reached it. It returns the message's sequence number, 0 when there was nothing to write.
func (j *Journal) do(ctx context.Context, write func(context.Context) (*message, error)) (uint64, error) {
	op := &operation{write: write, done: make(chan written, 1)}
	if err := j.queue.push(item{operation: op, messages: 1}); err != nil {
		return 0, err
	}
	select {
	case w := <-op.done: // comes even when the journal fails or closes
		if w.err != nil || w.seq == 0 {
			return 0, w.err
		}
		return w.seq, j.tail.reach(ctx, w.seq)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Tail implements journal.Journal.
func (j *Journal) Tail() journal.Cursor { return j.ring.last().Cursor }

// fail stops acknowledging for good.
func (j *Journal) fail(err error) {
	why := fmt.Errorf("%w: %w", journal.ErrFailed, err)
	if !j.broken.CompareAndSwap(nil, &why) {
		return
	}
	j.log.Error("journal failed; it must be opened anew", "err", err)
	j.queue.stop(why, false)
	close(j.failing)
}

// failed returns why the journal failed, or nil.
func (j *Journal) failed() error {
	if why := j.broken.Load(); why != nil {
		return *why
	}
	return nil
}

// Stats implements journal.Journal. FreeBytes is not known and stays 0.
func (j *Journal) Stats() journal.Stats {
	return journal.Stats{
		Entries:     j.entries.Load(),
		Bytes:       j.bytes.Load(),
		Syncs:       j.syncs.Load(),
		Waiting:     j.queue.waiting() + int(j.inFlight.Load()),
		Tail:        j.Tail(),
		Oldest:      j.oldest.Load(),
		RingBytes:   j.ring.size(),
		EngineReads: j.engineReads.Load(),
	}
}

// Close implements journal.Journal.
func (j *Journal) Close() error {
	if !j.gate.shut() {
		return journal.ErrClosed
	}
	j.queue.stop(journal.ErrClosed, true)
	<-j.appended
	<-j.released
	j.tail.stop()
	j.air.stop()
	j.gate.wait()
	j.publisher.conn.Close()
	j.fetch.conn.Close()
	j.endLife(journal.ErrClosed)
	return j.failed()
}

// abandon ends the journal without waiting for anything that is not durable, as the
// end of the process does.
func (j *Journal) abandon() {
	j.endLife(errAbandoned)
	j.fail(errAbandoned)
	_ = j.Close() // says so
}

var errAbandoned = errors.New("abandoned")
