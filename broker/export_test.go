package broker

import (
	"fmt"

	"holdline/broker/topics"
)

// SessionRecord is what a test may know of a record: the cursor and what was
// acknowledged ahead of it.
func SessionRecord(b []byte, m topics.Mount) (cursor uint64, ahead []uint64, err error) {
	r, err := decodeRecord(b, m)
	if err != nil {
		return 0, nil, err
	}
	return r.cursor.Seq, r.ahead, nil
}

// SessionKey is where the record is.
func SessionKey(m topics.Mount) string { return sessionKey(m) }

// FillRetained makes as if as much were retained as can be.
func (b *Broker) FillRetained() {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	for i := range retainedMost {
		b.retained.put(&Message{Topic: fmt.Sprintf("full/%d", i), Payload: []byte("x")})
	}
}
