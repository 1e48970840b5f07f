package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"holdline/broker/client"
	"holdline/chat"
)

// The ticks of what was said here.
const (
	tickQueued   = "… "
	tickOnDisk   = "✓ "
	tickAccepted = "✓✓"
	tickRefused  = "✗ "
	tickNone     = "  "
)

// indent is where text begins: "15:04 ✓✓ ".
const indent = 9

// chatScreen shows a conversation line by line. On a terminal that understands
// cursor movements it keeps a prompt with what is being typed below the lines
// and changes ticks where they stand; on anything else it only ever adds lines.
//
// It belongs to one goroutine. What others wrote never reaches the terminal as
// control characters.
type chatScreen struct {
	out  io.Writer
	me   string // the customer's name
	zone *time.Location
	// size tells the terminal's columns and rows; nil when lines can only be added.
	size func() (width, height int)

	width, height int
	day           string // of the last line
	rows          int    // printed above the prompt
	sent          map[chat.MessageID]*sentLine
	heads         map[chat.ConversationID]string // what was last said about each
	up            bool
	down          string // the last reason that was shown
	input         string
	prompted      bool // the prompt is on the screen
}

// sentLine is something said here whose way is not over.
type sentLine struct {
	row  int // where its first row is; -1 when that is not known any more
	text string
}

func newChatScreen(out io.Writer, me string, zone *time.Location, size func() (int, int)) *chatScreen {
	return &chatScreen{
		out: out, me: me, zone: zone, size: size,
		sent: map[chat.MessageID]*sentLine{}, heads: map[chat.ConversationID]string{},
	}
}

// event shows what the inbox tells.
func (s *chatScreen) event(e chat.Event) {
	switch e.Type {
	case chat.TypeMessage:
		s.message(e)
	case chat.TypeConversation:
		s.head(e)
	case chat.TypeRefused:
		if s.sent[e.ID] == nil && e.ID != "" { // said on another device, or known already
			return
		}
		s.receipt(client.Receipt{ID: e.ID, Status: client.Refused, Reason: e.Reason, Detail: e.Detail}, parseTime(e.At))
	}
}

func (s *chatScreen) message(e chat.Event) {
	at := parseTime(e.At)
	if e.From == nil {
		return
	}
	mine := e.From.Role == chat.Customer
	if mine && s.sent[e.ID] != nil {
		s.receipt(client.Receipt{ID: e.ID, Status: client.Accepted, Seq: e.Seq}, at)
		return
	}
	tick, name := tickNone, cmp.Or(e.From.Name, e.From.ID)
	if mine {
		tick, name = tickAccepted, "you"
	}
	s.line(at, tick, name, e.Text)
}

// say shows what was typed here, on its way.
func (s *chatScreen) say(id chat.MessageID, text string, status client.Status, at time.Time) {
	s.sent[id] = &sentLine{row: -1, text: text}
	tick := tickQueued
	if status == client.Acknowledged {
		tick = tickOnDisk
	}
	row := s.line(at, tick, "you", text)
	s.sent[id].row = row
}

// receipt moves the tick of what was said here.
func (s *chatScreen) receipt(r client.Receipt, at time.Time) {
	l := s.sent[r.ID]
	if l == nil {
		if r.ID == "" && r.Status == client.Refused {
			s.note(at, "the server refused something: "+clean(cmp.Or(r.Detail, string(r.Reason))))
		}
		return
	}
	var tick, words string
	switch r.Status {
	case client.Acknowledged:
		tick, words = tickOnDisk, "on disk"
	case client.Accepted:
		tick, words = tickAccepted, "accepted"
	case client.Refused:
		tick, words = tickRefused, "refused: "+clean(cmp.Or(r.Detail, string(r.Reason)))
	default:
		return
	}
	if r.Status == client.Accepted || r.Status == client.Refused {
		delete(s.sent, r.ID)
	}
	if !s.retick(l, tick) {
		s.indented(s.head1(at, tick), s.wrap(clip(clean(l.text), 40)+" ("+words+")"))
	} else if r.Status == client.Refused {
		s.note(at, words)
	}
}

// head shows what changed about a conversation.
func (s *chatScreen) head(e chat.Event) {
	if e.Head == nil {
		return
	}
	var words string
	switch e.Head.State {
	case chat.Waiting:
		words = "waiting for somebody to answer"
	case chat.Held:
		words = "somebody answers"
		if a := e.Head.Agent; a != nil {
			words = clean(cmp.Or(a.Name, a.ID)) + " answers"
		}
	case chat.Resolved:
		words = "resolved; what you write next opens a new conversation"
	default:
		return
	}
	if s.heads[e.Conversation] == words {
		return
	}
	s.heads[e.Conversation] = words
	s.note(parseTime(e.At), words)
}

// link shows that the connection came or went.
func (s *chatScreen) link(l client.Link, at time.Time) {
	switch {
	case l.Up && !s.up:
		s.up, s.down = true, ""
		s.note(at, "connected")
	case !l.Up && l.Err != nil && (s.up || s.down != l.Err.Error()):
		s.up, s.down = false, l.Err.Error()
		words := "not connected: " + clean(s.down)
		if l.Retry > 0 {
			words += "; trying again"
		}
		s.note(at, words)
	}
}

