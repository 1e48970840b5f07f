package main

import (
	"unicode/utf8"

	"holdline/chat"
)

// chatLine is one line being typed: enough of an editor to say something. It
// takes the terminal's bytes as they come, in any pieces.
type chatLine struct {
	text    []rune
	bytes   int
	partial []byte // of a rune
	escape  int    // where in an escape sequence we are
}

// The keys that do something.
const (
	keyEnd       = 0x04 // ^D
	keyBackspace = 0x08
	keyTab       = '\t'
	keyClear     = 0x15 // ^U
	keyWord      = 0x17 // ^W
	keyEscape    = 0x1b
	keyDelete    = 0x7f
)

// Where in an escape sequence: outside, behind ESC, inside ESC [ …, behind ESC O.
const (
	escapeNone = iota
	escapeBegun
	escapeCSI
	escapeSS3
)

// feed takes bytes and returns the lines that were ended. end is true when the
// user closed the input.
func (l *chatLine) feed(input []byte) (lines []string, end bool) {
	for _, b := range input {
		switch {
		case l.escape != escapeNone:
			l.skip(b)
		case b == '\r', b == '\n':
			lines = append(lines, string(l.text))
			l.set(nil)
		case b == keyEscape:
			l.escape = escapeBegun
		case b == keyEnd:
			if len(l.text) == 0 {
				return lines, true
			}
		case b == keyBackspace, b == keyDelete:
			l.set(l.text[:max(0, len(l.text)-1)])
		case b == keyClear:
			l.set(nil)
		case b == keyWord:
			l.set(withoutWord(l.text))
		case b == keyTab:
			l.add(' ')
		case b >= 0x20:
			l.partial = append(l.partial, b)
			if utf8.FullRune(l.partial) {
				r, _ := utf8.DecodeRune(l.partial)
				l.partial = l.partial[:0]
				l.add(r)
			}
		}
	}
	return lines, false
}

// skip leaves out arrow keys and the like.
func (l *chatLine) skip(b byte) {
	switch {
	case l.escape == escapeBegun && b == '[':
		l.escape = escapeCSI
	case l.escape == escapeBegun && b == 'O':
		l.escape = escapeSS3
	case l.escape == escapeCSI && (b < 0x40 || b > 0x7e):
	default:
		l.escape = escapeNone
	}
}

// add appends a rune, as long as the line is no longer than a message may be.
func (l *chatLine) add(r rune) {
	if n := utf8.RuneLen(r); r != utf8.RuneError && l.bytes+n <= chat.MaxTextBytes {
		l.text = append(l.text, r)
		l.bytes += n
	}
}

func (l *chatLine) set(text []rune) {
	l.text, l.bytes, l.partial = text, len(string(text)), l.partial[:0]
}

func withoutWord(text []rune) []rune {
	n := len(text)
	for n > 0 && text[n-1] == ' ' {
		n--
	}
	for n > 0 && text[n-1] != ' ' {
		n--
	}
	return text[:n]
}
