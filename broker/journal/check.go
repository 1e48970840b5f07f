package journal

import (
	"errors"
	"fmt"
	"strings"

	"holdline/chat"
)

// MaxTopicBytes bounds a topic, as MQTT does.
const MaxTopicBytes = 65535

// Check returns an error for a submission that no journal can ever write.
// Engines call it in Append.
func (s *Submission) Check() error {
	for i := range s.Entries {
		e := &s.Entries[i]
		switch {
		case e.Topic == "" || len(e.Topic) > MaxTopicBytes || strings.IndexByte(e.Topic, 0) >= 0:
			return fmt.Errorf("journal: entry %d: not a topic: %q", i, e.Topic)
		case e.Partition < NoPartition || e.Partition >= chat.Partitions:
			return fmt.Errorf("journal: entry %d: there is no partition %d", i, e.Partition)
		case (e.Inbox == "") != (e.Event == 0):
			return fmt.Errorf("journal: entry %d: inbox %q with number %d", i, e.Inbox, e.Event)
		}
	}
	for i := range s.Puts {
		if s.Puts[i].Key == "" {
			return errors.New("journal: put without key")
		}
	}
	return nil
}
