package jetstream

import (
	"testing"

	"holdline/broker/journal/journaltest"
)

func TestContractOfOneServer(t *testing.T) {
	c := newCluster(t, 1)
	journaltest.Run(t, func(t *testing.T) journaltest.Disk { return newDisk(c) })
}

// What is not in memory any more is read from the stream.
func TestContractBehindTheRing(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute")
	}
	c := newCluster(t, 1)
	journaltest.Run(t, func(t *testing.T) journaltest.Disk {
		d := newDisk(c)
		d.ringBytes = 1
		return d
	})
}

func TestContractOfThreeServers(t *testing.T) {
	c := newCluster(t, 3)
	journaltest.Run(t, func(t *testing.T) journaltest.Disk { return newDisk(c) })
}