// note is a line that nobody said.
func (s *chatScreen) note(at time.Time, words string) {
	rows := s.wrap("— " + words)
	if s.size != nil {
		for i := range rows {
			rows[i] = "\x1b[2m" + rows[i] + "\x1b[0m"
		}
	}
	s.indented(s.head1(at, tickNone), rows)
}

// line shows something said, and returns the row it begins at.
func (s *chatScreen) line(at time.Time, tick, name, text string) (row int) {
	head := s.head1(at, tick)
	row = s.rows
	s.indented(head, s.wrap(clean(name)+": "+strings.TrimRight(cleanLines(text), "\n")))
	return row
}

// indented prints rows behind a head.
func (s *chatScreen) indented(head string, rows []string) {
	rows[0] = head + rows[0]
	for i := range rows[1:] {
		rows[i+1] = strings.Repeat(" ", indent) + rows[i+1]
	}
	s.print(rows...)
}

// head1 is the beginning of a line. The day is told when it is another one.
func (s *chatScreen) head1(at time.Time, tick string) string {
	if at.IsZero() {
		return strings.Repeat(" ", 6) + tick + " "
	}
	at = at.In(s.zone)
	if day := at.Format("Monday, 2 January 2006"); day != s.day {
		s.day = day
		s.print("— " + day + " —")
	}
	return at.Format("15:04") + " " + tick + " "
}

// wrap breaks text into rows that fit behind the indent, so that the terminal never breaks one.
func (s *chatScreen) wrap(text string) []string {
	width := 0
	if s.size != nil {
		s.measure()
		width = max(s.width-indent-1, 20)
	}
	var rows []string
	for line := range strings.SplitSeq(text, "\n") {
		rows = append(rows, wrapLine(line, width)...)
	}
	return rows
}

// wrapLine breaks at spaces where it can; width 0 is endless.
func wrapLine(line string, width int) (rows []string) {
	for width > 0 && cells(line) > width {
		cut, space, used := 0, 0, 0
		for i, r := range line {
			if used += cell(r); used > width {
				break
			}
			cut = i + len(string(r))
			if r == ' ' {
				space = cut
			}
		}
		if space > 0 {
			cut = space
		}
		rows = append(rows, strings.TrimRight(line[:cut], " "))
		line = line[cut:]
	}
	return append(rows, line)
}

// cell is how many columns a rune may take: two for all that might be wide,
// because a row that is too short does no harm and one that is too long does.
func cell(r rune) int {
	if r >= 0x1100 {
		switch {
		case r >= 0x2010 && r <= 0x2027, r == '…', r == '✓', r == '✗':
			return 1
		}
		return 2
	}
	return 1
}

func cells(s string) (n int) {
	for _, r := range s {
		n += cell(r)
	}
	return n
}

// print adds rows above the prompt.
func (s *chatScreen) print(rows ...string) {
	var b strings.Builder
	if s.size != nil {
		s.measure()
		b.WriteString("\r\x1b[J")
	}
	for _, r := range rows {
		b.WriteString(r)
		b.WriteString("\n")
		s.rows++
	}
	b.WriteString(s.prompt())
	s.write(b.String())
}

// retick changes the tick of a line where it stands, if it is still on the screen.
func (s *chatScreen) retick(l *sentLine, tick string) bool {
	if s.size == nil {
		return false
	}
	s.measure()
	up := s.rows - l.row
	if l.row < 0 || up >= s.height {
		return false
	}
	s.write(fmt.Sprintf("\r\x1b[%dA\x1b[7G%s\x1b[%dB\r\x1b[J%s", up, tick, up, s.prompt()))
	return true
}

// measure notices when the terminal's size changed: it has moved every row then.
func (s *chatScreen) measure() {
	width, height := s.size()
	if width != s.width || height != s.height {
		s.width, s.height = width, height
		for _, l := range s.sent {
			l.row = -1
		}
	}
}

// typed shows what is being typed.
func (s *chatScreen) typed(input string) {
	if s.input = input; s.size != nil {
		s.measure()
		s.write("\r\x1b[J" + s.prompt())
	}
}

// prompt is the last row: as much of the end of the input as fits.
func (s *chatScreen) prompt() string {
	if s.size == nil || !s.prompted {
		return ""
	}
	state := "○"
	if s.up {
		state = "●"
	}
	head := state + " " + clean(s.me) + "> "
	tail := clean(s.input)
	for room := max(s.width-cells(head)-2, 8); cells(tail) > room; {
		_, rest, _ := strings.Cut(tail, string([]rune(tail)[0]))
		tail = rest
	}
	return head + tail
}

// begin puts the prompt on the screen; end takes it away.
func (s *chatScreen) begin() { s.prompted = true; s.print() }

func (s *chatScreen) end() {
	s.prompted = false
	if s.size != nil {
		s.write("\r\x1b[J")
	}
}

// write ignores errors: a terminal that is gone ends the command in other ways.
func (s *chatScreen) write(text string) { _, _ = io.WriteString(s.out, text) }

// clean takes out everything that could command a terminal.
func clean(s string) string { return oneLine(cleanLines(s)) }

// cleanLines is clean, but for line breaks.
func cleanLines(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.In(r, unicode.Bidi_Control):
			return -1
		}
		return r
	}, s)
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' }), " ")
}

// clip shortens to n runes.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// parseTime reads the time of an event; the zero time when there is none.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
