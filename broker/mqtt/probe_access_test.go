package mqtt_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/broker/journal"
	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// probeSay is a payload of up/message that is right.
const probeSay = `{"id":"m-1","text":"hi"}`

// TestProbeForgedTokensDoNotConnect: each of them, under both versions.
func TestProbeForgedTokensDoNotConnect(t *testing.T) {
	b := startOwn(t)
	b.anonymous = false
	b.Restart()
	other, err := token.NewKeys([]byte(strings.Repeat("x", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	claims := token.Claims{Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"}, Issued: now.Add(-2 * time.Hour), Expires: now.Add(time.Hour)}
	issue := func(k *token.Keys, c token.Claims) string {
		s, err := k.Issue(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := issue(b.Keys, claims)
	expired := claims
	expired.Expires = now.Add(-time.Hour)
	parts := strings.Split(good, ".")
	raw := base64.RawURLEncoding.EncodeToString
	body := raw(fmt.Appendf(nil, `{"role":"service","sub":"root","exp":%d}`, now.Add(time.Hour).Unix()))
	none := raw([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + body + "."
	for _, tt := range []struct{ name, password string }{
		{"none at all", ""},
		{"not a token", "secret"},
		{"alg none", none},
		{"alg none with a signature", none + parts[2]},
		{"wrong key", issue(other, claims)},
		{"expired", issue(b.Keys, expired)},
		{"changed claims", parts[0] + "." + body + "." + parts[2]},
		{"very long", strings.Repeat("a", 6000)},
	} {
		for _, version := range probeVersions {
			t.Run(fmt.Sprintf("%s v%d", tt.name, version), func(t *testing.T) {
				c := wire.Dialed(t, b.Addr)
				p, err := c.Connect(wire.Hello{Version: version, Client: "phone", Clean: true, User: "ada", Password: tt.password})
				if err != nil {
					t.Fatalf("no CONNACK: %v", err)
				}
				want := []byte{0x86, 0x87}
				if version == wire.V311 {
					want = []byte{4, 5}
				}
				if !slices.Contains(want, p.Code) {
					t.Errorf("%s, want one of %#x", p, want)
				}
				c.Closed(wire.Patience)
			})
		}
	}
	wire.Open(t, b.Addr, wire.Hello{Client: "phone", Clean: true, User: "ada", Password: good}).Alive()
}

// TestProbeTheClientIDIsTheDevice of a token that names one.
func TestProbeTheClientIDIsTheDevice(t *testing.T) {
	b := startOwn(t)
	password := b.Token(chat.Customer, "ada", "phone-1")
	for _, version := range probeVersions {
		c := wire.Dialed(t, b.Addr)
		p, err := c.Connect(wire.Hello{Version: version, Client: "phone-2", Clean: true, User: "ada", Password: password})
		if want := map[byte]byte{wire.V5: 0x85, wire.V311: 2}[version]; err != nil || p.Code != want {
			t.Errorf("v%d: %s, %v; want %#02x", version, p, err, want)
		}
		c.Closed(wire.Patience)
		wire.Open(t, b.Addr, wire.Hello{Version: version, Client: "phone-1", Clean: true, User: "ada", Password: password}).Alive()
	}
}

// TestProbeTwoCustomersMayNameTheirPhoneAlike: neither takes over the other.
func TestProbeTwoCustomersMayNameTheirPhoneAlike(t *testing.T) {
	b := startOwn(t)
	ada := wire.Open(t, b.Addr, b.Customer(wire.V5, "ada", "phone-1"))
	ada.Sub(1, "down/#", 1)
	bob := wire.Open(t, b.Addr, b.Customer(wire.V5, "bob", "phone-1"))
	if bob.Connack.SessionPresent {
		t.Error("bob got ada's session")
	}
	ada.Alive()
	bob.Alive()
}

// TestProbeFiltersBeyondTheContractAreRefused, and those of the contract granted.
func TestProbeFiltersBeyondTheContractAreRefused(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		ada := wire.Open(t, b.Addr, b.Customer(version, "ada", "phone"))
		for i, tt := range []struct {
			filter  string
			granted bool
		}{
			{"down/#", true}, {"down/event", true}, {"down/reply", true},
			{"#", false}, {"+", false}, {"+/#", false}, {"+/+", false}, {"down/+", false}, {"down/event/#", false},
			{"up/#", false}, {"up/message", false}, {"queue/+/event", false}, {"queue/main/event", false}, {"other", false},
			{"$SYS/#", false}, {"$hl/#", false}, {"$hl/main/customer/bob/down/event", false}, {"$hl/main/customer/ada/#", false},
		} {
			a := ada.Ask(wire.Packet{Type: wire.Subscribe, ID: uint16(i + 1), Filters: []wire.Filter{{Topic: tt.filter, Options: 1}}}, wire.Suback)
			want := map[byte]byte{wire.V5: 0x87, wire.V311: 0x80}[version]
			if tt.granted {
				want = 1
			}
			if a.Codes[0] != want {
				t.Errorf("v%d: %q: %s, want %#02x", version, tt.filter, a, want)
			}
		}
		a := ada.Ask(wire.Packet{Type: wire.Subscribe, ID: 99, Filters: []wire.Filter{{Topic: "$share/g/down/#", Options: 1}}}, wire.Suback)
		if a.Codes[0] < 0x80 {
			t.Errorf("v%d: shared subscription: %s", version, a)
		}
		ada.Drop()
	}
}

// TestProbePublishesBeyondTheContractAreRefused: 5 is told at once, and
// for both versions the journal has the refusal and nobody gets the message.
func TestProbePublishesBeyondTheContractAreRefused(t *testing.T) {
	b := startOwn(t)
	watcher := b.Service()
	sent, want := 0, 0
	refuse := func(version byte, h wire.Hello, topic, payload string, code byte) {
		t.Helper()
		c := wire.Open(t, b.Addr, h)
		defer c.Drop()
		sent++
		a := c.Pub(uint16(sent), topic, []byte(payload))
		if version == wire.V5 && (a.Code != code || a.Properties.Str(wire.ReasonString) == "") {
			t.Errorf("publish of %.40q to %q: %s, want %#02x and a reason", payload, topic, a, code)
		}
		c.Alive()
		want++
	}
	for _, version := range probeVersions {
		ada := b.Customer(version, "ada", fmt.Sprint("phone-", version))
		for _, topic := range []string{
			"down/event", "down/reply", "up/command", "up/report", "up/message/x", "up", "other",
			"$hl/main/customer/bob/up/message", "$hl/main/customer/ada/up/message", "$hl/main/customer/bob/down/event", "$SYS/x", "/up/message",
		} {
			refuse(version, ada, topic, probeSay, 0x87)
		}
		for _, payload := range []string{
			`{"id":"m-1","text":"hi"`, `not json`, ``, `[]`, `null`, `42`, "\xff\xfe", `{"id":7,"text":"hi"}`, `{"id":"m-1","text":["hi"]}`,
			`{"text":"hi"}`, `{"id":"","text":"hi"}`, `{"id":"m-1"}`, `{"id":"m-1","text":""}`, `{"id":"m-1","text":"a\u0000b"}`,
			`{"id":"` + strings.Repeat("x", 65) + `","text":"hi"}`, `{"id":"m-1","text":"` + strings.Repeat("x", 16<<10+1) + `"}`,
			`{"id":"m-1","text":"hi","kind":"system"}`, `{"id":"m-1","text":"hi","conversation":"nonsense"}`, probeSay + probeSay,
		} {
			refuse(version, ada, "up/message", payload, 0x99)
		}
	}
	// What the journal has: one refused entry each, under ada's own account.
	refused := 0
	for partition := range chat.Partitions {
		entries, err := b.Journal.ReadPartition(t.Context(), partition, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Topic, "$hl/main/customer/ada/") {
				continue
			}
			var r chat.Refusal
			if err := json.Unmarshal(e.Refused, &r); err != nil || r.Reason == "" || r.Detail == "" || len(e.Payload) != 0 {
				t.Errorf("journal has %s: payload of %d bytes, refusal %s", e.Topic, len(e.Payload), e.Refused)
			}
			refused++
		}
	}
	if refused != want {
		t.Errorf("journal has %d refused entries, want %d", refused, want)
	}
	// Nobody was sent any of it.
	ada := wire.Open(t, b.Addr, b.Customer(wire.V5, "ada", "phone-last"))
	ada.Accepted(1, "up/message", []byte(`{"id":"last","text":"coda"}`))
	for {
		p := watcher.Get(wire.Publish)
		if strings.Contains(p.Topic, "/presence/") {
			continue
		}
		if p.Topic != "$hl/main/customer/ada/up/message" || !strings.Contains(string(p.Payload), "coda") {
			t.Errorf("a service was sent %s", p)
			continue
		}
		break
	}
}

// TestProbeWhatIsNotAvailableIsAnnouncedAndRefused: shared subscriptions, aliases; to
// customers, retained messages and wills on topics that are not theirs.
func TestProbeWhatIsNotAvailableIsAnnouncedAndRefused(t *testing.T) {
	b := startOwn(t)
	watcher := b.Service()
	ada := wire.Open(t, b.Addr, b.Customer(wire.V5, "ada", "phone"))
	for _, tt := range []struct {
		property byte
		want     uint32
	}{
		{wire.RetainAvailable, 0}, {wire.SharedAvailable, 0},
		{wire.ReceiveMaximum, 16}, {wire.MaximumPacketSize, 64 << 10},
	} {
		if n, ok := ada.Connack.Properties.Num(tt.property); !ok || n != tt.want {
			t.Errorf("CONNACK property %#02x = %d, %t; want %d", tt.property, n, ok, tt.want)
		}
	}
	if n, ok := ada.Connack.Properties.Num(wire.MaximumQoS); ok {
		t.Errorf("CONNACK limits the QoS to %d", n)
	}
	if n, _ := ada.Connack.Properties.Num(wire.TopicAliasMaximum); n != 0 {
		t.Errorf("CONNACK allows %d topic aliases", n)
	}
	for _, tt := range []struct {
		name   string
		packet wire.Packet
		code   byte
	}{
		{"retained", wire.Packet{Type: wire.Publish, QoS: 1, ID: 1, Retain: true, Topic: "up/message", Payload: []byte(probeSay)}, 0x9a},
		{"alias", wire.Packet{Type: wire.Publish, QoS: 1, ID: 1, Topic: "up/message", Payload: []byte(probeSay),
			Properties: wire.Properties{{ID: wire.TopicAlias, Num: 1}}}, 0x94},
	} {
		c := wire.Open(t, b.Addr, b.Customer(wire.V5, "eve", "phone"))
		c.Must(tt.packet)
		if last := c.Closed(wire.Patience); last.Code != tt.code {
			t.Errorf("%s: %s, want %#02x", tt.name, last, tt.code)
		}
		// 3.1.1 cannot be told: no acknowledgement, or a refusal in the journal, never a success that is delivered.
		c = wire.Open(t, b.Addr, b.Customer(wire.V311, "eve", "phone"))
		tt.packet.Properties = nil
		if tt.name != "alias" {
			c.Must(tt.packet)
			probeNoSuccess(t, c, b, tt.name)
		}
	}
	// A will may not say what its owner may not, nor stay behind as retained.
	for _, topic := range []string{"$hl/main/customer/bob/up/message", "down/event", "other"} {
		h := b.Customer(wire.V5, "eve", "phone")
		h.Will = &wire.Packet{Topic: topic, QoS: 1, Payload: []byte(probeSay)}
		c := wire.Dialed(t, b.Addr)
		if p, err := c.Connect(h); err != nil || p.Code != 0x87 {
			t.Errorf("a will on %q: %s, %v; want 0x87", topic, p, err)
		}
	}
	h := b.Customer(wire.V5, "eve", "phone")
	h.Will = &wire.Packet{Topic: "up/message", QoS: 1, Retain: true, Payload: []byte(probeSay)}
	if p, err := wire.Dialed(t, b.Addr).Connect(h); err != nil || p.Code != 0x9a {
		t.Errorf("a retained will: %s, %v; want 0x9a", p, err)
	}
	h.Will = &wire.Packet{Topic: "up/message", QoS: 1, Payload: []byte(`{"id":""}`)}
	if p, err := wire.Dialed(t, b.Addr).Connect(h); err != nil || p.Code != 0x99 {
		t.Errorf("a will that cannot be read: %s, %v; want 0x99", p, err)
	}
	ada.Accepted(9, "up/message", []byte(`{"id":"last","text":"coda"}`))
	for {
		p := watcher.Get(wire.Publish)
		if strings.Contains(p.Topic, "/presence/") {
			continue
		}
		if p.Topic != "$hl/main/customer/ada/up/message" {
			t.Errorf("a service was sent %s", p)
			continue
		}
		break
	}
}

// probeNoSuccess requires that the connection ends without a PUBACK, or that the journal holds a refusal.
func probeNoSuccess(t *testing.T, c *wire.Client, b *probeBroker, name string) {
	t.Helper()
	for {
		p, err := c.Next(wire.Patience)
		if wire.Gone(err) {
			return
		}
		if err != nil {
			t.Fatalf("%s: neither an answer nor the end: %v", name, err)
		}
		if p.Type == wire.Puback || p.Type == wire.Pubrec {
			break
		}
	}
	account := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "eve"}
	entries, err := b.Journal.ReadPartition(t.Context(), account.Slot().Partition(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(entries, func(e *journal.Entry) bool {
		return e.Refused != nil && strings.HasPrefix(e.Topic, "$hl/main/customer/eve/up/")
	}) {
		t.Errorf("%s: acknowledged and no refusal in the journal", name)
	}
}

// TestProbeAForeignConversationIsStillOnesOwnWord: naming somebody else's
// conversation changes where the input is decided, never who said it.
func TestProbeAForeignConversationIsStillOnesOwnWord(t *testing.T) {
	b := startOwn(t)
	bob := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "bob"}
	theirs := chat.NewConversationID(bob.Slot(), [12]byte{1})
	eve := wire.Open(t, b.Addr, b.Customer(wire.V5, "eve", "phone"))
	eve.Sub(1, "down/#", 1)
	a := eve.Pub(1, "up/message", fmt.Appendf(nil, `{"id":"m-1","conversation":%q,"text":"hi"}`, theirs))
	entries, err := b.Journal.ReadPartition(t.Context(), bob.Slot().Partition(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range entries {
		found = found || e.Topic == "$hl/main/customer/eve/up/message"
		if strings.Contains(e.Topic, "/bob/") {
			t.Errorf("journal has %s", e.Topic)
		}
	}
	if a.Code == 0 && !found {
		t.Error("acknowledged, but not where the bridge decides about that conversation")
	}
}

// TestProbeReceiveMaximumOfTheServer: who sends more than was announced is cut
// off with 0x93 or served, but never lied to: what has a PUBACK is in the journal.
func TestProbeReceiveMaximumOfTheServer(t *testing.T) {
	const messages = 2000
	b := startOwn(t)
	eve := wire.Open(t, b.Addr, b.Customer(wire.V5, "eve", "phone"))
	var all []byte
	for i := range messages {
		all = append(all, wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message",
			Payload: fmt.Appendf(nil, `{"id":"m-%d","text":"hi"}`, i)}.Encode(wire.V5)...)
	}
	if err := eve.Bytes(all); err != nil && !wire.Gone(err) {
		t.Fatal(err)
	}
	acked, ended := 0, wire.Packet{}
	for acked < messages && ended.Type == 0 {
		p, err := eve.Next(wire.Patience)
		switch {
		case wire.Gone(err):
			ended.Type = wire.Disconnect
		case err != nil:
			t.Fatalf("after %d acknowledgements: %v", acked, err)
		case p.Type == wire.Disconnect:
			ended = p
		case p.Type == wire.Puback && p.Code < 0x80:
			if p.ID != uint16(acked+1) {
				t.Fatalf("%s, want id %d", p, acked+1)
			}
			acked++
		case p.Type == wire.Puback && p.Code != 0x97:
			t.Fatalf("got %s", p)
		}
	}
	if ended.Code != 0 && ended.Code != 0x93 {
		t.Errorf("cut off with %s, want 0x93", ended)
	}
	account := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "eve"}
	stored := map[string]bool{}
	for after := uint64(0); ; {
		entries, err := b.Journal.ReadPartition(t.Context(), account.Slot().Partition(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			after = e.Seq
			if s, err := chat.ParseSay(e.Payload); err == nil {
				stored[string(s.ID)] = true
			}
		}
	}
	for i := range acked {
		if !stored[fmt.Sprintf("m-%d", i)] {
			t.Fatalf("message %d was acknowledged and is not in the journal", i)
		}
	}
	t.Logf("%d of %d acknowledged, then %s", acked, messages, ended)
	wire.Open(t, b.Addr, b.Customer(wire.V5, "eve", "phone")).Alive()

	// A 3.1.1 client cannot know the limit: it is slowed down, never cut off.
	old := wire.Open(t, b.Addr, b.Customer(wire.V311, "old", "phone"))
	all = all[:0]
	for i := range messages {
		all = append(all, wire.Packet{Type: wire.Publish, QoS: 1, ID: uint16(i + 1), Topic: "up/message",
			Payload: fmt.Appendf(nil, `{"id":"m-%d","text":"hi"}`, i)}.Encode(wire.V311)...)
	}
	if err := old.Bytes(all); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		probePuback(t, old, uint16(i+1))
	}
}
