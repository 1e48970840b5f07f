package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"holdline/broker/journal"
)

// An encoded entry is the version of the encoding and then its fields: a
// uvarint of number and kind, and a uvarint that is the value or the length of
// the bytes that follow. Fields that are empty are left out and fields that
// are not known are skipped, so that a later release can add some.
const encoding = 1

// The numbers of the fields. They never change their meaning.
const (
	fieldAt         = 1 // Unix microseconds
	fieldTopic      = 2
	fieldPayload    = 3
	fieldProperties = 4
	fieldExpires    = 5 // Unix microseconds
	fieldPartition  = 6 // plus one; left out for none
	fieldClient     = 7
	fieldRefused    = 8
	fieldInbox      = 9
	fieldEvent      = 10
)

// The kinds of fields.
const (
	kindNumber = 0
	kindBytes  = 1
)

var errEncoding = errors.New("entry is damaged")

// appendEntry appends the encoded entry to b. Seq is not part of it: it is the key.
func appendEntry(b []byte, e *journal.Entry) []byte {
	b = append(b, encoding)
	b = appendNumber(b, fieldAt, uint64(e.At.UnixMicro()))
	b = appendString(b, fieldTopic, e.Topic)
	b = appendBytes(b, fieldPayload, e.Payload)
	b = appendBytes(b, fieldProperties, e.Properties)
	if !e.Expires.IsZero() {
		b = appendNumber(b, fieldExpires, uint64(e.Expires.UnixMicro()))
	}
	b = appendNumber(b, fieldPartition, uint64(e.Partition+1))
	b = appendString(b, fieldClient, e.Client)
	b = appendBytes(b, fieldRefused, e.Refused)
	b = appendString(b, fieldInbox, e.Inbox)
	return appendNumber(b, fieldEvent, e.Event)
}

func appendNumber(b []byte, field byte, n uint64) []byte {
	if n == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, field<<1|kindNumber), n)
}

func appendBytes(b []byte, field byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return append(binary.AppendUvarint(append(b, field<<1|kindBytes), uint64(len(v))), v...)
}

func appendString(b []byte, field byte, v string) []byte {
	if v == "" {
		return b
	}
	return append(binary.AppendUvarint(append(b, field<<1|kindBytes), uint64(len(v))), v...)
}

// fields walks over the fields of an encoded entry.
type fields struct {
	rest   []byte
	number uint64 // of the field
	value  uint64 // when its kind is a number
	bytes  []byte // when its kind is bytes; part of the encoded entry
	err    error
}

func newFields(b []byte) fields {
	switch {
	case len(b) == 0:
		return fields{err: errEncoding}
	case b[0] != encoding:
		return fields{err: fmt.Errorf("entry has encoding %d, this release knows %d", b[0], encoding)}
	}
	return fields{rest: b[1:]}
}

// next goes to the next field; at the end, or at damage, it returns false.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	tag, n := binary.Uvarint(f.rest)
	if n <= 0 {
		f.err = errEncoding
		return false
	}
	v, m := binary.Uvarint(f.rest[n:])
	if m <= 0 {
		f.err = errEncoding
		return false
	}
	f.rest, f.number, f.value, f.bytes = f.rest[n+m:], tag>>1, v, nil
	if tag&1 == kindBytes {
		if v > uint64(len(f.rest)) {
			f.err = errEncoding
			return false
		}
		f.bytes, f.rest = f.rest[:v:v], f.rest[v:]
	}
	return true
}

// decodeEntry returns the entry of an encoded one, which it keeps parts of:
// b must be the caller's to give away.
func decodeEntry(seq uint64, b []byte) (*journal.Entry, error) {
	e := &journal.Entry{Seq: seq, Partition: journal.NoPartition}
	f := newFields(b)
	for f.next() {
		switch f.number {
		case fieldAt:
			e.At = moment(f.value)
		case fieldTopic:
			e.Topic = string(f.bytes)
		case fieldPayload:
			e.Payload = f.bytes
		case fieldProperties:
			e.Properties = f.bytes
		case fieldExpires:
			e.Expires = moment(f.value)
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
		}
	}
	if f.err != nil {
		return nil, fmt.Errorf("entry %d: %w", seq, f.err)
	}
	return e, nil
}

// moment is a time as it was encoded; 0 is none.
func moment(micros uint64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(micros)).UTC()
}

// decodeAt returns the time of an encoded entry.
func decodeAt(b []byte) (time.Time, error) {
	f := newFields(b)
	for f.next() {
		if f.number == fieldAt {
			return moment(f.value), nil
		}
	}
	return time.Time{}, errors.Join(errEncoding, f.err)
}
