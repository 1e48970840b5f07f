package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"holdline/chat"
)

const conv = "5c8f14e45fceea167a5a36dedd"

func TestParseSay(t *testing.T) {
	long := strings.Repeat("x", chat.MaxTextBytes)
	for _, tt := range []struct {
		name, payload string
		want          error
		id            chat.MessageID // what is known of a refused one
		detail        string
	}{
		{"plain", `{"id":"1","text":"hi"}`, nil, "", ""},
		{"unknown fields are ignored", `{"id":"1","text":"hi","new":{"a":[1]}}`, nil, "", ""},
		{"everything", `{"id":"1","kind":"text","conversation":"` + conv + `","text":"hi","epoch":3}`, nil, "", ""},
		{"longest id", `{"id":"` + strings.Repeat("i", 64) + `","text":"hi"}`, nil, "", ""},
		{"longest text", `{"id":"1","text":"` + long + `"}`, nil, "", ""},
		{"text one byte too long", `{"id":"1","text":"` + long + `x"}`, chat.ErrTooLarge, "1", "text has 16385 bytes"},
		{"id one byte too long", `{"id":"` + strings.Repeat("i", 65) + `","text":"hi"}`, chat.ErrInvalid, "", "64 bytes"},
		{"no id", `{"text":"hi"}`, chat.ErrInvalid, "", "id is missing"},
		{"id of the wrong type", `{"id":7,"text":"hi"}`, chat.ErrInvalid, "", "id is a JSON number"},
		{"text of the wrong type", `{"id":"1","text":{}}`, chat.ErrInvalid, "1", "text is a JSON object"},
		{"no text", `{"id":"1"}`, chat.ErrInvalid, "1", "text is missing"},
		{"unknown kind", `{"id":"1","kind":"dance","text":"hi"}`, chat.ErrInvalid, "1", `kind "dance"`},
		{"the server's own kind", `{"id":"1","kind":"system","text":"hi"}`, chat.ErrInvalid, "1", `kind "system"`},
		{"not a conversation id", `{"id":"1","conversation":"zz","text":"hi"}`, chat.ErrInvalid, "1", "not a conversation id"},
		{"broken JSON", `{"id":"1","text":"hi"`, chat.ErrInvalid, "", "not JSON"},
		{"not an object", `[1]`, chat.ErrInvalid, "", "not an object"},
		{"empty", ``, chat.ErrInvalid, "", "not JSON"},
		{"two objects", `{"id":"1","text":"hi"}{}`, chat.ErrInvalid, "", "more after"},
		{"not UTF-8", "{\"id\":\"1\",\"text\":\"\xff\"}", chat.ErrInvalid, "1", "UTF-8"},
		{"U+0000 in the text", `{"id":"1","text":"a\u0000b"}`, chat.ErrInvalid, "1", "control character"},
		{"U+0001 in the text", `{"id":"1","text":"a\u0001b"}`, chat.ErrInvalid, "1", "control character"},
		{"tab and line break in the text", `{"id":"1","text":"a\tb\r\nc"}`, nil, "", ""},
		{"control character in the id", `{"id":"a\nb","text":"hi"}`, chat.ErrInvalid, "", "control character"},
		{"payload too large", `{"id":"1","text":"` + strings.Repeat("x", chat.MaxPayloadBytes) + `"}`, chat.ErrTooLarge, "", "at most 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := chat.ParseSay([]byte(tt.payload))
			if !errors.Is(err, tt.want) {
				t.Fatalf("ParseSay = %v, want %v", err, tt.want)
			}
			if err == nil {
				if s.Kind != chat.Text {
					t.Errorf("kind = %q, want text", s.Kind)
				}
				return
			}
			if s.ID != tt.id {
				t.Errorf("id = %q, want %q", s.ID, tt.id)
			}
			if !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("error %q does not say %q", err, tt.detail)
			}
			if len(err.Error()) > 300 {
				t.Errorf("error repeats the input: %d bytes", len(err.Error()))
			}
		})
	}
}

