package main

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is one row of the map: what a package is for, which of ours it may
// import, and which third-party modules are its own to import.
type pkg struct {
	purpose string
	ours    string // space-separated; "chat" is always allowed
	libs    string // space-separated module path prefixes
}

// layout is the whole house. A new package is a new line here.
var layout = map[string]pkg{
	"":                           {"commands, configuration, wiring", "*", "github.com/BurntSushi/toml github.com/prometheus"},
	"chat":                       {"the words and the rules; no I/O, no clock", "", ""},
	"broker":                     {"phones connect; acknowledge only what is in the journal", "broker/topics broker/journal broker/journal/killpoint broker/token", ""},
	"broker/topics":              {"the MQTT namespace; mirrors topics.md", "", ""},
	"broker/token":               {"who a token says you are", "", "github.com/golang-jwt/jwt"},
	"broker/journal":             {"contract: the append-only record", "", ""},
	"broker/journal/killpoint":   {"the named places where a test build dies", "", ""},
	"broker/journal/journaltest": {"the contract test of journals", "broker/journal", ""},
	"broker/journal/jetstream":   {"the journal of a cluster", "broker/journal broker/journal/killpoint broker/topics", "github.com/nats-io"},
	"broker/journal/memory":      {"the journal fake for tests", "broker/journal broker/topics", ""},
	"broker/journal/pebble":      {"the embedded journal", "broker/journal broker/journal/killpoint broker/topics", "github.com/cockroachdb/pebble"},
	"broker/mqtt":                {"connections and packets; the only importer of mochi", "broker broker/topics broker/journal broker/journal/killpoint broker/token", "github.com/mochi-mqtt/server github.com/coder/websocket"},
	"broker/sessions":            {"operators see sessions over HTTP, and end them", "broker broker/token", ""},
	"broker/client":              {"the reference phone", "broker/topics", "github.com/eclipse/paho.golang github.com/google/uuid"},
	"bridge":                     {"journal to conversations: order, dedupe, store, fan out", "broker/journal broker/journal/killpoint broker/topics storage", ""},
	"storage":                    {"contract: what is remembered", "", ""},
	"storage/storagetest":        {"the contract test of stores", "storage", ""},
	"storage/memory":             {"the storage fake for tests", "storage", ""},
	"storage/query":              {"the statements both engines run as one text", "storage", ""},
	"storage/migrations":         {"the schema of both engines, same numbers", "", "github.com/pressly/goose"},
	"storage/sqlite":             {"the embedded store", "storage storage/migrations storage/query", "modernc.org/sqlite"},
	"storage/postgres":           {"the store of a scaled-out installation", "storage storage/migrations storage/query", "github.com/jackc/pgx"},
	"storage/postgres/pgtest":    {"a private Postgres for tests", "", ""},
	"agentd":                     {"who answers next: presence, queue, assignment", "broker/journal broker/topics storage", ""},
	"agentd/api":                 {"HTTP for the desk and for integrations", "agentd broker/token storage broker/topics broker/journal", "github.com/danielgtaylor/huma"},
	"agentd/desk":                {"the agents' web app, embedded", "", ""},
	"test":                       {"the whole system from outside", "*", ""},
	"test/wire":                  {"a raw MQTT client that can misbehave, for tests", "", ""},
	"test/chaos":                 {"a proxy that delays, halves, freezes and drops", "", ""},
	"test/load":                  {"the benchmarks: ours against mosquitto in the same run", "*", ""},
}

// everywhere are modules that belong to no single package.
var everywhere = []string{"golang.org/x/", "github.com/google/go-cmp"}

func TestImportsFollowTheMap(t *testing.T) {
	type listed struct {
		ImportPath, Name, Doc              string
		Imports, TestImports, XTestImports []string
		Module                             *struct{ Path string }
		Standard                           bool
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Doc,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	std, err := exec.CommandContext(t.Context(), "go", "list", "std").Output()
	if err != nil {
		t.Fatalf("go list std: %v", err)
	}
	standard := map[string]bool{}
	for s := range strings.FieldsSeq(string(std)) {
		standard[s] = true
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "holdline"), "/")
		row, ok := layout[name]
		if !ok {
			t.Errorf("package %q is not on the map: give it a row with its purpose", name)
			continue
		}
		seen[name] = true
		if p.Doc == "" {
			t.Errorf("package %q has no package comment", name)
		}
		for _, imp := range p.Imports {
			switch ours, isOurs := strings.CutPrefix(imp, "holdline/"); {
			case standard[imp] || imp == "C" || row.ours == "*" && isOurs:
			case isOurs:
				if ours != "chat" && !slices.Contains(strings.Fields(row.ours), ours) {
					t.Errorf("%q may not import %q", name, ours)
				}
			default:
				if !slices.ContainsFunc(append(strings.Fields(row.libs), everywhere...), func(m string) bool { return strings.HasPrefix(imp, m) }) {
					t.Errorf("%q may not import %s: each library has one importing package", name, imp)
				}
			}
		}
	}
	for name := range layout {
		if !seen[name] {
			t.Errorf("the map names %q, which does not exist", name)
		}
	}
	owner := map[string]string{}
	for name, row := range layout {
		for lib := range strings.FieldsSeq(row.libs) {
			if owner[lib] != "" {
				t.Errorf("%s belongs to both %q and %q", lib, owner[lib], name)
			}
			owner[lib] = name
		}
	}
}
