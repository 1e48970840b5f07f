package journaltest

import (
	"errors"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/chat"
)

func kept(t *testing.T, j journal.Journal, partition int) uint64 {
	t.Helper()
	seq, err := j.Kept(t.Context(), partition)
	if err != nil {
		t.Fatalf("Kept(%d) = %v", partition, err)
	}
	return seq
}

func keep(t *testing.T, j journal.Journal, partition int, seq uint64) {
	t.Helper()
	if err := j.Keep(t.Context(), partition, seq); err != nil {
		t.Fatalf("Keep(%d, %d) = %v", partition, seq, err)
	}
}

func retain(t *testing.T, j journal.Journal, before time.Time) {
	t.Helper()
	if err := j.Retain(soon(t), before); err != nil {
		t.Fatalf("Retain = %v", err)
	}
}

// later writes entries with a time after that of everything before.
func later(t *testing.T, j journal.Journal, entries ...journal.Entry) []journal.Entry {
	t.Helper()
	for moment := time.Now(); time.Since(moment) < 2*time.Microsecond; {
	}
	return write(t, j, entries...)
}

func keepGoesForward(t *testing.T, d Disk) {
	j := open(t, d)
	tail := write(t, j, input(3, "a", "1"), input(3, "a", "2"), input(4, "a", "3"))[2].Seq
	if seq := kept(t, j, 3); seq != 0 {
		t.Errorf("Kept = %d, want 0 at first", seq)
	}
	for _, tt := range []struct{ seq, want uint64 }{{1, 1}, {tail, tail}, {1, tail}, {0, tail}} {
		keep(t, j, 3, tt.seq)
		if seq := kept(t, j, 3); seq != tt.want {
			t.Errorf("Kept = %d after Keep(%d), want %d", seq, tt.seq, tt.want)
		}
	}
	if seq := kept(t, j, 4); seq != 0 {
		t.Errorf("Kept = %d for another partition, want 0", seq)
	}
	for _, tt := range []struct {
		partition int
		seq       uint64
	}{{4, tail + 1}, {-1, 0}, {chat.Partitions, 0}} {
		if err := j.Keep(t.Context(), tt.partition, tt.seq); err == nil {
			t.Errorf("Keep(%d, %d) = nil, want an error", tt.partition, tt.seq)
		}
	}
}

func retainRemoves(t *testing.T, d Disk) {
	j := open(t, d)
	old := later(t, j, plain("a", "1"), plain("b", "2"), input(5, "a", "3"))
	keep(t, j, 5, old[2].Seq)
	young := later(t, j, plain("a", "4"), input(5, "b", "5"))
	retain(t, j, old[0].At)
	if oldest := j.Stats().Oldest; oldest != 1 {
		t.Errorf("oldest is %d, want 1: nothing is older", oldest)
	}
	retain(t, j, young[0].At)
	oldest := j.Stats().Oldest
	if oldest <= old[2].Seq || oldest > young[0].Seq {
		t.Errorf("oldest is %d, want what comes after %d", oldest, old[2].Seq)
	}
	if _, err := j.Read(t.Context(), []string{"a"}, 0, 10); !errors.Is(err, journal.ErrTruncated) {
		t.Errorf("Read of what is gone = %v, want ErrTruncated", err)
	}
	if _, err := j.ReadPartition(t.Context(), 5, 0, 10); !errors.Is(err, journal.ErrTruncated) {
		t.Errorf("ReadPartition of what is gone = %v, want ErrTruncated", err)
	}
	if _, err := j.Follow(0, func([]*journal.Entry) {}); !errors.Is(err, journal.ErrTruncated) {
		t.Errorf("Follow of what is gone = %v, want ErrTruncated", err)
	}
	for _, filter := range []string{"#", "+"} {
		if d := diff(young, readAll(t, j, oldest-1, 10, filter)); d != "" {
			t.Errorf("what is left, by %s (-want +got):\n%s", filter, d)
		}
	}
	if d := diff(young[1:], readPartition(t, j, 5, old[2].Seq, 10)); d != "" {
		t.Errorf("what is left of the partition (-want +got):\n%s", d)
	}
	retain(t, j, old[0].At) // does not go back
	keep(t, j, 5, young[1].Seq)
	retain(t, j, time.Now().Add(time.Hour))
	if oldest := j.Stats().Oldest; oldest != j.Tail().Seq+1 {
		t.Errorf("oldest is %d with the tail %d, want everything gone", oldest, j.Tail().Seq)
	}
	next := write(t, j, plain("a", "6"))
	if next[0].Seq <= young[1].Seq {
		t.Errorf("seq %d after %d, want no number twice", next[0].Seq, young[1].Seq)
	}
	if d := diff(next, readAll(t, j, young[1].Seq, 10, "a")); d != "" {
		t.Errorf("what came after (-want +got):\n%s", d)
	}
}

