package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

func TestRetainedPagesFindWhatMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	level := func(wild bool) string {
		if wild && r.IntN(3) == 0 {
			return "+"
		}
		return []string{"", "a", "b", "ab", "é"}[r.IntN(5)]
	}
	name := func(wild bool) string {
		levels := make([]string, 1+r.IntN(3))
		for i := range levels {
			levels[i] = level(wild)
		}
		if wild && r.IntN(3) == 0 {
			levels[len(levels)-1] = "#"
		}
		return strings.Join(levels, "/")
	}
	kept := retained{}
	model := map[string]*Message{}
	now := time.Now()
	for range 4000 {
		m := &Message{Topic: "t" + name(false), Payload: []byte("x"), Seq: uint64(r.IntN(100))}
		switch r.IntN(4) {
		case 0:
			m.Payload = nil
		case 1:
			m.Expires = now.Add(time.Duration(r.IntN(3)-1) * time.Second)
		}
		kept.put(m)
		if model[m.Topic] = m; len(m.Payload) == 0 {
			delete(model, m.Topic)
		}
		filter, through := name(true), uint64(r.IntN(100))
		if strings.HasPrefix(filter, "a") || r.IntN(2) == 0 && filter[:min(1, len(filter))] != "+" && filter != "#" {
			filter = "t" + strings.TrimPrefix(filter, "#")
		}
		var want, got []string
		for topic, m := range model {
			if topics.Match(filter, topic) && m.good(through, now) {
				want = append(want, topic)
			}
		}
		slices.Sort(want)
		for after, more := "", true; more; { // in pages of two, or one too many
			n := 0
			after, more = kept.page(filter, after, through, now, func(m *Message) bool {
				if n++; n > 2 {
					return false
				}
				got = append(got, m.Topic)
				return true
			})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q through %d: got %q, want %q", filter, through, got, want)
		}
	}
	bytes := 0
	for _, m := range model {
		bytes += m.bytes()
	}
	if kept.bytes != bytes || len(kept.list) != len(model) {
		t.Errorf("%d messages of %d bytes, want %d of %d", len(kept.list), kept.bytes, len(model), bytes)
	}
}

func TestRetainedIsBounded(t *testing.T) {
	var kept retained
	for i := range retainedMost {
		kept.put(&Message{Topic: fmt.Sprint(retainedMost - i), Payload: []byte("x")})
	}
	if kept.fits("another", 1) || !kept.fits("another", 0) || !kept.fits("7", 1) {
		t.Error("full: want only what replaces or deletes")
	}
	if kept.fits("7", retainedBytes) {
		t.Error("more bytes than are allowed fit")
	}
}

func TestRetainedRecordIsReadAsWritten(t *testing.T) {
	e := journal.Entry{Topic: "a/b", Client: "c", Payload: []byte("p"), Properties: []byte{marked | markRetain | markOnce, 1, 0},
		Expires: time.UnixMicro(1_700_000_000_000_001).UTC()}
	put := retainedPut(&e)
	m, err := decodeRetained(journal.Record{Key: put.Key, Value: put.Value})
	if err != nil {
		t.Fatal(err)
	}
	if want := messageOf(&e); m.Topic != want.Topic || string(m.Payload) != "p" || string(m.Properties) != "\x01\x00" ||
		!m.Expires.Equal(e.Expires) || m.origin != "c" || m.most != 0 || !m.retain {
		t.Errorf("got %+v, want %+v", m, want)
	}
	for n := range len(put.Value) {
		if _, err := decodeRetained(journal.Record{Key: put.Key, Value: put.Value[:n]}); !errors.Is(err, errRetained) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	if e.Payload = nil; retainedPut(&e).Value != nil {
		t.Error("an empty payload does not delete")
	}
}
