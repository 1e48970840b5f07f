package pebble

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The first byte of a key says what it is for. Numbers are big-endian, so that
// keys sort as they count.
const (
	keyEntry     = 'e' // seq → entry
	keyIndex     = 'i' // day, topic, 0, seq → nothing
	keyPartition = 'p' // partition, seq → nothing
	keyInbox     = 'n' // inbox → its last number
	keyRecord    = 'r' // key → version, value
	keyKept      = 'k' // partition → seq
	keyMeta      = 'm' // name → see below
)

// What the journal knows about itself.
var (
	metaFormat = []byte("mformat") // layout of keys and values, 1
	metaEpoch  = []byte("mepoch")
	metaState  = []byte("mstate")  // last seq, version and time given: see state
	metaOldest = []byte("moldest") // nothing before it is kept
)

// layout is the version of keys and values that this package reads and writes.
const layout = 1

// state is what must never go back.
type state struct {
	seq     uint64 // the last one given to an entry
	version uint64 // the last one given to a record
	at      int64  // the last time given to an entry, Unix microseconds
}

const stateBytes = 24

func (s state) put(b []byte) {
	binary.BigEndian.PutUint64(b, s.seq)
	binary.BigEndian.PutUint64(b[8:], s.version)
	binary.BigEndian.PutUint64(b[16:], uint64(s.at))
}

func getState(b []byte) state {
	return state{
		seq:     binary.BigEndian.Uint64(b),
		version: binary.BigEndian.Uint64(b[8:]),
		at:      int64(binary.BigEndian.Uint64(b[16:])),
	}
}

const entryKeyBytes = 9

func putEntryKey(b []byte, seq uint64) {
	b[0] = keyEntry
	binary.BigEndian.PutUint64(b[1:], seq)
}

func entryKey(seq uint64) []byte {
	b := make([]byte, entryKeyBytes)
	putEntryKey(b, seq)
	return b
}

// seqOf reads the number that an entry, index or partition key ends with.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

const partitionKeyBytes = 11

func putPartitionKey(b []byte, partition int, seq uint64) {
	b[0] = keyPartition
	binary.BigEndian.PutUint16(b[1:], uint16(partition))
	binary.BigEndian.PutUint64(b[3:], seq)
}

func partitionKey(partition int, seq uint64) []byte {
	b := make([]byte, partitionKeyBytes)
	putPartitionKey(b, partition, seq)
	return b
}

func partitionOf(key []byte) int { return int(binary.BigEndian.Uint16(key[1:])) }

func keptKey(partition int) []byte {
	return binary.BigEndian.AppendUint16([]byte{keyKept}, uint16(partition))
}

// dayOf numbers the days, in UTC.
func dayOf(micros int64) uint32 {
	return uint32(micros / (24 * time.Hour).Microseconds())
}

const dayBytes = 5

func indexKeyBytes(topic string) int { return dayBytes + len(topic) + 1 + 8 }

func putIndexKey(b []byte, day uint32, topic string, seq uint64) {
	b[0] = keyIndex
	binary.BigEndian.PutUint32(b[1:], day)
	n := dayBytes + copy(b[dayBytes:], topic)
	b[n] = 0
	binary.BigEndian.PutUint64(b[n+1:], seq)
}

// appendDay begins an index key.
func appendDay(b []byte, day uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, keyIndex), day)
}

// topicOf is the topic of an index key. A topic has no NUL, so that "a" and
// everything about it sorts before "a/b".
func topicOf(key []byte) []byte { return key[dayBytes : len(key)-9] }

func named(kind byte, name string) []byte {
	b := make([]byte, 0, 1+len(name))
	return append(append(b, kind), name...)
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	b := bytes.Clone(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil // the prefix is the greatest: no end
}
