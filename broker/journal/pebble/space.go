package pebble

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A measurement of the disk is used until it is this old, or this much was
// written since.
const (
	measureEvery = 100 * time.Millisecond
	measureBytes = 8 << 20
)

// space tells the appender whether the disk has room. Only free may be called
// from elsewhere.
type space struct {
	fs    vfs.FS
	dir   string
	floor uint64

	measured time.Time
	avail    uint64
	since    uint64 // bytes written since it was measured
}

// take reports whether n more bytes leave the floor free, and counts them if so.
func (s *space) take(n uint64) bool {
	if time.Since(s.measured) >= measureEvery || s.since+n >= measureBytes {
		s.avail, s.since, s.measured = s.free(), 0, time.Now()
	}
	if s.avail < s.floor+s.since+n {
		return false
	}
	s.since += n
	return true
}

// free is what is free now. A file system that cannot tell is not full.
func (s *space) free() uint64 {
	u, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return ^uint64(0) >> 1
	}
	return u.AvailBytes
}