func TestSameContentHasTheSameHash(t *testing.T) {
	a := chat.Say{ID: "1", Kind: chat.Text, Text: "hi"}
	learnt := a
	learnt.Conversation = conv
	if a.Hash() != learnt.Hash() {
		t.Error("a resend that names the conversation is another message")
	}
	other := a
	other.Text = "ho"
	if a.Hash() == other.Hash() {
		t.Error("another text has the same hash")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"1","text":"hi","do":"accept","op":"sync","request":"r","conversation":"` + conv + `"}`))
	f.Add([]byte(`{"id":1}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := chat.ParseSay(b); err == nil {
			// What was taken survives being sent on.
			j, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := chat.ParseSay(j); err != nil || again != s {
				t.Errorf("%q: %+v became %+v, %v", b, s, again, err)
			}
		} else if _, ok := chat.ReasonOf(err); !ok {
			t.Errorf("%q: error without a reason: %v", b, err)
		} else if s.ID != "" && s.ID.Validate() != nil {
			t.Errorf("%q: unusable id %q", b, s.ID)
		}
		if _, err := chat.ParseCommand(b); err != nil {
			if _, ok := chat.ReasonOf(err); !ok {
				t.Errorf("%q: %v", b, err)
			}
		}
		if r, err := chat.ParseRequest(b); err == nil && (r.Limit < 1 || r.Limit > chat.MaxSyncEvents) {
			t.Errorf("limit %d", r.Limit)
		}
	})
}

func TestEventIDs(t *testing.T) {
	id := chat.NewEventID("a-b", 42)
	if inc, n, ok := id.Parse(); inc != "a-b" || n != 42 || !ok {
		t.Errorf("Parse(%s) = %q, %d, %t", id, inc, n, ok)
	}
	for _, bad := range []chat.EventID{"", "-", "-1", "a-", "a", "a-x", "a--1", "a-99999999999999999999999"} {
		if inc, n, ok := bad.Parse(); ok && bad != "a--1" {
			t.Errorf("Parse(%q) = %q, %d", bad, inc, n)
		}
	}
	if b := string(chat.RefusedEvent(chat.Refusal{Reason: chat.ReasonInvalid}, noon).Body()); !strings.Contains(b, `"id":""`) {
		t.Errorf("a refusal without an id lacks the field: %s", b)
	}
	body := chat.RefusedEvent(chat.Refusal{ID: "1", Reason: chat.ReasonInvalid}, noon).Body()
	var e chat.Event
	if err := json.Unmarshal(chat.Numbered(id, body), &e); err != nil || e.Event != id || e.Type != chat.TypeRefused {
		t.Errorf("Numbered: %+v, %v", e, err)
	}
}

func TestTheLongestTextFitsAPhonesPacket(t *testing.T) {
	for _, unit := range []string{"<", "&", "\"", "\\", "\n", "x", "退", "\u2028"} {
		text := strings.Repeat(unit, chat.MaxTextBytes/len(unit))
		in, err := json.Marshal(map[string]string{"id": strings.Repeat("i", chat.MaxMessageIDBytes), "text": text})
		if err != nil {
			t.Fatal(err)
		}
		if len(in) > chat.MaxPayloadBytes {
			continue // cannot be sent that way
		}
		s, err := chat.ParseSay(in)
		if err != nil {
			t.Fatalf("%q: %v", unit, err)
		}
		from := ada
		from.Subject = strings.Repeat("s", chat.MaxSubjectBytes)
		m := open().Number(from, from.Subject, s, noon)
		// The topic and the packet's own bytes take less than 1 KiB.
		if n := len(chat.Numbered(chat.NewEventID("incarnation", 1<<60), chat.MessageEvent(m).Body())); n > chat.MaxPayloadBytes-1024 {
			t.Errorf("16 KiB of %q make an event of %d bytes", unit, n)
		}
	}
}

func TestCustomersDoNotSeeTheAgentsHead(t *testing.T) {
	c := in(t, chat.Held)
	c.Number(ada, "Ada", chat.Say{Text: "secret preview"}, noon)
	body := string(chat.HeadEvent(c, chat.ForCustomer).Body())
	for _, hidden := range []string{"secret preview", "queue", "epoch", "since"} {
		if strings.Contains(body, hidden) {
			t.Errorf("the customer's head shows %q: %s", hidden, body)
		}
	}
	if !strings.Contains(string(chat.HeadEvent(c, chat.ForAgent).Body()), `"epoch":1`) {
		t.Error("the agent's head lacks the epoch")
	}
}

func TestSlotsArePermanent(t *testing.T) {
	// Data is addressed by these for ever: a change of the function loses it.
	for subject, want := range map[string]chat.Slot{"ada": 0x45, "bob": 0x46} {
		a := chat.Account{Tenant: "main", Role: chat.Customer, Subject: subject}
		if got := a.Slot(); got != want {
			t.Errorf("slot of %s = %#x, want %#x", a, got, want)
		}
		if a.Inbox().Slot() != a.Slot() {
			t.Errorf("inbox of %s is elsewhere", a)
		}
		id := chat.NewConversationID(a.Slot(), [12]byte{9})
		if s, err := id.Slot(); err != nil || s != a.Slot() {
			t.Errorf("conversation %s: slot %#x, %v", id, s, err)
		}
	}
	if p := chat.Slot(255).Partition(); p != chat.Partitions-1 {
		t.Errorf("the last slot is in partition %d", p)
	}
}
