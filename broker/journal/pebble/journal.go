// Package pebble is the embedded journal: a Pebble database in a directory.
//
// One appender goroutine takes everything that waits, judges it against all
// that was written before it, synced or not, and writes it as one batch, which
// Pebble makes visible at once and syncs in the background. A second goroutine,
// the releaser, waits for the syncs in order. Only then does it move the synced
// tail, past which no reader looks, show records and inboxes as of that batch (a
// snapshot taken right after it), call the Dones and feed the followers. So what
// anybody ever saw or was told survives a power cut. The newest entries stay in a
// ring in memory; the database is read only behind it.
//
// A failed write or sync ends acknowledging for good: everything that waits and
// comes is answered with journal.ErrFailed, and a sync is never tried again,
// because after a failed one the kernel may have dropped what it should write. The
// directory must be opened anew. Where Pebble itself cannot go on (its manifest
// cannot be written, a log file cannot be closed or created when it is full) it
// ends the process; nothing was acknowledged on hope then either. The check of free
// space before each batch is there so that a full disk is journal.ErrFull, long
// before that.
//
// It does not share its directory with another process, and does not replicate.
package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdline/broker/journal"
)

// DefaultRingBytes is how much of the newest entries stays in memory.
const DefaultRingBytes = 64 << 20

const (
	memTableBytes = 32 << 20
	cacheBytes    = 64 << 20
	// pipelined is how many batches may wait for their syncs.
	pipelined = 2
)

// Options say where the journal lives. Dir is required.
type Options struct {
	Dir string
	// MinFreeBytes must remain free on the disk; appending is refused below.
	MinFreeBytes uint64
	// RingBytes of the newest entries stay in memory; 0 means DefaultRingBytes.
	RingBytes int64
	Log       *slog.Logger

	// For tests: another file system, smaller tables, less room, another clock.
	fs            vfs.FS
	memTableBytes uint64
	waitingBytes  int64
	now           func() time.Time
}

// Journal is a journal in a directory. Open makes it.
type Journal struct {
	db    *pebble.DB
	lock  *pebble.Lock
	log   *slog.Logger
	space *space
	queue *queue
	ring  *ring
	views views
	gate  gate
	kept  keptPlaces
	air   air

	batches  chan *batch           // from the appender to the releaser
	arrived  chan struct{}         // holds one: a follower wants its backlog
	released chan struct{}         // closed when the releaser has returned
	broken   atomic.Pointer[error] // why the journal acknowledges nothing any more
	wrecked  atomic.Bool           // Pebble holds its own locks for ever
	blocks   blocks

	entries, bytes, syncs, engineReads atomic.Uint64
	inFlight                           atomic.Int64 // taken by the appender, not yet released
	oldest                             atomic.Uint64
}

// Open opens the journal in a directory, or makes one. There is one opener per
// directory; for a second one the error says so. ctx bounds nothing after Open
// returned; recovery itself is not interrupted.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.memTableBytes == 0 {
		o.memTableBytes = memTableBytes
	}
	if o.waitingBytes == 0 {
		o.waitingBytes = waitingBytes
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files := o.fs
	if files == nil {
		files = vfs.Default
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("journal %s: %w", o.Dir, err)
		}
		o.Dir = dir
	}
	if err := files.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal %s: %w", o.Dir, err)
	}
	lock, err := pebble.LockDirectory(o.Dir, files)
	if err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("journal %s: %w", o.Dir, err)
		}
		return nil, fmt.Errorf("journal %s is in use by another process: %w", o.Dir, err)
	}
	j, err := open(o, lock, files)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", o.Dir, err), lock.Close())
	}
	return j, nil
}

func open(o Options, lock *pebble.Lock, files vfs.FS) (_ *Journal, err error) {
	j := &Journal{
		lock:     lock,
		log:      o.Log,
		space:    &space{fs: files, dir: o.Dir, floor: o.MinFreeBytes},
		queue:    newQueue(o.waitingBytes),
		batches:  make(chan *batch, pipelined),
		arrived:  make(chan struct{}, 1),
		released: make(chan struct{}),
	}
	events := &events{log: o.Log}
	po := &pebble.Options{
		FS:                          o.fs, // nil: the disk, watched for slowness
		Lock:                        lock,
		Logger:                      events,
		EventListener:               events.listener(),
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		CacheSize:                   cacheBytes,
		MemTableSize:                o.memTableBytes,
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       24,
		WALBytesPerSync:             512 << 10,
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // inboxes and records are looked up by key
	}
	j.db, err = pebble.Open(o.Dir, po)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.db.Close())
		}
	}()
	// What recovery found in the log was perhaps never synced; Pebble flushed it
	// into synced tables before Open returned, unless it says otherwise.
	if err := events.background(); err != nil {
		return nil, err
	}
	s, epoch, err := j.restore()
	if err != nil {
		return nil, err
	}
	j.ring = newRing(o.RingBytes, tail{journal.Cursor{Epoch: epoch, Seq: s.seq}, s.at})
	j.views.show(newView(j.db.NewSnapshot()))
	a := &appender{j: j, now: o.now, state: s, epoch: epoch}
	j.air.start()
	go a.run()
	go j.release()
	return j, nil
}

