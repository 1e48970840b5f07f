package journaltest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"holdline/broker/journal"
)

func recordsCompare(t *testing.T, d Disk) {
	j := open(t, d)
	one := put(t, j, journal.Put{Key: "k", Value: []byte("one")})
	two := put(t, j, journal.Put{Key: "k", Value: []byte("two"), If: one})
	if one == 0 || two <= one {
		t.Errorf("versions %d and %d, want them to grow from 1", one, two)
	}
	if got := record(t, j, "k"); string(got.Value) != "two" || got.Version != two || got.Key != "k" {
		t.Errorf("Record = %s %s at %d, want two at %d", got.Key, got.Value, got.Version, two)
	}
	for _, put := range []journal.Put{
		{Key: "k", Value: []byte("three"), If: one},
		{Key: "k", Value: []byte("three"), If: 0},
		{Key: "k", If: one},
		{Key: "k", If: two + 1},
		{Key: "other", Value: []byte("x"), If: two},
		{Key: "other", If: 1},
	} {
		if r := try(t, j, &journal.Submission{Puts: []journal.Put{put}}); !errors.Is(r.Err, journal.ErrConflict) {
			t.Errorf("Put %s if %d: %v, want ErrConflict", put.Key, put.If, r.Err)
		}
	}
	three := put(t, j, journal.Put{Key: "k", Value: []byte("three"), If: journal.AnyVersion})
	if three <= two {
		t.Errorf("version %d after %d, want it to grow", three, two)
	}
	put(t, j, journal.Put{Key: "k", If: three})
	if _, ok, err := j.Record(t.Context(), "k"); ok || err != nil {
		t.Errorf("a deleted record: %v, %v, want none", ok, err)
	}
	put(t, j, journal.Put{Key: "k", If: journal.AnyVersion}) // deleting what is not there
	put(t, j, journal.Put{Key: "k", If: 0})
	four := put(t, j, journal.Put{Key: "k", Value: []byte{}, If: 0})
	if four <= three {
		t.Errorf("version %d after %d, want versions to grow across a delete", four, three)
	}
	if got := record(t, j, "k"); got.Value == nil || len(got.Value) != 0 || got.Version != four {
		t.Errorf("Record = %v at %d, want an empty value at %d", got.Value, got.Version, four)
	}
}

func recordsConflict(t *testing.T, d Disk) {
	j := open(t, d)
	was := put(t, j, journal.Put{Key: "a", Value: []byte("a")}, journal.Put{Key: "b", Value: []byte("b")})
	r := try(t, j, &journal.Submission{
		Entries: []journal.Entry{plain("x", "x"), numbered("i", 3)},
		Puts: []journal.Put{
			{Key: "a", Value: []byte("A"), If: was},
			{Key: "c", Value: []byte("C"), If: journal.AnyVersion},
			{Key: "b", Value: []byte("B"), If: was + 7},
		},
	})
	if !errors.Is(r.Err, journal.ErrConflict) {
		t.Fatalf("Done = %v, want ErrConflict", r.Err)
	}
	if got := len(readAll(t, j, 0, 10, "#")); got != 0 {
		t.Errorf("%d entries were written, want none", got)
	}
	if n := inboxLast(t, j, "i"); n != 0 {
		t.Errorf("the inbox is at %d, want none", n)
	}
	if got := record(t, j, "a"); string(got.Value) != "a" || got.Version != was {
		t.Errorf("a is %s at %d, want it untouched", got.Value, got.Version)
	}
	if _, ok, _ := j.Record(t.Context(), "c"); ok {
		t.Error("c was written")
	}
	// And nothing of it is remembered.
	s := &journal.Submission{
		Entries: []journal.Entry{numbered("i", 3)},
		Puts:    []journal.Put{{Key: "a", Value: []byte("A"), If: was}, {Key: "c", Value: []byte("C")}, {Key: "b", If: was}},
	}
	if r := try(t, j, s); r.Err != nil || s.Entries[0].Seq == 0 || r.Version <= was {
		t.Errorf("Done = %v at version %d, seq %d", r.Err, r.Version, s.Entries[0].Seq)
	}
	// Each Put is judged against those before it.
	r = try(t, j, &journal.Submission{Puts: []journal.Put{{Key: "d", Value: []byte("1")}, {Key: "d", Value: []byte("2")}}})
	if !errors.Is(r.Err, journal.ErrConflict) {
		t.Errorf("making a record twice: %v, want ErrConflict", r.Err)
	}
}

