// Package bridge turns the journal into conversations: it reads what phones and
// desks published, lets the rules of package chat decide, stores the outcome,
// and puts what everybody is owed back into the journal as numbered events.
//
// How it keeps its promise. The sixteen partitions of the input are dealt to the
// live bridges by leases. A group of entries is stored by one transaction that
// begins with the fence and the position, so an entry is taken in exactly once
// and a bridge that froze and lost its lease writes nothing when it wakes.
// Events are rows of that same transaction; a publisher, under a lease of
// its own, appends them to the inboxes in their order, where the journal drops
// what it already has. So a crash at any place repeats work and changes nothing.
// Input that can never be stored is isolated, refused to its sender and passed:
// a partition never stops.
//
// It does not speak MQTT, does not choose who answers, and keeps nothing that
// is not in the journal or in storage.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

// Config is what a bridge needs. Node, Journal and Store must be set.
type Config struct {
	// Node names this process for leases. It must be the same after a restart,
	// and no two live processes may share it.
	Node    string
	Journal journal.Journal
	Store   storage.Store
	Log     *slog.Logger
	// Grace is how long an agent whose every session is gone keeps the
	// conversations; chat.Grace when zero.
	Grace time.Duration
	// Now is the clock of the leases; time.Now when nil. What is stored carries
	// the times of journal entries.
	Now func() time.Time
}

// Figures that nobody changes.
const (
	leaseTTL     = 10 * time.Second
	renewEvery   = 3 * time.Second
	claimEvery   = time.Second      // while this bridge has less than its share
	pollEvery    = time.Second      // the net under wake-ups that were lost
	callTimeout  = 10 * time.Second // one call of storage or journal
	drainTimeout = 5 * time.Second  // what was committed goes out before Run returns
	// renewPatience is how long the journal may end before what is stored of it
	// until that is believed.
	renewPatience = 2 * time.Second
)

// Bridge is one process's part in the work. Make it with New.
type Bridge struct {
	Config

	leases    *leases
	input     *input
	committer committer
	answerer  *answerer
	keeper    *keeper
	publisher *publisher
	figures   *figures
	drain     time.Duration // how long Run goes on publishing what was committed
}

// New returns a bridge that does nothing until Run.
func New(c Config) *Bridge {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Grace == 0 {
		c.Grace = chat.Grace
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	b := &Bridge{Config: c, figures: newFigures(), input: newInput(), drain: drainTimeout}
	b.leases = newLeases(c)
	b.publisher = newPublisher(c, b.leases, b.figures)
	b.answerer = newAnswerer(c)
	b.keeper = newKeeper(c)
	b.committer = newCommitter(b)
	b.leases.changed = func() {
		b.input.signal()
		b.publisher.mark(allPartitions)
	}
	return b
}

// Run takes in input and publishes events until ctx ends; then it finishes the
// group it is at, publishes what was committed, gives its leases back and
// returns nil. ready is called when the first leases are held, or when others
// hold them all. Run returns an error only when the journal is closed or failed:
// everything else is tried again. It is called once.
func (b *Bridge) Run(ctx context.Context, ready func()) error {
	stopFollow, err := b.input.follow(b.Journal)
	if err != nil {
		return fmt.Errorf("bridge: follow the journal: %w", err)
	}
	defer stopFollow()
	wake := topics.Wake("bridge")
	stopListen := b.Journal.Listen(func(a journal.Announcement) {
		if a.Topic == wake {
			b.publisher.mark(hintOf(a.Payload))
		}
	})
	defer stopListen()

	// What works for the committer ends after it, and the leases end last.
	unbound := context.WithoutCancel(ctx)
	leasing, endLeases := context.WithCancel(unbound)
	var leaseWork sync.WaitGroup
	defer func() {
		endLeases()
		leaseWork.Wait()
	}()
	held := make(chan struct{})
	first := sync.OnceFunc(func() { close(held) })
	leaseWork.Go(func() { b.leases.run(leasing, first) })
	select {
	case <-held:
	case <-ctx.Done():
		return nil
	}

	publishing, endPublishing := context.WithCancel(unbound)
	defer endPublishing()
	var backWork sync.WaitGroup
	failed := make(chan error, publishWorkers)
	for range publishWorkers {
		backWork.Go(func() {
			if err := b.publisher.work(publishing); err != nil {
				failed <- err
			}
		})
	}
	backWork.Go(func() { b.publisher.tend(publishing) })
	for range answerWorkers {
		backWork.Go(func() { b.answerer.work(unbound) })
	}
	backWork.Go(func() { b.keeper.work(unbound) })

	front, stopFront := context.WithCancel(ctx)
	defer stopFront()
	committed := make(chan error, 1)
	go func() { committed <- b.committer.run(front) }()
	ready()
	select {
	case err = <-committed:
	case err = <-failed:
		stopFront()
		<-committed
		endPublishing()
	}
	close(b.answerer.queue)
	close(b.keeper.done)
	b.publisher.close()
	late := time.AfterFunc(b.drain, endPublishing)
	defer late.Stop()
	backWork.Wait()
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// gone reports whether err says that the journal will never work again in this process.
func gone(err error) bool {
	return errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrFailed)
}
