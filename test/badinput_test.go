package test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/broker/token"
	"holdline/chat"
	"holdline/test/wire"
)

// TestBadInputGetsItsErrorAndNobodyElseNotices: everything a client can do
// wrong, under both versions, beside a conversation that goes on all the time.
func TestBadInputGetsItsErrorAndNobodyElseNotices(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := NewServer(t, setup)
		desk := s.HireDesk("bob", 5, ByMQTT, nil)
		s.Start()
		awaitDesks(t, s, desk)
		bystander := s.Phone("bystander", "phone", nil)
		theirs := begin(t, bystander)
		stop := chatter(t, []*Phone{bystander}, 3)

		unknown := chat.NewConversationID(chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "eve"}.Slot(), [12]byte{1, 2, 3})
		long := strings.Repeat("x", chat.MaxTextBytes+1)
		for _, version := range []byte{wire.V311, wire.V5} {
			t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
				eve := fmt.Sprintf("eve-%d", version)
				device := s.Phone(eve, "inbox", nil) // sees the refusals
				device.On()
				device.AwaitOnline()
				session := wire.Open(t, s.MQTT(), hello(s, version, eve, "sender"))
				for i, tt := range []struct {
					name, topic, payload string
					code                 byte // of the PUBACK, for MQTT 5
					id                   chat.MessageID
					reason               chat.Reason
				}{
					{"broken JSON", "up/message", `{"id":"b-1","text":"hi"`, 0x99, "", chat.ReasonInvalid},
					{"no JSON", "up/message", "hello?", 0x99, "", chat.ReasonInvalid},
					{"nothing", "up/message", "", 0x99, "", chat.ReasonInvalid},
					{"an array", "up/message", `["id"]`, 0x99, "", chat.ReasonInvalid},
					{"null", "up/message", `null`, 0x99, "", chat.ReasonInvalid},
					{"not UTF-8", "up/message", "{\"id\":\"b-2\",\"text\":\"\xff\"}", 0x99, "", chat.ReasonInvalid},
					{"id of the wrong type", "up/message", `{"id":7,"text":"hi"}`, 0x99, "", chat.ReasonInvalid},
					{"text of the wrong type", "up/message", `{"id":"b-3","text":{"a":1}}`, 0x99, "b-3", chat.ReasonInvalid},
					{"no id", "up/message", `{"text":"hi"}`, 0x99, "", chat.ReasonInvalid},
					{"long id", "up/message", `{"id":"` + strings.Repeat("i", 65) + `","text":"hi"}`, 0x99, "", chat.ReasonInvalid},
					{"no text", "up/message", `{"id":"b-4"}`, 0x99, "b-4", chat.ReasonInvalid},
					{"U+0000", "up/message", `{"id":"b-5","text":"a\u0000"}`, 0x99, "b-5", chat.ReasonInvalid},
					{"unknown kind", "up/message", `{"id":"b-6","text":"hi","kind":"system"}`, 0x99, "b-6", chat.ReasonInvalid},
					{"oversize text", "up/message", `{"id":"b-7","text":"` + long + `"}`, 0x99, "b-7", chat.ReasonTooLarge},
					{"no conversation id", "up/message", `{"id":"b-8","text":"hi","conversation":"nonsense"}`, 0x99, "b-8", chat.ReasonInvalid},
					{"foreign conversation", "up/message", fmt.Sprintf(`{"id":"b-9","text":"hi","conversation":%q}`, theirs), 0, "b-9", chat.ReasonForbidden},
					{"unknown conversation", "up/message", fmt.Sprintf(`{"id":"b-10","text":"hi","conversation":%q}`, unknown), 0, "b-10", chat.ReasonNotFound},
					{"unknown topic", "up/nonsense", `{"id":"b-11","text":"hi"}`, 0x87, "", chat.ReasonForbidden},
					{"topic of agents", "up/command", `{"id":"b-12","do":"resolve","conversation":"` + string(theirs) + `"}`, 0x87, "", chat.ReasonForbidden},
					{"topic of others", "$hl/main/customer/bystander/up/message", `{"id":"b-13","text":"hi"}`, 0x87, "", chat.ReasonForbidden},
					{"own inbox", "down/event", `{"event":"x-1"}`, 0x87, "", chat.ReasonForbidden},
				} {
					if i%8 == 7 { // a client that is wrong too often in a row is cut off
						session.Drop()
						session = wire.Open(t, s.MQTT(), hello(s, version, eve, "sender"))
					}
					had := len(only(device.Events(), chat.TypeRefused))
					a := session.Pub(uint16(i+1), tt.topic, []byte(tt.payload))
					if version == wire.V5 && a.Code != tt.code {
						t.Errorf("%s: %s, want %#02x", tt.name, a, tt.code)
					}
					if a.Code >= 0x80 && a.Properties.Str(wire.ReasonString) == "" {
						t.Errorf("%s: %s gives no reason", tt.name, a)
					}
					var e chat.Event
					Eventually(t, Patience, func() string {
						refused := only(device.Events(), chat.TypeRefused)
						if len(refused) == had {
							return tt.name + ": no refused event"
						}
						e = refused[had]
						return ""
					})
					if e.ID != tt.id && tt.id != "" || e.Reason != tt.reason || len(e.Detail) < 8 {
						t.Errorf("%s: refused as id %q, reason %q, detail %q; want id %q, reason %q", tt.name, e.ID, e.Reason, e.Detail, tt.id, tt.reason)
					}
				}
				if n := len(device.Messages()); n != 0 {
					t.Errorf("%d messages came of bad input", n)
				}
				for _, filter := range []string{"#", "+/#", "down/+", "$hl/#", "$hl/main/customer/bystander/#", "queue/+/event", "up/#", "foo#"} {
					c := wire.Open(t, s.MQTT(), hello(s, version, eve, "other"))
					c.Must(wire.Packet{Type: wire.Subscribe, ID: 1, Filters: []wire.Filter{{Topic: filter, Options: 1}}})
					p, err := c.Next(wire.Patience)
					if refused := wire.Gone(err) || p.Type == wire.Disconnect || p.Type == wire.Suback && p.Codes[0] >= 0x80; !refused {
						t.Errorf("subscribe to %q: %s, %v", filter, p, err)
					}
					c.Drop()
				}
				retained := wire.Packet{Type: wire.Publish, QoS: 1, ID: 9, Retain: true, Topic: "up/message", Payload: []byte(`{"id":"retained","text":"hi"}`)}
				c := wire.Open(t, s.MQTT(), hello(s, version, eve, "other"))
				c.Must(retained)
				if version == wire.V5 {
					if last := c.Closed(wire.Patience); last.Code != 0x9a {
						t.Errorf("retained publish: %s, want 0x9a", last)
					}
				}
				Eventually(t, Patience, func() string {
					if _, ok := device.Find(chat.TypeRefused, "retained"); !ok && version == wire.V311 {
						return "a retained publish was not refused"
					}
					return ""
				})
				// An MQTT 5 client was told the limit. An older one cannot know it: its publish is refused.
				big := wire.Open(t, s.MQTT(), hello(s, version, eve, "other"))
				if err := big.Send(wire.Packet{Type: wire.Publish, QoS: 1, ID: 1, Topic: "up/message", Payload: make([]byte, 70<<10)}); err != nil && !wire.Gone(err) {
					t.Error(err)
				}
				if version == wire.V5 {
					if last := big.Closed(wire.Patience); last.Code != 0x95 {
						t.Errorf("oversize packet: %s, want 0x95", last)
					}
				} else {
					big.Get(wire.Puback)
					Eventually(t, Patience, func() string {
						if refused := only(device.Events(), chat.TypeRefused); refused[len(refused)-1].Reason != chat.ReasonTooLarge {
							return "an oversize packet was not refused"
						}
						return ""
					})
				}
				crash := wire.Open(t, s.MQTT(), hello(s, version, eve, "other"))
				if err := crash.Bytes([]byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}); err != nil {
					t.Error(err)
				}
				crash.Closed(wire.Patience)
				device.Off()
				refusedTokens(t, s, version)
			})
		}
		stop()
		l := Ledger{Server: s, Phones: []*Phone{bystander}, Desks: []*Desk{desk}, Answered: true}
		l.Close(t)
		for _, e := range append(bystander.Events(), desk.Own()...) {
			if e.Type == chat.TypeRefused || e.Conversation != "" && e.Conversation != theirs {
				t.Errorf("a bystander noticed: %+v", e)
			}
		}
		var customers []string
		heads, err := s.Conversations(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range heads {
			customers = append(customers, h.Customer.ID)
		}
		if !slices.Equal(customers, []string{"bystander"}) {
			t.Errorf("conversations of %v", customers)
		}
	})
}

