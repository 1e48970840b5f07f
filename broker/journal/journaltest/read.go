package journaltest

import (
	"fmt"
	"strings"
	"testing"

	"holdline/broker/journal"
	"holdline/chat"
)

func filters(t *testing.T, d Disk) {
	j := open(t, d)
	for _, topic := range []string{
		"a", "a/b", "a/b/c", "a/bb", "a!b", "a0", "ab", "b", "/a", "a/", "a//b", "$hl/main/x", "$hl/main", "$hl/mainly", "$SYS/x", "ä/ö",
	} {
		write(t, j, plain(topic, topic))
	}
	for _, tt := range []struct {
		filters string // separated by spaces
		want    string
	}{
		{"a", "a"},
		{"a/b", "a/b"},
		{"c", ""},
		{"$hl/main", "$hl/main"},
		{"a/#", "a a/b a/b/c a/bb a/ a//b"},
		{"a/b/#", "a/b a/b/c"},
		{"/#", "/a"},
		{"$hl/main/#", "$hl/main/x $hl/main"},
		{"$hl/#", "$hl/main/x $hl/main $hl/mainly"},
		{"ä/#", "ä/ö"},
		{"+", "a a!b a0 ab b"},
		{"#", "a a/b a/b/c a/bb a!b a0 ab b /a a/ a//b ä/ö"},
		{"a/+", "a/b a/bb a/"},
		{"+/+", "a/b a/bb /a a/ ä/ö"},
		{"a/+/c", "a/b/c"},
		{"a/+/#", "a/b a/b/c a/bb a/ a//b"},
		{"+/x", ""},
		{"+/main/#", ""},
		{"$SYS/+", "$SYS/x"},
		{"$hl/+/x", "$hl/main/x"},
		{"a a/#", "a a/b a/b/c a/bb a/ a//b"},
		{"a/b/# a/# a/b", "a a/b a/b/c a/bb a/ a//b"},
		{"b ab + a/b", "a a/b a!b a0 ab b"},
		{"1 2 3 4 5 6 7 8 9 b a a", "a b"},
	} {
		for _, limit := range []int{1, 3, 100} {
			got := payloads(readAll(t, j, 0, limit, strings.Fields(tt.filters)...))
			if got != tt.want {
				t.Errorf("Read(%s), %d at a time, finds %q, want %q", tt.filters, limit, got, tt.want)
			}
		}
	}
	if got := payloads(readAll(t, j, 0, 10)); got != "" {
		t.Errorf("Read without filter finds %q, want nothing", got)
	}
}

// fill appends n entries, every tenth on the topic few/N, the others on many/N.
func fill(t *testing.T, j journal.Journal, n, topics int) {
	t.Helper()
	s := &journal.Submission{}
	for i := range n {
		topic := fmt.Sprintf("many/%d", i%topics)
		if i%10 == 5 {
			topic = fmt.Sprintf("few/%d", i%3)
		}
		s.Entries = append(s.Entries, input(i%chat.Partitions, topic, fmt.Sprint(i)))
		if len(s.Entries) == 500 || i == n-1 {
			write(t, j, s.Entries...)
			s = &journal.Submission{}
		}
	}
}

// pages compares every way of finding the same entries among many.
func pages(t *testing.T, d Disk) {
	j := open(t, d)
	const n = 12_000
	fill(t, j, n, 7)
	all := readAll(t, j, 0, 1000, "#")
	if len(all) != n {
		t.Fatalf("%d entries, want %d", len(all), n)
	}
	choose := func(after uint64, match func(topic string) bool) (found []*journal.Entry) {
		for _, e := range all {
			if e.Seq > after && match(e.Topic) {
				found = append(found, e)
			}
		}
		return found
	}
	for _, after := range []uint64{0, all[0].Seq, all[n/2].Seq, all[n-50].Seq, all[n-1].Seq} {
		for _, limit := range []int{10, 333} {
			few := choose(after, func(topic string) bool { return strings.HasPrefix(topic, "few/") })
			for _, filters := range [][]string{{"few/#"}, {"few/+"}, {"few/0", "few/1", "few/2"}, {"few/0", "few/+"}, {"few/#", "none/#"}} {
				if d := diff(few, readAll(t, j, after, limit, filters...)); d != "" {
					t.Errorf("Read(%q, %d), %d at a time (-want +got):\n%s", filters, after, limit, d)
				}
			}
			one := choose(after, func(topic string) bool { return topic == "few/1" })
			if d := diff(one, readAll(t, j, after, limit, "few/1")); d != "" {
				t.Errorf("Read(few/1, %d), %d at a time (-want +got):\n%s", after, limit, d)
			}
		}
	}
}

func manyTopics(t *testing.T, d Disk) {
	j := open(t, d)
	const n = 6000
	fill(t, j, n, 1500)
	if got := len(readAll(t, j, 0, 100, "many/#")); got != n-n/10 {
		t.Errorf("%d entries under many/#, want %d", got, n-n/10)
	}
	if got := len(readAll(t, j, 0, 100, "many/1/#", "few/1")); got != 4+200 {
		t.Errorf("%d entries on many/1 and few/1, want 204", got)
	}
}

func through(t *testing.T, d Disk) {
	j := open(t, d)
	all := write(t, j, plain("a", "0"), plain("b", "1"), plain("a", "2"), plain("b", "3"))
	tail := j.Tail().Seq
	for _, tt := range []struct {
		filter string
		after  uint64
		limit  int
		want   string
		least  uint64 // Through, at least
		most   uint64
	}{
		{"none", 0, 10, "", tail, tail},
		{"a", 0, 10, "0 2", tail, tail},
		{"a", 0, 1, "0", all[0].Seq, all[2].Seq - 1},
		{"a", all[0].Seq, 1, "2", all[2].Seq, tail},
		{"a", all[2].Seq, 1, "", tail, tail},
		{"a", tail, 10, "", tail, tail},
		{"a", tail + 100, 10, "", tail + 100, tail + 100}, // a cursor of another life stays as it is
		{"a", 0, 0, "", 0, 0},
	} {
		page, err := j.Read(t.Context(), []string{tt.filter}, tt.after, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := payloads(page.Entries); got != tt.want || page.Through < tt.least || page.Through > tt.most {
			t.Errorf("Read(%s, %d, %d) finds %q through %d, want %q through %d to %d",
				tt.filter, tt.after, tt.limit, got, page.Through, tt.want, tt.least, tt.most)
		}
	}
}

func partitions(t *testing.T, d Disk) {
	j := open(t, d)
	fill(t, j, 9000, 5)
	write(t, j, plain("many/0", "none"))
	all := readAll(t, j, 0, 1000, "#")
	for _, p := range []int{0, 7, chat.Partitions - 1} {
		for _, after := range []uint64{0, all[4000].Seq, all[8990].Seq, j.Tail().Seq} {
			var want []*journal.Entry
			for _, e := range all {
				if e.Partition == p && e.Seq > after {
					want = append(want, e)
				}
			}
			if d := diff(want, readPartition(t, j, p, after, 100)); d != "" {
				t.Errorf("ReadPartition(%d, %d) (-want +got):\n%s", p, after, d)
			}
		}
	}
}
