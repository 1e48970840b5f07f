package topics_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/topics"
	"holdline/chat"
)

func acct(r chat.Role, s string) chat.Account {
	return chat.Account{Tenant: "main", Role: r, Subject: s}
}

// row is one topic as topics.md writes it.
type row struct {
	Role    chat.Role
	Name    string
	Dir     topics.Direction
	QoS     byte
	Payload string
	Doc     string
}

var rowPattern = regexp.MustCompile("^\\| `([^`]+)` \\| (up|down) \\| ([01]) \\| \\[([^]]+)\\]\\(broker/topics/testdata/golden/([^)]+)\\.json\\) \\| (.+) \\|$")

func TestDocumentAndTableAgree(t *testing.T) {
	doc, err := os.ReadFile("../../topics.md")
	if err != nil {
		t.Fatal(err)
	}
	var written []row
	var role chat.Role
	for line := range strings.SplitSeq(string(doc), "\n") {
		if h, ok := strings.CutPrefix(line, "### "); ok {
			role = chat.Role(strings.ToLower(h))
		}
		if m := rowPattern.FindStringSubmatch(line); m != nil {
			if m[4] != m[5] {
				t.Errorf("topics.md: the payload %q links to %q", m[4], m[5])
			}
			written = append(written, row{role, m[1], topics.Direction(m[2]), m[3][0] - '0', m[4], m[6]})
		}
	}
	var coded []row
	for _, r := range topics.Table {
		coded = append(coded, row{r.Role, r.Name, r.Dir, r.QoS, r.Payload, r.Doc})
	}
	if d := cmp.Diff(written, coded); d != "" {
		t.Errorf("topics.md (-) and topics.Table (+) differ:\n%s", d)
	}
}

func TestEveryLinkedGoldenFileExists(t *testing.T) {
	doc, err := os.ReadFile("../../topics.md")
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, m := range regexp.MustCompile(`\]\(broker/topics/(testdata/golden/[^)]+)\)`).FindAllStringSubmatch(string(doc), -1) {
		linked[m[1]] = true
		if _, err := os.Stat(m[1]); err != nil {
			t.Error(err)
		}
	}
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, f := range files {
		if !linked[f] {
			t.Errorf("%s is not linked from topics.md", f)
		}
	}
}

func TestGoldenFilesAreTheRealPayloads(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata/golden", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// A golden file decodes without unknown fields and encodes to the same JSON.
	same := func(name string, into any) {
		t.Helper()
		d := json.NewDecoder(bytes.NewReader(read(name)))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		again, err := json.Marshal(into)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(read(name), &want), json.Unmarshal(again, &got)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: golden (-) and encoded (+) differ:\n%s", name, d)
		}
	}
	for _, name := range []string{"event", "event-refused", "event-head", "event-agent", "event-queue", "event-done"} {
		same(name, &chat.Event{})
	}
	same("reply", &chat.Reply{})
	same("reply-error", &chat.Reply{})
	same("presence", &chat.Presence{})
	same("say", &chat.Say{})
	same("command", &chat.Command{})
	same("request", &chat.Request{})
	if _, err := chat.ParseSay(read("say")); err != nil {
		t.Errorf("say: %v", err)
	}
	if s, err := chat.ParseSay(read("say-agent")); err != nil || s.Epoch == 0 {
		t.Errorf("say-agent: %+v, %v", s, err)
	}
	if _, err := chat.ParseCommand(read("command")); err != nil {
		t.Errorf("command: %v", err)
	}
	if _, err := chat.ParseRequest(read("request")); err != nil {
		t.Errorf("request: %v", err)
	}
	for _, name := range []string{"report", "result", "device-command"} {
		if !json.Valid(read(name)) {
			t.Errorf("%s is not JSON", name)
		}
	}
}

