package jetstream

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

// matches is how a server matches a subject with a filter.
func matches(filter, subject string) bool { return server.SubjectsCollide(filter, subject) }

func TestFiltersFindWhatMQTTMatches(t *testing.T) {
	n := names{"holdline"}
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"", "a", "b", "~", "-", "*", ">", "a.b", "a b", "ä", "$", "$hl", "%", "!", "=2E", "%a", strings.Repeat("x", 47), strings.Repeat("x", 48), strings.Repeat("x", 49), strings.Repeat("退", 30)}
	some := func(extra ...string) string {
		pool := append(extra, words...)
		depth := 1 + random.IntN(4)
		if random.IntN(5) == 0 {
			depth = levelTokens - 2 + random.IntN(5)
		}
		var all []string
		for range depth {
			if len(all) > 3 {
				all = append(all, "a")
				continue
			}
			all = append(all, pool[random.IntN(len(pool))])
		}
		return strings.Join(all, "/")
	}
	hits := 0
	for range 300_000 {
		topic, filter := some(), some("+", "+", "+")
		if random.IntN(2) == 0 { // one that fits
			levels := strings.Split(topic, "/")
			for i := range levels {
				if random.IntN(3) == 0 {
					levels[i] = "+"
				}
			}
			if cut := random.IntN(len(levels) + 1); random.IntN(2) == 0 {
				levels = append(levels[:cut], "#")
			}
			filter = strings.Join(levels, "/")
		}
		if topic == "" || filter == "" {
			continue
		}
		e := &journal.Entry{Topic: topic, Partition: random.IntN(17) - 1}
		if random.IntN(2) == 0 {
			e.Inbox = some()
		}
		subject := n.entry(e)
		if strings.ContainsAny(subject, "*> \t\r\n") || strings.Contains(subject, "..") || len(subject) > 2048 {
			t.Fatalf("topic %q has the subject %q", topic, subject)
		}
		want := topics.Match(filter, topic)
		found, exact := n.filter(filter)
		got := matches(found, subject)
		if want && !got || exact && got && !want {
			t.Fatalf("filter %q matches topic %q: %v; %q matches %q: %v, exact %v", filter, topic, want, found, subject, got, exact)
		}
		if want {
			hits++
		}
		if e.Inbox != "" && !matches(n.inbox(e.Inbox), subject) {
			t.Fatalf("inbox %q is not found by %q at %q", e.Inbox, n.inbox(e.Inbox), subject)
		}
		if e.Partition >= 0 && !matches(n.partition(e.Partition), subject) {
			t.Fatalf("partition %d is not found at %q", e.Partition, subject)
		}
		key := topic
		prefix := key[:random.IntN(len(key)+1)]
		if !matches(n.recordsUnder(prefix), n.record(key)) {
			t.Fatalf("record %q at %q is not found under %q by %q", key, n.record(key), prefix, n.recordsUnder(prefix))
		}
	}
	if hits < 10_000 {
		t.Errorf("only %d of the filters matched", hits)
	}
}

func TestNoTwoNamesShareASubject(t *testing.T) {
	n := names{"holdline"}
	random := rand.New(rand.NewPCG(3, 4))
	letters := []string{"a", "/", ".", "%", "=", "2", "E", "~", "-", "!", "*", " ", "\xff", "ä"}
	seen := map[string]string{}
	for range 300_000 {
		var b strings.Builder
		for range 1 + random.IntN(7) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		if random.IntN(10) == 0 {
			b.WriteString(strings.Repeat("/a", random.IntN(40)))
		}
		subject := n.record(b.String())
		if was, ok := seen[subject]; ok && was != b.String() {
			t.Fatalf("%q and %q have the subject %q", was, b.String(), subject)
		}
		seen[subject] = b.String()
	}
}

func FuzzDecode(f *testing.F) {
	e := &journal.Entry{Topic: "a/b", Payload: []byte("p"), Partition: 3, Inbox: "i", Event: 7}
	f.Add(appendEntry(mark{1, 2, 3}.append(nil), e))
	f.Add(appendRecord(mark{1, 2, 3}.append(nil), &journal.Put{Key: "k"}, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decode(data)
		if err != nil || b.entry.Topic == "" {
			return
		}
		again, err := decode(appendEntry(b.mark.append(nil), &b.entry))
		if err != nil || again.entry.Topic != b.entry.Topic || string(again.entry.Payload) != string(b.entry.Payload) || again.mark != b.mark {
			t.Errorf("%+v came back as %+v, %v", b, again, err)
		}
	})
}
