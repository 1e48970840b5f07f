package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/client"
	"holdline/chat"
)

// glass is a terminal's screen: what a person would see.
type glass struct {
	width    int
	rows     [][]rune
	row, col int
}

// Write understands what chatScreen uses and fails on all else.
func (g *glass) Write(b []byte) (int, error) {
	in := []rune(string(b))
	for i := 0; i < len(in); i++ {
		switch r := in[i]; r {
		case '\r':
			g.col = 0
		case '\n':
			g.row, g.col = g.row+1, 0
		case 0x1b:
			end := i + 2
			for end < len(in) && (in[end] < 0x40 || in[end] > 0x7e) {
				end++
			}
			if in[i+1] != '[' {
				return 0, errors.New("not a control sequence")
			}
			n, _ := strconv.Atoi(string(in[i+2 : end]))
			switch in[end] {
			case 'A':
				g.row -= n
			case 'B':
				g.row += n
			case 'G':
				g.col = n - 1
			case 'J':
				g.line()
				g.rows[g.row] = g.rows[g.row][:min(g.col, len(g.rows[g.row]))]
				g.rows = g.rows[:g.row+1]
			case 'm':
			default:
				return 0, fmt.Errorf("sequence %q", string(in[i:end+1]))
			}
			i = end
		default:
			if r < 0x20 {
				return 0, fmt.Errorf("control character %q", r)
			}
			g.put(r)
		}
	}
	return len(b), nil
}

func (g *glass) line() {
	for len(g.rows) <= g.row {
		g.rows = append(g.rows, nil)
	}
}

func (g *glass) put(r rune) {
	if g.col >= g.width {
		g.row, g.col = g.row+1, 0
	}
	g.line()
	for len(g.rows[g.row]) <= g.col {
		g.rows[g.row] = append(g.rows[g.row], ' ')
	}
	g.rows[g.row][g.col] = r
	g.col++
}