// TestNoOtherPackageSpellsATopic keeps the namespace in one place; tests may spell.
func TestNoOtherPackageSpellsATopic(t *testing.T) {
	literal := regexp.MustCompile("[\"`](\\$hl/|(up|down)/(message|request|command|report|result|event|reply)[\"`]|queue/[^\"`]*/event)")
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "topics" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../../test/") || strings.HasSuffix(filepath.Dir(path), "test") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(b), "\n") {
			if code, _, _ := strings.Cut(line, "//"); literal.MatchString(code) {
				t.Errorf("%s:%d spells a topic: %s", path, i+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMountsGoBothWays(t *testing.T) {
	odd := acct(chat.Customer, "a/b+c#d$e%2Ff")
	for _, a := range []chat.Account{acct(chat.Customer, "ada"), odd, acct(chat.AgentRole, "bob"), acct(chat.Device, "d1")} {
		m := topics.MountFor(a, "phone/1")
		for _, row := range topics.Table {
			if row.Role != a.Role || row.Dir != topics.Up {
				continue
			}
			full, got, err := m.Publish(row.Name)
			if err != nil || got == nil || got.Name != row.Name {
				t.Fatalf("%s: Publish(%s) = %q, %v, %v", a, row.Name, full, got, err)
			}
			if s, ok := topics.Parse(full); !ok || s.Account != a || s.Topic != row.Name {
				t.Errorf("Parse(%q) = %+v, %t", full, s, ok)
			}
			if back := m.Deliver(full); back != row.Name {
				t.Errorf("Deliver(%q) = %q, want %q", full, back, row.Name)
			}
		}
		filters, err := m.Subscribe("down/#")
		if err != nil {
			t.Fatal(err)
		}
		for _, full := range []string{topics.Inbox(a.Inbox()), topics.Reply(a, "phone/1")} {
			matches := 0
			for _, f := range filters {
				if topics.Match(f, full) {
					matches++
				}
			}
			if a.Role != chat.Device && matches != 1 {
				t.Errorf("%s: %d of the filters %q match %q, want 1", a, matches, filters, full)
			}
		}
		for _, f := range filters {
			if topics.Match(f, topics.Reply(a, "phone-2")) || topics.Match(f, topics.Inbox(acct(a.Role, a.Subject+"x").Inbox())) {
				t.Errorf("%s: filter %q reaches another session or account", a, f)
			}
		}
	}
	if got := topics.MountFor(acct(chat.AgentRole, "bob"), "x").Deliver(topics.Inbox(chat.QueueID("main").Inbox("main"))); got != "queue/main/event" {
		t.Errorf("queue delivered as %q", got)
	}
}

func TestNobodyReachesAnothersTree(t *testing.T) {
	customer := topics.MountFor(acct(chat.Customer, "ada"), "p")
	agent := topics.MountFor(acct(chat.AgentRole, "bob"), "p")
	device := topics.MountFor(acct(chat.Device, "d"), "p")
	service := topics.MountFor(acct(chat.Service, "s"), "p")
	var anonymous topics.Mount
	eve := topics.Inbox(acct(chat.Customer, "eve").Inbox())
	for _, tt := range []struct {
		who      string
		m        topics.Mount
		topic    string
		pub, sub bool
	}{
		{"customer", customer, "up/message", true, false},
		{"customer", customer, "up/command", false, false},
		{"customer", customer, "down/event", false, true},
		{"customer", customer, "down/#", false, true},
		{"customer", customer, "#", false, false},
		{"customer", customer, "+/event", false, false},
		{"customer", customer, "down/+", false, false},
		{"customer", customer, "queue/main/event", false, false},
		{"customer", customer, eve, false, false},
		{"customer", customer, "$SYS/#", false, false},
		{"agent", agent, "up/command", true, false},
		{"agent", agent, "queue/main/event", false, true},
		{"agent", agent, "queue/+/event", false, true},
		{"agent", agent, "queue/#", false, false},
		{"agent", agent, eve, false, false},
		{"device", device, "up/report", true, false},
		{"device", device, "up/message", false, false},
		{"device", device, "down/command", false, true},
		{"device", device, "down/#", false, true},
		{"service", service, eve, false, true},
		{"service", service, "$hl/main/#", false, true},
		{"service", service, "$hl/other/#", false, false},
		{"service", service, "$hl/#", false, false},
		{"service", service, "$hl/main/device/d1/down/command", true, true},
		{"service", service, "$hl/other/device/d1/down/command", false, false},
		{"service", service, "plant/1", true, true},
		{"anonymous", anonymous, "plant/1", true, true},
		{"anonymous", anonymous, "#", false, true},
		{"anonymous", anonymous, eve, false, false},
		{"anonymous", anonymous, "$hl/#", false, false},
	} {
		if !strings.ContainsAny(tt.topic, "+#") {
			if _, _, err := tt.m.Publish(tt.topic); (err == nil) != tt.pub || err != nil && !errors.Is(err, chat.ErrForbidden) {
				t.Errorf("%s publishes to %s: %v, want allowed %t", tt.who, tt.topic, err, tt.pub)
			}
		}
		if _, err := tt.m.Subscribe(tt.topic); (err == nil) != tt.sub || err != nil && !errors.Is(err, chat.ErrForbidden) {
			t.Errorf("%s subscribes to %s: %v, want allowed %t", tt.who, tt.topic, err, tt.sub)
		}
	}
}

func TestParseKnowsPresenceAndNodes(t *testing.T) {
	a := acct(chat.AgentRole, "bob/2")
	if s, ok := topics.Parse(topics.Presence(a, "desk/1")); !ok || s.Account != a || s.Client != "desk/1" || s.Topic != "" {
		t.Errorf("presence: %+v, %t", s, ok)
	}
	if s, ok := topics.Parse(topics.NodeStart("n/1")); !ok || s.Node != "n/1" {
		t.Errorf("node: %+v, %t", s, ok)
	}
	for _, bad := range []string{"", "a", "$hl", "$hl/main", "$hl/main/customer/ada", "$hl/main/nobody/ada/up/message", "x/main/customer/ada/up/message"} {
		if s, ok := topics.Parse(bad); ok {
			t.Errorf("Parse(%q) = %+v, want none", bad, s)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/b", "a", false}, {"a", "a/b", false},
		{"a/+", "a/b", true}, {"a/+", "a", false}, {"a/+", "a/b/c", false}, {"+", "a", true}, {"+", "/a", false},
		{"+/+", "/a", true}, {"/+", "/a", true}, {"a/+/c", "a//c", true},
		{"#", "a/b/c", true}, {"a/#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "ab", false}, {"a/+/#", "a", false},
		{"a/+/#", "a/b", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true},
		{"$SYS/+", "$SYS/x", true}, {"a/#", "A/b", false}, {"a/", "a/", true}, {"a/", "a", false}, {"a/+", "a/", true},
	} {
		if got := topics.Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q) = %t", tt.filter, tt.topic, got)
		}
	}
}

func TestFiltersAndNamesAreChecked(t *testing.T) {
	for s, ok := range map[string]bool{
		"a": true, "#": true, "+": true, "a/#": true, "+/a/+": true, "/": true, "a//b": true,
		"": false, "foo#": false, "a/#/b": false, "a+": false, "a/+b": false, "a\x00b": false, "a\xff": false,
		strings.Repeat("x", topics.MaxBytes+1): false, strings.Repeat("a/", topics.MaxLevels): false,
	} {
		if err := topics.ValidFilter(s); (err == nil) != ok {
			t.Errorf("ValidFilter(%.20q) = %v, want ok %t", s, err, ok)
		}
		if err := topics.ValidName(s); err == nil && (!ok || strings.ContainsAny(s, "+#")) {
			t.Errorf("ValidName(%.20q) = nil", s)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if topics.ValidFilter(filter) != nil || topics.ValidName(topic) != nil {
			return
		}
		got := topics.Match(filter, topic)
		if want := matchByRegexp(filter, topic); got != want {
			t.Errorf("Match(%q, %q) = %t, want %t", filter, topic, got, want)
		}
	})
}

// matchByRegexp is the specification's table once more, in another way.
func matchByRegexp(filter, topic string) bool {
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	var p strings.Builder
	p.WriteString("(?s)^")
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		switch {
		case l == "#" && i == 0:
			p.WriteString(".*")
		case l == "#":
			p.WriteString("(/.*)?")
		default:
			if i > 0 {
				p.WriteString("/")
			}
			if l == "+" {
				p.WriteString("[^/]*")
			} else {
				p.WriteString(regexp.QuoteMeta(l))
			}
		}
	}
	return regexp.MustCompile(p.String() + "$").MatchString(topic)
}