func retainSpares(t *testing.T, d Disk) {
	j := open(t, d)
	all := write(t, j, plain("a", "1"), input(5, "a", "2"), input(6, "a", "3"), plain("a", "4"), input(5, "a", "5"), plain("a", "6"))
	never := time.Now().Add(time.Hour)
	retain(t, j, never) // nobody stored anything: all from 2 on is protected
	if d := diff(all[1:], readAll(t, j, all[0].Seq, 10, "#")); d != "" {
		t.Errorf("with nothing stored (-want +got):\n%s", d)
	}
	keep(t, j, 5, all[1].Seq)
	retain(t, j, never)
	if d := diff(all[2:], readAll(t, j, all[1].Seq, 10, "#")); d != "" {
		t.Errorf("with 2 stored (-want +got):\n%s", d)
	}
	if d := diff(all[4:5], readPartition(t, j, 5, all[1].Seq, 10)); d != "" {
		t.Errorf("partition 5 from its place (-want +got):\n%s", d)
	}
	keep(t, j, 6, all[2].Seq)
	retain(t, j, never)
	if d := diff(all[4:], readAll(t, j, all[3].Seq, 10, "#")); d != "" {
		t.Errorf("with 2 and 3 stored (-want +got):\n%s", d)
	}
	if oldest := j.Stats().Oldest; oldest != all[4].Seq {
		t.Errorf("oldest is %d, want %d", oldest, all[4].Seq)
	}
}

func retainIdlePartition(t *testing.T, d Disk) {
	j := open(t, d)
	idle := write(t, j, input(1, "a", "idle"))
	keep(t, j, 1, idle[0].Seq)
	busy := later(t, j, input(2, "a", "busy"), plain("a", "x"))
	keep(t, j, 2, busy[0].Seq)
	young := later(t, j, plain("a", "young"))
	retain(t, j, young[0].At)
	if oldest := j.Stats().Oldest; oldest <= busy[1].Seq {
		t.Errorf("oldest is %d, want what comes after %d: everything was stored", oldest, busy[1].Seq)
	}
	// Its reader goes on from its place, though that is behind the oldest entry.
	if got, err := j.ReadPartition(t.Context(), 1, idle[0].Seq, 10); err != nil || len(got) != 0 {
		t.Errorf("ReadPartition = %d entries, %v, want none and no error", len(got), err)
	}
	if got, err := j.ReadPartition(t.Context(), 9, 0, 10); err != nil || len(got) != 0 {
		t.Errorf("ReadPartition of one that never had input = %d entries, %v", len(got), err)
	}
	again := write(t, j, input(1, "a", "again"))
	if d := diff(again, readPartition(t, j, 1, idle[0].Seq, 10)); d != "" {
		t.Errorf("the idle partition (-want +got):\n%s", d)
	}
}

