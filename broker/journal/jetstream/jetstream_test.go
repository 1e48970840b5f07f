package jetstream

import (
	"testing"

	"holdline/broker/journal/journaltest"
)

func TestContractOfOneServer(t *testing.T) {
	c := newCluster(t, 1)
	journaltest.Run(t, func(t *testing.T) journaltest.Disk { return newDisk(c) })
}
