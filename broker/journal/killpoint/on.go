//go:build killpoints

package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var (
	place, times = parse(os.Getenv("HOLDLINE_KILL_AT"))
	passed       atomic.Int64
)

func parse(s string) (string, int64) {
	name, n, _ := strings.Cut(s, ":")
	if i, err := strconv.ParseInt(n, 10, 64); err == nil {
		return name, i
	}
	return name, 1
}

// At ends the process when name is the place it was told to die at.
func At(name string) {
	if name == place && passed.Add(1) == times {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way: do nothing more
	}
}