func eraseRemoves(t *testing.T, d Disk) {
	j := open(t, d)
	var stay []journal.Entry
	for range 30 {
		all := write(t, j, input(1, "ada/up", "x"), input(1, "bob/up", "x"), plain("ada", "x"), plain("ada/down/event", "x"), plain("adalbert", "x"), plain("$x/ada", "x"))
		stay = append(stay, all[1], all[4])
	}
	last := write(t, j, plain("ada", "the last"))[0].Seq
	for _, key := range []string{"s/ada/1", "s/ada/2", "s/adalbert", "s/bob"} {
		put(t, j, journal.Put{Key: key, Value: []byte("x")})
	}
	bob := record(t, j, "s/bob")
	if err := j.Erase(soon(t), []string{"ada/#", "$x/+"}, []string{"s/ada/", "none"}); err != nil {
		t.Fatalf("Erase = %v", err)
	}
	check := func() {
		t.Helper()
		if d := diff(stay, readAll(t, j, 0, 1000, "#", "$x/#")); d != "" {
			t.Errorf("what stays (-want +got):\n%s", d)
		}
		if got := payloads(readAll(t, j, 0, 1000, "ada", "ada/#", "$x/ada")); got != "" {
			t.Errorf("erased topics still hold %q", got)
		}
		if got := readPartition(t, j, 1, 0, 1000); len(got) != 30 {
			t.Errorf("%d entries in the partition, want 30", len(got))
		}
		if _, ok, _ := j.Record(t.Context(), "s/ada/1"); ok {
			t.Error("an erased record is there")
		}
		record(t, j, "s/adalbert")
		if got := record(t, j, "s/bob"); got.Version != bob.Version {
			t.Errorf("s/bob is at %d, want %d", got.Version, bob.Version)
		}
	}
	check()
	closeNow(t, j)
	j = open(t, d)
	check()
	fresh := put(t, j, journal.Put{Key: "s/ada/1", Value: []byte("new")})
	if fresh <= bob.Version {
		t.Errorf("version %d after %d", fresh, bob.Version)
	}
	next := write(t, j, plain("ada", "new"))
	if next[0].Seq <= last {
		t.Errorf("seq %d after %d was erased, want no number twice", next[0].Seq, last)
	}
	if d := diff(next, readAll(t, j, 0, 1000, "ada/#")); d != "" {
		t.Errorf("what came after (-want +got):\n%s", d)
	}
	// What was submitted before is erased, synced or not.
	waits := submit(t, j, &journal.Submission{Entries: []journal.Entry{plain("ada", "lazy")}, Puts: []journal.Put{{Key: "s/ada/1", If: journal.AnyVersion, Value: []byte("y")}}, Lazy: true})
	if err := j.Erase(soon(t), []string{"+"}, []string{"s/ada/"}); err != nil {
		t.Fatalf("Erase = %v", err)
	}
	if r := receive(t, "Done", waits); r.Err != nil {
		t.Errorf("Done = %v", r.Err)
	}
	if got := payloads(readAll(t, j, 0, 1000, "ada", "adalbert")); got != "" {
		t.Errorf("erased topics still hold %q", got)
	}
	if r := try(t, j, &journal.Submission{Puts: []journal.Put{{Key: "s/ada/1", Value: []byte("z")}}}); r.Err != nil {
		t.Errorf("making an erased record anew: %v", r.Err)
	}
}

func renewKeeps(t *testing.T, d Disk) {
	j := open(t, d)
	all := write(t, j, plain("a", "1"), plain("a", "2"))
	was := j.Tail()
	c, err := j.Renew(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.Epoch == was.Epoch || c.Epoch == 0 || c.Epoch > 1<<53 || c.Seq < was.Seq || j.Tail() != c {
		t.Errorf("Renew = %+v after %+v; the tail is %+v", c, was, j.Tail())
	}
	if d := diff(all, readAll(t, j, 0, 10, "#")); d != "" {
		t.Errorf("entries after Renew (-want +got):\n%s", d)
	}
	d.Crash(t)
	j = open(t, d)
	if got := j.Tail(); got.Epoch != c.Epoch || got.Seq < c.Seq {
		t.Errorf("the tail is %+v after a crash, want %+v", got, c)
	}
}