func (g *glass) String() string {
	var lines []string
	for _, r := range g.rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

var chatNoon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fromAgent(text string, at time.Time) chat.Event {
	return chat.Event{Type: chat.TypeMessage, Seq: 2, From: &chat.Person{Role: chat.AgentRole, ID: "bob", Name: "Bob"}, Text: text, At: at.Format(chat.TimeFormat)}
}

func own(id chat.MessageID, text string, at time.Time) chat.Event {
	return chat.Event{Type: chat.TypeMessage, Seq: 1, ID: id, From: &chat.Person{Role: chat.Customer, ID: "ada", Name: "ada"}, Text: text, At: at.Format(chat.TimeFormat)}
}

func headEvent(state chat.State, agent string) chat.Event {
	h := &chat.Head{State: state}
	if agent != "" {
		h.Agent = &chat.Person{Role: chat.AgentRole, ID: "bob", Name: agent}
	}
	return chat.Event{Type: chat.TypeConversation, Conversation: "c", Head: h}
}

// aConversation is what the tests of both kinds of screen show.
func aConversation(s *chatScreen) {
	s.begin()
	s.link(client.Link{Up: true}, chatNoon)
	s.say("1", "Hi, order 4711 has not arrived", client.Queued, chatNoon)
	s.typed("and")
	s.receipt(client.Receipt{ID: "1", Status: client.Acknowledged}, chatNoon)
	s.event(headEvent(chat.Waiting, ""))
	s.event(own("1", "Hi, order 4711 has not arrived", chatNoon.Add(time.Minute)))
	s.receipt(client.Receipt{ID: "1", Status: client.Accepted, Seq: 1}, chatNoon.Add(time.Minute)) // says it once more
	s.event(headEvent(chat.Held, "Bob"))
	s.event(headEvent(chat.Held, "Bob")) // nothing new
	s.event(fromAgent("Good morning,\nlet me look at it.", chatNoon.Add(2*time.Minute)))
	s.say("2", "thanks", client.Queued, chatNoon.Add(3*time.Minute))
	s.receipt(client.Receipt{ID: "2", Status: client.Refused, Reason: chat.ReasonClosed}, chatNoon.Add(3*time.Minute))
	s.say("3", "still there?", client.Acknowledged, chatNoon.Add(4*time.Minute))
	s.link(client.Link{Err: errors.New("read: reset"), Retry: time.Second}, chatNoon.Add(5*time.Minute))
	s.link(client.Link{Err: errors.New("read: reset"), Retry: 2 * time.Second}, chatNoon.Add(5*time.Minute))
	s.event(headEvent(chat.Resolved, ""))
	s.event(own("elsewhere", "from my other phone", chatNoon.Add(24*time.Hour)))
}

func TestTerminalChangesTicksWhereTheyStand(t *testing.T) {
	g := &glass{width: 60}
	s := newChatScreen(g, "ada", time.UTC, func() (int, int) { return 60, 24 })
	aConversation(s)
	want := strings.TrimPrefix(`
— Sunday, 1 March 2026 —
12:00    — connected
12:00 ✓✓ you: Hi, order 4711 has not arrived
         — waiting for somebody to answer
         — Bob answers
12:02    Bob: Good morning,
         let me look at it.
12:03 ✗  you: thanks
12:03    — refused: closed
12:04 ✓  you: still there?
12:05    — not connected: read: reset; trying again
         — resolved; what you write next opens a new
         conversation
— Monday, 2 March 2026 —
12:00 ✓✓ you: from my other phone
○ ada> and`, "\n")
	if d := cmp.Diff(want, g.String()); d != "" {
		t.Error(d)
	}
	s.end()
	if got := g.String(); strings.Contains(got, "ada>") {
		t.Errorf("the prompt stays behind:\n%s", got)
	}
}

func TestPlainOutputOnlyAddsLines(t *testing.T) {
	var b strings.Builder
	aConversation(newChatScreen(&b, "ada", time.UTC, nil))
	want := strings.TrimPrefix(`
— Sunday, 1 March 2026 —
12:00    — connected
12:00 …  you: Hi, order 4711 has not arrived
12:00 ✓  Hi, order 4711 has not arrived (on disk)
         — waiting for somebody to answer
12:01 ✓✓ Hi, order 4711 has not arrived (accepted)
         — Bob answers
12:02    Bob: Good morning,
         let me look at it.
12:03 …  you: thanks
12:03 ✗  thanks (refused: closed)
12:04 ✓  you: still there?
12:05    — not connected: read: reset; trying again
         — resolved; what you write next opens a new conversation
— Monday, 2 March 2026 —
12:00 ✓✓ you: from my other phone
`, "\n")
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestNobodyElseCommandsTheTerminal(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[2J\u009b2Jhi\u202e\r\b\x00"
	for _, size := range []func() (int, int){nil, func() (int, int) { return 80, 24 }} {
		g := &glass{width: 80}
		var b strings.Builder
		s := newChatScreen(&b, evil, time.UTC, size)
		s.begin()
		s.event(chat.Event{Type: chat.TypeMessage, From: &chat.Person{Role: chat.AgentRole, ID: "x", Name: evil}, Text: evil})
		s.event(headEvent(chat.Held, evil))
		s.link(client.Link{Err: errors.New(evil)}, chatNoon)
		s.say("1", evil, client.Queued, chatNoon)
		s.receipt(client.Receipt{ID: "1", Status: client.Refused, Detail: evil}, chatNoon)
		s.event(chat.Event{Type: chat.TypeRefused, Detail: evil})
		s.typed(evil)
		if _, err := g.Write([]byte(b.String())); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"\x1b]", "\x1b[2", "\u009b", "\u202e", "\b", "\x00", "\x07"} {
			if bad == "\x1b[2" && size != nil {
				bad = "\x1b[2J" // dim is ours
			}
			if strings.Contains(b.String(), bad) {
				t.Errorf("%q reached the terminal", bad)
			}
		}
	}
}

func TestLongAndWideTextIsBrokenByUs(t *testing.T) {
	g := &glass{width: 40}
	s := newChatScreen(g, "ada", time.UTC, func() (int, int) { return 40, 24 })
	s.begin()
	s.say("1", "the quick brown fox jumps over the lazy dog and "+strings.Repeat("x", 70), client.Queued, chatNoon)
	s.say("2", strings.Repeat("退款", 20), client.Queued, chatNoon)
	s.receipt(client.Receipt{ID: "1", Status: client.Accepted}, chatNoon)
	s.receipt(client.Receipt{ID: "2", Status: client.Acknowledged}, chatNoon)
	want := strings.TrimPrefix(`
— Sunday, 1 March 2026 —
12:00 ✓✓ you: the quick brown fox
         jumps over the lazy dog and
         xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
         xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
         xxxxxxxxxx
12:00 ✓  you:
         退款退款退款退款退款退款退款退
         款退款退款退款退款退款退款退款
         退款退款退款退款退款
○ ada>`, "\n")
	got := g.String()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, row := range strings.Split(got, "\n") {
		if cells(row) > 40 {
			t.Errorf("the terminal would break %q", row)
		}
	}
	s.typed(strings.Repeat("退", 50))
	if rows := strings.Split(g.String(), "\n"); cells(rows[len(rows)-1]) > 40 {
		t.Errorf("the prompt %q takes more than a row", rows[len(rows)-1])
	}
}

func TestTicksOfLinesThatMovedAreToldAnew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *chatScreen, height *int)
	}{
		{"scrolled off", func(s *chatScreen, _ *int) {
			for range 20 {
				s.note(chatNoon, "noise")
			}
		}},
		{"resized", func(_ *chatScreen, height *int) { *height = 11 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, height := &glass{width: 60}, 10
			s := newChatScreen(g, "ada", time.UTC, func() (int, int) { return 60, height })
			s.begin()
			s.say("1", "hi", client.Queued, chatNoon)
			tt.change(s, &height)
			s.receipt(client.Receipt{ID: "1", Status: client.Acknowledged}, chatNoon)
			got := g.String()
			if !strings.Contains(got, "12:00 …  you: hi") || !strings.Contains(got, "12:00 ✓  hi (on disk)") {
				t.Errorf("screen:\n%s", got)
			}
		})
	}
}

