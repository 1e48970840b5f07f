package jetstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"holdline/broker/journal"
)

// A message's body is the version of the encoding and then its fields: a
// uvarint of number and kind, and a uvarint that is the value or the length of
// the bytes that follow. Fields that are empty are left out and fields that
// are not known are skipped, so that a later release can add some.
const encoding = 1

// The numbers of the fields. They never change their meaning.
const (
	fieldProcess = 1 // who wrote the message
	fieldBatch   = 2 // which of the writer's batches it belongs to, from 1
	fieldPlace   = 3 // which message of the batch it is

	fieldTopic      = 4
	fieldPayload    = 5
	fieldProperties = 6
	fieldExpires    = 7 // Unix microseconds
	fieldPartition  = 8 // plus one; left out for none
	fieldClient     = 9
	fieldRefused    = 10
	fieldInbox      = 11
	fieldEvent      = 12

	fieldKey     = 16
	fieldValue   = 17
	fieldOffset  = 18 // of the message in its submission's records: they share one version
	fieldDeleted = 19

	fieldEpoch  = 24
	fieldOldest = 25 // nothing before it is kept
	fieldTail   = 26 // the tail when it was written
	fieldKept   = 27
	fieldFilter = 28 // of what was erased; repeated
)

// The kinds of fields.
const (
	kindNumber = 0
	kindBytes  = 1
)

var errEncoding = errors.New("message is damaged")

// mark is who wrote a message, and where in which batch.
type mark struct {
	process uint64
	batch   uint64
	place   uint64
}

// body is everything that a message can say.
type body struct {
	mark
	entry journal.Entry

	key     string
	value   []byte
	offset  uint64
	deleted bool

	epoch, oldest, tail, kept uint64
	filters                   []string
}

func (m mark) append(b []byte) []byte {
	b = append(b, encoding)
	b = appendNumber(b, fieldProcess, m.process)
	b = appendNumber(b, fieldBatch, m.batch)
	return appendNumber(b, fieldPlace, m.place)
}

func appendEntry(b []byte, e *journal.Entry) []byte {
	b = appendBytes(b, fieldTopic, e.Topic)
	b = appendBytes(b, fieldPayload, e.Payload)
	b = appendBytes(b, fieldProperties, e.Properties)
	if !e.Expires.IsZero() {
		b = appendNumber(b, fieldExpires, uint64(e.Expires.UnixMicro()))
	}
	b = appendNumber(b, fieldPartition, uint64(e.Partition+1))
	b = appendBytes(b, fieldClient, e.Client)
	b = appendBytes(b, fieldRefused, e.Refused)
	b = appendBytes(b, fieldInbox, e.Inbox)
	return appendNumber(b, fieldEvent, e.Event)
}

func appendRecord(b []byte, p *journal.Put, offset int) []byte {
	b = appendBytes(b, fieldKey, p.Key)
	b = appendBytes(b, fieldValue, p.Value)
	b = appendNumber(b, fieldOffset, uint64(offset))
	if p.Value == nil {
		b = appendNumber(b, fieldDeleted, 1)
	}
	return b
}

func appendNumber(b []byte, field byte, n uint64) []byte {
	if n == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, field<<1|kindNumber), n)
}

func appendBytes[B string | []byte](b []byte, field byte, v B) []byte {
	if len(v) == 0 {
		return b
	}
	return append(binary.AppendUvarint(append(b, field<<1|kindBytes), uint64(len(v))), v...)
}

// field is one of a message.
type field struct {
	number uint64
	value  uint64 // when its kind is a number
	bytes  []byte // when its kind is bytes; part of the message
}

func nextField(rest []byte) (f field, _ []byte, err error) {
	tag, n := binary.Uvarint(rest)
	if n <= 0 {
		return f, nil, errEncoding
	}
	v, m := binary.Uvarint(rest[n:])
	if m <= 0 {
		return f, nil, errEncoding
	}
	rest = rest[n+m:]
	f = field{number: tag >> 1, value: v}
	if tag&1 == kindBytes {
		if v > uint64(len(rest)) {
			return f, nil, errEncoding
		}
		f.bytes, rest = rest[:v:v], rest[v:]
	}
	return f, rest, nil
}

// decode reads a message. It keeps parts of data.
func decode(data []byte) (*body, error) {
	switch {
	case len(data) == 0:
		return nil, errEncoding
	case data[0] != encoding:
		return nil, fmt.Errorf("message has encoding %d, this release knows %d", data[0], encoding)
	}
	b := &body{}
	b.entry.Partition = journal.NoPartition
	for rest := data[1:]; len(rest) > 0; {
		var f field
		var err error
		if f, rest, err = nextField(rest); err != nil {
			return nil, err
		}
		b.set(f)
	}
	return b, nil
}

func (b *body) set(f field) {
	e := &b.entry
	switch f.number {
	case fieldProcess:
		b.process = f.value
	case fieldBatch:
		b.batch = f.value
	case fieldPlace:
		b.place = f.value
	case fieldTopic:
		e.Topic = string(f.bytes)
	case fieldPayload:
		e.Payload = f.bytes
	case fieldProperties:
		e.Properties = f.bytes
	case fieldExpires:
		e.Expires = time.UnixMicro(int64(f.value)).UTC()
	case fieldPartition:
		e.Partition = int(f.value) - 1
	case fieldClient:
		e.Client = string(f.bytes)
	case fieldRefused:
		e.Refused = f.bytes
	case fieldInbox:
		e.Inbox = string(f.bytes)
	case fieldEvent:
		e.Event = f.value
	case fieldKey:
		b.key = string(f.bytes)
	case fieldValue:
		b.value = f.bytes
	case fieldOffset:
		b.offset = f.value
	case fieldDeleted:
		b.deleted = true
	case fieldEpoch:
		b.epoch = f.value
	case fieldOldest:
		b.oldest = f.value
	case fieldTail:
		b.tail = f.value
	case fieldKept:
		b.kept = f.value
	case fieldFilter:
		b.filters = append(b.filters, string(f.bytes))
	}
}
