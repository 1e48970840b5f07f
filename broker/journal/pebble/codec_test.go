package pebble

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdline/broker/journal"
)

func TestEncodedEntryIsWhatItWas(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123456000, time.UTC)
	for _, e := range []journal.Entry{
		{Seq: 1, At: at, Topic: "a", Partition: journal.NoPartition},
		{Seq: 1 << 60, At: at, Topic: "a", Payload: []byte("p"), Properties: []byte{0}, Expires: at.Add(time.Hour),
			Partition: 15, Client: "c", Refused: []byte("r"), Inbox: "i", Event: 1<<64 - 1},
		{Seq: 2, At: at, Topic: "a", Expires: time.UnixMicro(-5).UTC(), Partition: 0},
	} {
		got, err := decodeEntry(e.Seq, appendEntry(nil, &e))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&e, got); d != "" {
			t.Errorf("decoded entry (-want +got):\n%s", d)
		}
	}
}

// TestLayoutStays compares with what is on disks already. To change it, change
// the version that it begins with, and read both.
func TestLayoutStays(t *testing.T) {
	e := journal.Entry{
		At: time.UnixMicro(1_700_000_000_000_001).UTC(), Topic: "a/b", Payload: []byte("hi"), Properties: []byte{9},
		Expires: time.UnixMicro(1_700_000_000_000_002).UTC(), Partition: 2, Client: "c", Refused: []byte("{}"), Inbox: "i", Event: 300,
	}
	index := make([]byte, indexKeyBytes("a/b"))
	putIndexKey(index, dayOf(e.At.UnixMicro()), "a/b", 258)
	var s [stateBytes]byte
	state{seq: 1, version: 2, at: 3}.put(s[:])
	for _, tt := range []struct{ name, got, want string }{
		{"entry", fmt.Sprintf("%x", appendEntry(nil, &e)), "01028180f9c0c1c482030503612f62070268690901090a8280f9c0c1c482030c030f016311027b7d13016914ac02"},
		{"entry key", fmt.Sprintf("%x", entryKey(258)), "650000000000000102"},
		{"index key", fmt.Sprintf("%x", index), "6900004cdb612f62000000000000000102"},
		{"partition key", fmt.Sprintf("%x", partitionKey(3, 258)), "7000030000000000000102"},
		{"place key", fmt.Sprintf("%x", keptKey(3)), "6b0003"},
		{"inbox key", fmt.Sprintf("%q", named(keyInbox, "1-ada")), `"n1-ada"`},
		{"record key", fmt.Sprintf("%q", named(keyRecord, "s/1")), `"rs/1"`},
		{"state", fmt.Sprintf("%x", s), "000000000000000100000000000000020000000000000003"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %s, was %s", tt.name, tt.got, tt.want)
		}
	}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	e := journal.Entry{Seq: 7, At: time.UnixMicro(1).UTC(), Topic: "a", Payload: []byte("p"), Partition: 3}
	b := []byte{encoding}
	b = appendNumber(b, 40, 12345)
	b = appendString(b, 41, "of a later release")
	b = binary.AppendUvarint(b, 5000<<1|kindBytes) // a number of two bytes
	b = append(binary.AppendUvarint(b, 3), "new"...)
	b = append(b, appendEntry(nil, &e)[1:]...)
	b = appendNumber(b, 42, 1)
	got, err := decodeEntry(7, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&e, got); d != "" {
		t.Errorf("decoded entry (-want +got):\n%s", d)
	}
	if at, err := decodeAt(b); err != nil || !at.Equal(e.At) {
		t.Errorf("decodeAt = %v, %v, want %v", at, err, e.At)
	}
}

func TestOtherEncodingIsRefused(t *testing.T) {
	if _, err := decodeEntry(1, []byte{encoding + 1, 1, 2}); err == nil {
		t.Error("an entry of another encoding was decoded")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := journal.Entry{At: time.UnixMicro(1).UTC(), Topic: "a", Payload: []byte("payload"), Partition: 3, Inbox: "i", Event: 300}
	f.Add(appendEntry(nil, &e))
	f.Add([]byte{})
	f.Add([]byte{encoding, 0xff, 0xff})
	f.Add([]byte{encoding, fieldTopic<<1 | kindBytes, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(1, b)
		if err != nil {
			return
		}
		again, err := decodeEntry(1, appendEntry(nil, e))
		if err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if d := cmp.Diff(e, again, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("encoded again (-was +is):\n%s", d)
		}
	})
}
