//go:build killpoints

package pebble

import (
	"fmt"
	"testing"

	"holdline/broker/journal/killpoint"
)

// TestKillPointsLoseNothing lets the writer die exactly between write and
// sync, and between sync and acknowledgement.
func TestKillPointsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	acked := map[uint64]string{}
	for _, place := range []string{killpoint.Appended, killpoint.Synced} {
		for _, n := range []int{1, 2, 50, 400} {
			at := fmt.Sprintf("HOLDLINE_KILL_AT=%s:%d", place, n)
			for seq, name := range killed(t, dir, func(int) bool { return false }, at) {
				if was := acked[seq]; was != "" {
					t.Errorf("%s: %s has the number %d of %s", at, name, seq, was)
				}
				acked[seq] = name
			}
			compare(t, dir, acked)
		}
	}
}
