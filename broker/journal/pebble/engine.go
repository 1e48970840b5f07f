package pebble

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// events are what Pebble has to say, as log lines of ours.
type events struct {
	log *slog.Logger

	mu     sync.Mutex
	first  error     // of its background work
	logged time.Time // when one of them was
}

// logEvery is how often background errors are logged: Pebble tries again at once.
const logEvery = time.Second

// background returns the first error of Pebble's background work.
func (e *events) background() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.first
}

// Infof is Pebble's running commentary: nobody reads it.
func (e *events) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (e *events) Errorf(format string, args ...any) {
	e.log.Error("journal engine", "err", fmt.Sprintf(format, args...))
}

// Fatalf is called where Pebble cannot go on and holds its locks. It must not
// return, and the process must not acknowledge anything any more: it ends.
func (e *events) Fatalf(format string, args ...any) {
	err := fmt.Sprintf(format, args...)
	e.log.Error("journal engine cannot go on; the process ends", "err", err)
	panic("journal: " + err)
}

func (e *events) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			e.mu.Lock()
			if e.first == nil {
				e.first = err
			}
			quiet := time.Since(e.logged) < logEvery
			if !quiet {
				e.logged = time.Now()
			}
			e.mu.Unlock()
			if !quiet {
				e.log.Error("journal engine could not write in the background, and tries again", "err", err.Error())
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			e.log.Error("journal engine found damaged data", "err", i.Details, "file", i.Path)
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			e.log.Warn("disk is slow", "path", i.Path, "operation", i.OpType.String(), "took", i.Duration)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			e.log.Warn("journal engine stalls writes", "reason", i.Reason)
		},
	}
}
