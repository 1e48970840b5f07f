package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

func sampleRecord() *record {
	return &record{
		epoch: 7, cursor: journal.Cursor{Epoch: 9, Seq: 1000}, sent: 1010, presumed: 1020, maybe: 3, ahead: []uint64{1002, 1005},
		expiry: time.Hour, left: time.UnixMilli(1_700_000_000_123).UTC(), node: "n1",
		subs: []*subscription{
			{Subscription: Subscription{Filter: "a/+", QoS: 1, NoLocal: true, ID: 300}, from: 5, full: []string{"a/+"}},
			{Subscription: Subscription{Filter: "b/#", RetainAsPublished: true, RetainHandling: 2}, from: 6, until: 8, full: []string{"b/#"}},
		},
		owed: owed{
			scans: []scan{{filter: "a/+", through: 999, after: "a/7"}, {filter: "b/#", nth: 1, through: 1000}},
			items: []item{{id: 65535, qos: 1, filter: "a/+", topic: "a/6", through: 999}, {id: 32768, qos: 1, filter: "a/+", topic: "a/7", through: 999}},
			last:  32768,
		},
		will:     &will{topic: "a/b", partition: journal.NoPartition, properties: []byte{marked | markRetain}, payload: []byte("gone"), expiry: 1, delay: time.Minute},
		received: []uint16{1, 700, 65535}, releasing: []uint16{9, 3},
	}
}

var recordParts = cmp.AllowUnexported(record{}, subscription{}, owed{}, scan{}, item{}, will{})

func TestRecordIsReadAsWritten(t *testing.T) {
	want := sampleRecord()
	got, err := decodeRecord(want.encode(), topics.Mount{Client: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, recordParts); d != "" {
		t.Error(d)
	}
}

func TestBrokenRecordsAreRefused(t *testing.T) {
	b := sampleRecord().encode()
	for n := range b {
		if _, err := decodeRecord(b[:n], topics.Mount{}); !errors.Is(err, errRecord) {
			t.Fatalf("the first %d of %d bytes: %v, want errRecord", n, len(b), err)
		}
	}
	b[0]++
	if _, err := decodeRecord(b, topics.Mount{}); !errors.Is(err, errRecord) {
		t.Errorf("another format: %v, want errRecord", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(sampleRecord().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b, topics.Mount{})
		if err != nil {
			return
		}
		if again, err := decodeRecord(r.encode(), topics.Mount{}); err != nil || !cmp.Equal(r, again, recordParts) {
			t.Errorf("written again: %+v, %v; want %+v", again, err, r)
		}
	})
}

func TestSessionKeysTellAccountsApart(t *testing.T) {
	account := func(r chat.Role, s string) chat.Account { return chat.Account{Tenant: "main", Role: r, Subject: s} }
	seen := map[string]topics.Mount{}
	for _, m := range []topics.Mount{
		topics.MountFor(account(chat.Customer, "ada"), "phone-1"),
		topics.MountFor(account(chat.Customer, "bob"), "phone-1"),
		topics.MountFor(account(chat.AgentRole, "ada"), "phone-1"),
		topics.MountFor(account(chat.Customer, "a/b"), "c"),
		topics.MountFor(account(chat.Customer, "a"), "b/c"),
		topics.MountFor(account(chat.Service, "bot"), "x%2Fy"),
		{Client: "phone-1"},
	} {
		key := sessionKey(m)
		if other, ok := seen[key]; ok {
			t.Errorf("%+v and %+v share the key %q", m, other, key)
		}
		seen[key] = m
		if back, ok := mountOf(key); !ok || back != m {
			t.Errorf("mountOf(%q) = %+v, %t, want %+v", key, back, ok, m)
		}
	}
}
