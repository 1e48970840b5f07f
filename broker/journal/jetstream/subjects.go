package jetstream

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"

	"holdline/broker/journal"
)

// The subjects below the prefix. A subject is an index, not the name itself:
// the name is in the message.
//
//	J.<inbox or ->.<partition or ->.<N or S>.<levels…>.~   an entry; S when its topic begins with $
//	R.<levels…>.~                                          a record
//	C.<process>                                            the fence of a process
//	M.<what>…                                              what the journal knows about itself
const (
	rootEntries = ".J."
	rootRecords = ".R."
	rootFences  = ".C."
	rootMeta    = ".M."
	rootAir     = ".A" // not in the stream
)

const (
	// tokenBytes bounds one level as a token; what is longer is a digest of it.
	tokenBytes = 48
	// levelTokens bounds how many levels are tokens of their own; the others are
	// one token, their digest.
	levelTokens = 32
	end         = "~"
	none        = "-"
)

// token is a level as a subject's token. No two levels share one.
func token(level string) string {
	plain := level != "" && level != end && level != none && len(level) <= tokenBytes
	for i := 0; plain && i < len(level); i++ {
		plain = plainByte(level[i])
	}
	if plain {
		return level
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 1, tokenBytes+3)
	b[0] = '%'
	for i := 0; i < len(level); i++ {
		if c := level[i]; plainByte(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hex[c>>4], hex[c&15])
		}
		if len(b) > tokenBytes {
			return digest(level)
		}
	}
	return string(b)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "!" + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20])
}

// plainByte reports whether c may stand in a token for itself.
func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '$' || c == ':' || c == '@'
}

// levels appends the tokens of a name, and the end.
func levels(b []byte, name string) []byte {
	for n := 1; ; n++ {
		level, rest, more := strings.Cut(name, "/")
		if n == levelTokens && more {
			return append(append(append(b, digest(name)...), '.'), end...)
		}
		b = append(append(b, token(level)...), '.')
		if !more {
			return append(b, end...)
		}
		name = rest
	}
}

// class keeps topics apart that a filter with a wildcard in front does not match.
func class(name string) string {
	if strings.HasPrefix(name, "$") {
		return "S"
	}
	return "N"
}

// entrySubject is where an entry is.
func (n names) entry(e *journal.Entry) string {
	b := make([]byte, 0, len(n.prefix)+len(e.Topic)+64)
	b = append(append(b, n.prefix...), rootEntries...)
	if e.Inbox == "" {
		b = append(b, none...)
	} else {
		b = append(b, token(e.Inbox)...)
	}
	b = append(b, '.')
	if e.Partition == journal.NoPartition {
		b = append(b, none...)
	} else {
		b = strconv.AppendInt(b, int64(e.Partition), 10)
	}
	b = append(append(append(b, '.'), class(e.Topic)...), '.')
	return string(levels(b, e.Topic))
}

// names are the subjects of one journal.
type names struct{ prefix string }

func (n names) entries() string             { return n.prefix + rootEntries + ">" }
func (n names) inbox(inbox string) string   { return n.prefix + rootEntries + token(inbox) + ".>" }
func (n names) partition(p int) string      { return n.prefix + rootEntries + "*." + strconv.Itoa(p) + ".>" }
func (n names) fence(process string) string { return n.prefix + rootFences + process }
func (n names) allMeta() string             { return n.prefix + rootMeta + ">" }
func (n names) epoch() string               { return n.prefix + rootMeta + "epoch" }
func (n names) state() string               { return n.prefix + rootMeta + "state" }
func (n names) kept(p int) string           { return n.prefix + rootMeta + "kept." + strconv.Itoa(p) }
func (n names) erased(id string) string     { return n.prefix + rootMeta + "erased." + id }
func (n names) air() string                 { return n.prefix + rootAir }

func (n names) record(key string) string {
	return string(levels([]byte(n.prefix+rootRecords), key))
}

// recordsUnder is a subject filter that finds every record whose key begins
// with prefix, and others.
func (n names) recordsUnder(prefix string) string {
	b := []byte(n.prefix + rootRecords)
	for i := 1; i < levelTokens; i++ {
		level, rest, more := strings.Cut(prefix, "/")
		if !more {
			break
		}
		b = append(append(b, token(level)...), '.')
		prefix = rest
	}
	return string(append(b, '>'))
}

// filter is a subject filter that finds every entry that an MQTT filter
// matches; exact reports that it finds no others.
func (n names) filter(f journal.Filter) (subject string, exact bool) {
	b := []byte(n.prefix + rootEntries + "*.*.")
	if f == "" {
		return string(append(b, '>')), false
	}
	b = append(append(b, class(f)...), '.') // '+' and '#' in front are never '$'
	for i := 1; ; i++ {
		level, rest, more := strings.Cut(f, "/")
		switch {
		case level == "#":
			return string(append(b, '>')), true
		case i == levelTokens && more:
			if strings.ContainsAny(f, "+#") {
				return string(append(b, '>')), false
			}
			return string(append(append(append(b, digest(f)...), '.'), end...)), true
		case level == "+":
			b = append(b, "*."...)
		default:
			b = append(append(b, token(level)...), '.')
		}
		if !more {
			// Deeper names have a digest where this one has its last level.
			return string(append(b, end...)), i < levelTokens || level != "+"
		}
		f = rest
	}
}