// restore reads what the journal knows about itself, and writes it for a new one.
func (j *Journal) restore() (s state, epoch uint64, err error) {
	format, err := j.number(metaFormat)
	switch {
	case err != nil:
		return s, 0, err
	case format == 0:
		epoch = newEpoch(0)
		b := j.db.NewBatch()
		defer b.Close()
		for _, m := range []struct {
			key []byte
			n   uint64
		}{{metaFormat, layout}, {metaEpoch, epoch}, {metaOldest, 1}} {
			if err := b.Set(m.key, binary.BigEndian.AppendUint64(nil, m.n), nil); err != nil {
				return s, 0, err
			}
		}
		j.oldest.Store(1)
		return s, epoch, b.Commit(pebble.Sync)
	case format != layout:
		return s, 0, fmt.Errorf("it has layout %d, this release knows %d", format, layout)
	}
	epoch, err = j.number(metaEpoch)
	if err != nil {
		return s, 0, err
	}
	oldest, err := j.number(metaOldest)
	if err != nil {
		return s, 0, err
	}
	j.oldest.Store(oldest)
	if err := j.kept.restore(j); err != nil {
		return s, 0, err
	}
	v, closer, err := j.db.Get(metaState)
	if errors.Is(err, pebble.ErrNotFound) {
		return s, epoch, nil
	}
	if err != nil {
		return s, 0, err
	}
	defer closer.Close()
	if len(v) < stateBytes {
		return s, 0, errors.New("its state is damaged")
	}
	return getState(v), epoch, nil
}

// number reads the number that a value begins with, synced or not; 0 when
// there is none.
func (j *Journal) number(key []byte) (uint64, error) {
	v, closer, err := j.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(v) < 8 {
		return 0, fmt.Errorf("value of %q is damaged", key)
	}
	return binary.BigEndian.Uint64(v), nil
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
	if err := s.Check(); err != nil {
		return err
	}
	return j.queue.submit(ctx, s)
}

// do runs an operation at its place in the order and waits until it is durable.
func (j *Journal) do(ctx context.Context, write func(*appender) error) error {
	op := &operation{write: write, done: make(chan error, 1)}
	if err := j.queue.push(item{operation: op}); err != nil {
		return err
	}
	select {
	case err := <-op.done: // comes even when the journal fails or closes
		return err
	case <-ctx.Done():
		return ctx.Err()
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
	j.log.Error("journal failed; it must be opened anew", "err", err.Error())
	j.queue.stop(why, false)
}

// failed returns why the journal failed, or nil.
func (j *Journal) failed() error {
	if why := j.broken.Load(); why != nil {
		return *why
	}
	return nil
}

// Stats implements journal.Journal.
func (j *Journal) Stats() journal.Stats {
	return journal.Stats{
		Entries:     j.entries.Load(),
		Bytes:       j.bytes.Load(),
		Syncs:       j.syncs.Load(),
		Waiting:     j.queue.waiting() + int(j.inFlight.Load()),
		Tail:        j.Tail(),
		Oldest:      j.oldest.Load(),
		FreeBytes:   j.space.free(),
		RingBytes:   j.ring.size(),
		EngineReads: j.engineReads.Load(),
		Unheard:     j.air.lost(),
	}
}

// Close implements journal.Journal.
func (j *Journal) Close() error {
	if !j.gate.shut() {
		return journal.ErrClosed
	}
	j.queue.stop(journal.ErrClosed, true)
	<-j.released
	j.air.stop()
	j.gate.wait()
	if j.wrecked.Load() {
		return j.failed() // the directory stays locked until the process ends
	}
	j.views.show(nil)
	return errors.Join(j.failed(), j.db.Close(), j.lock.Close())
}
