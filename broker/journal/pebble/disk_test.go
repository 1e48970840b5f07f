package pebble

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdline/broker/journal"
	"holdline/broker/journal/journaltest"
)

func TestContract(t *testing.T) {
	for _, tt := range []struct {
		name string
		ring int64
	}{
		{"from the ring", 0},
		{"from the database", 1},
		{"half and half", 200_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			journaltest.Run(t, func(t *testing.T) journaltest.Disk {
				return &disk{mem: vfs.NewCrashableMem(), options: Options{RingBytes: tt.ring, waitingBytes: 8 << 20, Log: logger(t)}}
			})
		})
	}
}

// disk is a disk in memory that can be held, and can lose power.
type disk struct {
	mem     *vfs.MemFS
	options Options
	files   *heldFS
	j       *Journal
}

func (d *disk) Open(t *testing.T) journal.Journal {
	d.files = &heldFS{FS: d.mem, waits: make(chan struct{}, 1)}
	d.options.Dir, d.options.fs = "journal", d.files
	j, err := Open(t.Context(), d.options)
	if err != nil {
		t.Fatal(err)
	}
	d.j = j
	return j
}

func (d *disk) Hold(t *testing.T) (waiting, release func()) {
	files := d.files
	return func() { <-files.waits }, files.hold()
}

func (d *disk) Crash(t *testing.T) {
	j, files := d.j, d.files
	d.mem = d.mem.CrashClone(vfs.CrashCloneCfg{})
	// The old life goes on writing to a disk that nobody will ever look at.
	t.Cleanup(func() {
		files.let()
		_ = j.Close()
	})
}

// heldFS is a file system on which the syncs of logs can be held.
type heldFS struct {
	vfs.FS
	waits chan struct{} // holds one: a sync waits

	mu   sync.Mutex
	gate chan struct{} // closed to let them through; nil when they are not held
}

func (h *heldFS) hold() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = make(chan struct{})
	return h.let
}

func (h *heldFS) let() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gate != nil {
		close(h.gate)
		h.gate = nil
	}
}

func (h *heldFS) wait() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case h.waits <- struct{}{}:
	default:
	}
	<-gate
}

func (h *heldFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.Create(name, category)
	return h.wrap(name, f), err
}

func (h *heldFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.ReuseForWrite(old, name, category)
	return h.wrap(name, f), err
}

func (h *heldFS) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return heldFile{f, h}
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (f heldFile) Sync() error     { f.fs.wait(); return f.File.Sync() }
func (f heldFile) SyncData() error { f.fs.wait(); return f.File.SyncData() }
func (f heldFile) SyncTo(n int64) (bool, error) {
	f.fs.wait()
	return f.File.SyncTo(n)
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