func TestTypedLineIsEdited(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		lines      []string
		left       string
		end        bool
	}{
		{"a line", "hello\r", []string{"hello"}, "", false},
		{"pasted lines", "a\nb\nc", []string{"a", "b"}, "c", false},
		{"backspace takes a whole letter", "né\x7f\x7fo退\b", nil, "o", false},
		{"backspace on nothing", "\x7fa", nil, "a", false},
		{"clear", "abc\x15d", nil, "d", false},
		{"word", "one two  \x17", nil, "one ", false},
		{"arrows and function keys are nothing", "a\x1b[A\x1b[1;5C\x1bOPb\x1b[3~", nil, "ab", false},
		{"tab is a space", "a\tb", nil, "a b", false},
		{"control characters are nothing", "a\x01\x02b", nil, "ab", false},
		{"broken UTF-8 is nothing", "a\xff\xfeb", nil, "ab", false},
		{"end on an empty line", "a\r\x04more", []string{"a"}, "", true},
		{"end inside a line is nothing", "a\x04b", nil, "ab", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l chatLine
			var lines []string
			end := false
			for i := range len(tt.keys) { // the worst way for bytes to come: one by one
				got, e := l.feed([]byte{tt.keys[i]})
				if lines = append(lines, got...); e {
					end = true
					break
				}
			}
			if d := cmp.Diff(tt.lines, lines); d != "" || string(l.text) != tt.left || end != tt.end {
				t.Errorf("lines %q, left %q, end %t", lines, string(l.text), end)
			}
		})
	}
	var l chatLine
	l.feed([]byte(strings.Repeat("é", chat.MaxTextBytes)))
	if l.bytes != chat.MaxTextBytes || len(string(l.text)) != chat.MaxTextBytes {
		t.Errorf("%d bytes typed, want the bound of a message", len(string(l.text)))
	}
}