func recordsByPrefix(t *testing.T, d Disk) {
	j := open(t, d)
	for _, key := range []string{"s/b", "s/a", "s/a/1", "s", "t/a", "s/\xff\xff", "\xff", "\xff\xff1"} {
		put(t, j, journal.Put{Key: key, Value: []byte("of " + key)})
	}
	put(t, j, journal.Put{Key: "s/gone", Value: []byte("x")})
	put(t, j, journal.Put{Key: "s/gone", If: journal.AnyVersion})
	write(t, j, numbered("s/inbox", 1))
	for _, tt := range []struct{ prefix, want string }{
		{"s/", `"s/a" "s/a/1" "s/b" "s/\xff\xff"`},
		{"s/a", `"s/a" "s/a/1"`},
		{"", `"s" "s/a" "s/a/1" "s/b" "s/\xff\xff" "t/a" "\xff" "\xff\xff1"`},
		{"\xff", `"\xff" "\xff\xff1"`},
		{"none", ``},
	} {
		var got []string
		err := j.Records(t.Context(), tt.prefix, func(r journal.Record) error {
			got = append(got, strconv.Quote(r.Key))
			if string(r.Value) != "of "+r.Key || r.Version == 0 {
				t.Errorf("record %q has value %q at %d", r.Key, r.Value, r.Version)
			}
			return nil
		})
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("Records(%q) = %v, %v, want %v", tt.prefix, got, err, tt.want)
		}
	}
	enough := errors.New("enough")
	calls := 0
	if err := j.Records(t.Context(), "s/", func(journal.Record) error { calls++; return enough }); err != enough || calls != 1 {
		t.Errorf("Records = %v after %d calls, want the error of the first", err, calls)
	}
	// fn may use the journal.
	if err := j.Records(t.Context(), "s/", func(r journal.Record) error {
		put(t, j, journal.Put{Key: r.Key, If: r.Version})
		return nil
	}); err != nil {
		t.Errorf("Records that deletes what it finds: %v", err)
	}
	if _, ok, _ := j.Record(t.Context(), "s/a/1"); ok {
		t.Error("s/a/1 was deleted and is there")
	}
}

func recordsRace(t *testing.T, d Disk) {
	j := open(t, d)
	const writers, each = 6, 30
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				for {
					r, ok, err := j.Record(t.Context(), "counter")
					if err != nil {
						t.Error(err)
						return
					}
					n := 0
					if ok {
						n, _ = strconv.Atoi(string(r.Value))
					}
					done := make(chan error, 1)
					s := &journal.Submission{
						Entries: []journal.Entry{plain("count", fmt.Sprint(w))},
						Puts:    []journal.Put{{Key: "counter", Value: []byte(strconv.Itoa(n + 1)), If: r.Version}},
						Done:    func(r journal.Result) { done <- r.Err },
					}
					if err := j.Append(t.Context(), s); err != nil {
						t.Error(err)
						return
					}
					if err = <-done; err == nil {
						break
					}
					if !errors.Is(err, journal.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got := string(record(t, j, "counter").Value); got != fmt.Sprint(writers*each) {
		t.Errorf("the counter is at %s, want %d", got, writers*each)
	}
	if got := len(readAll(t, j, 0, 100, "count")); got != writers*each {
		t.Errorf("%d entries, want %d: one for each version", got, writers*each)
	}
}