// hello is of a session without an end, so that nothing of it is left behind.
func hello(s *Server, version byte, customer, device string) wire.Hello {
	return wire.Hello{Version: version, Client: device, Clean: true, User: customer, Password: s.Token(chat.Customer, customer, "")}
}

func refusedTokens(t *testing.T, s *Server, version byte) {
	t.Helper()
	good := s.Token(chat.Customer, "eve", "phone-1")
	parts := strings.Split(good, ".")
	raw := base64.RawURLEncoding.EncodeToString
	body := raw(fmt.Appendf(nil, `{"role":"service","sub":"root","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	other, err := token.NewKeys([]byte(strings.Repeat("x", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Issue(token.Claims{Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "eve"}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	bad, device := []byte{0x86, 0x87}, byte(0x85)
	if version == wire.V311 {
		bad, device = []byte{4, 5}, 2
	}
	for _, tt := range []struct {
		name, client, password string
		want                   []byte
	}{
		{"no token", "phone-1", "", bad},
		{"garbage", "phone-1", "let me in", bad},
		{"expired", "phone-1", s.TokenUntil(chat.Customer, "eve", "phone-1", time.Now().Add(-10*time.Minute)), bad},
		{"wrong key", "phone-1", foreign, bad},
		{"alg none", "phone-1", raw([]byte(`{"alg":"none"}`)) + "." + body + ".", bad},
		{"changed claims", "phone-1", parts[0] + "." + body + "." + parts[2], bad},
		{"another device", "phone-2", good, []byte{device}},
	} {
		c := wire.Dialed(t, s.MQTT())
		p, err := c.Connect(wire.Hello{Version: version, Client: tt.client, Clean: true, User: "eve", Password: tt.password})
		if err != nil || !slices.Contains(tt.want, p.Code) {
			t.Errorf("%s: %s, %v; want one of %#x", tt.name, p, err, tt.want)
		}
		c.Closed(wire.Patience)
		if tt.name == "another device" { // that is a matter of MQTT
			continue
		}
		if err, ok := s.Call(t.Context(), tt.password, http.MethodGet, "/conversations", nil, nil).(*Problem); !ok || err.Status != http.StatusUnauthorized {
			t.Errorf("%s: the API answers %v, want 401", tt.name, err)
		}
	}
	if strings.Contains(s.Log(), good) {
		t.Error("the log contains a token")
	}
}

// TestTheLogKeepsToItself: nothing that people said, no token, no password.
func TestTheLogKeepsToItself(t *testing.T) {
	t.Parallel()
	const secret = "my account number is 8472-1199"
	s := NewServer(t, Setup{Flags: []string{"--log", "debug"}})
	desk := s.HireDesk("bob", 5, ByMQTT, nil)
	s.Start()
	awaitDesks(t, s, desk)
	ada := s.Phone("ada", "phone", nil)
	ada.On()
	ada.Say(secret)
	ada.Publish("up/message", "broken", secret, map[string]any{"id": "broken", "text": []string{secret}})
	if err := s.Call(t.Context(), "", http.MethodPost, "/session", map[string]string{"id": "bob", "password": passwordOf("bob")}, nil); err != nil {
		t.Error(err)
	}
	Eventually(t, Patience, func() string {
		if ada.Told("broken") == "" || ada.Answers() == 0 {
			return "no answer, no refusal"
		}
		return ""
	})
	s.Stop()
	said := s.Log()
	for name, hidden := range map[string]string{"what was said": "8472-1199", "a token": ada.hello.Password, "a password": passwordOf("bob")} {
		if strings.Contains(said, hidden) {
			t.Errorf("the log contains %s", name)
		}
	}
	key, err := os.ReadFile(s.Dir() + "/token.key")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said, strings.TrimSpace(string(key))) {
		t.Error("the log contains the token key")
	}
}
