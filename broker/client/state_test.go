package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdline/chat"
)

func openTest(t *testing.T, dir string) *state {
	t.Helper()
	s, _, err := openState(dir, "me")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeTest(t *testing.T, s *state) {
	t.Helper()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, s *state, recs ...record) {
	t.Helper()
	if err := s.change(t.Context(), true, func() ([]record, error) { return recs, nil }); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s *state, id string) {
	t.Helper()
	if err := s.add(t.Context(), item{ID: chat.MessageID(id), Topic: "up/message", Payload: []byte(id)}, 1000); err != nil {
		t.Fatal(err)
	}
}

func TestStateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	for _, id := range []string{"a", "b", "c", "d"} {
		put(t, s, id)
	}
	write(t, s, record{Acked: 1}, record{Acked: 2}, record{Inbox: "in", Event: "k-1"}, record{Inbox: "gone", Event: "k-1"})
	write(t, s, record{Done: 2}, record{Inbox: "in", Event: "k-2"}, record{Inbox: "gone"})
	closeTest(t, s)

	s = openTest(t, dir)
	defer closeTest(t, s)
	want := []Pending{
		{"a", Acknowledged, "up/message", []byte("a")}, {"c", Queued, "up/message", []byte("c")}, {"d", Queued, "up/message", []byte("d")},
	}
	if d := cmp.Diff(want, s.pending()); d != "" {
		t.Error(d)
	}
	if s.position("in") != "k-2" || s.position("gone") != "" {
		t.Errorf("positions %q and %q", s.position("in"), s.position("gone"))
	}
	put(t, s, "e")
	if i := s.item(0, "e"); i.N != 5 || i.Again {
		t.Errorf("the next item is %+v", i)
	}
	if i := s.item(3, ""); !i.Again {
		t.Error("an item of a former life counts as never sent")
	}
	write(t, s, record{Anew: true})
	if got := s.pending()[0]; got.Status != Queued {
		t.Errorf("a is %s", got.Status)
	}
}

// TestTornEndIsCutOff cuts the file at every byte: what was whole before is
// there, the rest is gone, and writing goes on behind it.
func TestTornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	put(t, s, "a")
	put(t, s, "b")
	closeTest(t, s)
	whole, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := last; cut < len(whole); cut++ {
		for _, tail := range []string{"", "\x00\x00\x00", "garbage\n"} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, logName), append(whole[:cut:cut], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			s, dropped, err := openState(dir, "me")
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(cut - last + len(tail)); dropped != want {
				t.Errorf("cut at %d: %d bytes dropped, want %d", cut, dropped, want)
			}
			put(t, s, "c")
			closeTest(t, s)
			s = openTest(t, dir)
			if got := fmt.Sprintf("%d %s %s", len(s.items), s.items[0].ID, s.items[1].ID); got != "2 a c" {
				t.Errorf("cut at %d with %q: %s", cut, tail, got)
			}
			closeTest(t, s)
		}
	}
}

func TestChangedByteIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	put(t, s, "a")
	closeTest(t, s)
	path := filepath.Join(dir, logName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(`"id":"a"`), []byte(`"id":"b"`), 1)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	defer closeTest(t, s)
	if len(s.items) != 0 {
		t.Errorf("%s was believed", s.items[0].ID)
	}
}

func TestLogIsRewrittenBeforeItGrowsForEver(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	put(t, s, "stays")
	write(t, s, record{Inbox: "in", Event: "k-1"})
	payload := bytes.Repeat([]byte("x"), 16<<10)
	for n := range 100 {
		if err := s.add(t.Context(), item{ID: chat.MessageID(fmt.Sprint(n)), Topic: "up/message", Payload: payload}, 1000); err != nil {
			t.Fatal(err)
		}
		write(t, s, record{Done: uint64(n + 2)}, record{Inbox: "in", Event: chat.NewEventID("k", uint64(n))})
	}
	want := s.snapshot()
	closeTest(t, s)
	info, err := os.Stat(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 2*compactBytes {
		t.Errorf("%d bytes for one item", info.Size())
	}
	s = openTest(t, dir)
	defer closeTest(t, s)
	if d := cmp.Diff(want, s.snapshot(), cmp.AllowUnexported(item{}), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Again" }, cmp.Ignore())); d != "" {
		t.Error(d)
	}
	if s.next != 102 {
		t.Errorf("the count goes on at %d, want 102", s.next)
	}
}

func TestFailedWritePromisesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	put(t, s, "a")
	// A handle that cannot write nor be cut stands for a disk that is gone.
	readOnly, err := os.Open(s.log.path)
	if err != nil {
		t.Fatal(err)
	}
	good := s.log.f
	s.log.f = readOnly
	if err := s.add(t.Context(), item{ID: "b"}, 10); err == nil {
		t.Error("b was taken")
	}
	if len(s.pending()) != 1 {
		t.Error("b is in the outbox")
	}
	s.log.f = good
	if err := s.add(t.Context(), item{ID: "c"}, 10); !errors.Is(err, errSync) {
		t.Errorf("after a write that may have left half a line: %v, want errSync", err)
	}
	if err := readOnly.Close(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	s = openTest(t, dir)
	defer closeTest(t, s)
	if len(s.pending()) != 1 {
		t.Errorf("pending %+v", s.pending())
	}
}

func FuzzRecordsAreReadOrRefused(f *testing.F) {
	var b bytes.Buffer
	encodeRecord(&b, record{Owner: "me", Next: 1})
	encodeRecord(&b, record{Put: &item{N: 1, ID: "a", Payload: []byte("x")}})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		n := 0
		good, err := readRecords(bytes.NewReader(file), func(record) error { n++; return nil })
		if err != nil || good < 0 || good > int64(len(file)) {
			t.Fatalf("%d of %d bytes, %v", good, len(file), err)
		}
		if again, _ := readRecords(bytes.NewReader(file[:good]), func(record) error { n--; return nil }); again != good || n != 0 {
			t.Errorf("the good part reads differently: %d then %d", good, again)
		}
	})
}
