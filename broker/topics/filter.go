package topics

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"holdline/chat"
)

// MaxBytes bounds a topic or filter; MaxLevels its depth.
const (
	MaxBytes  = 1024
	MaxLevels = 32
)

// ValidName returns chat.ErrInvalid unless s may be the topic of a PUBLISH
// [MQTT-3.3.2-2, MQTT-4.7.3-1].
func ValidName(s string) error {
	if err := validString("topic", s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "+#") {
		return fmt.Errorf("%w: topic %q contains a wildcard", chat.ErrInvalid, s)
	}
	return nil
}

// ValidFilter returns chat.ErrInvalid unless s is a well-formed filter
// [MQTT-4.7.1-1, MQTT-4.7.1-2].
func ValidFilter(s string) error {
	if err := validString("filter", s); err != nil {
		return err
	}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return fmt.Errorf("%w: filter %q: '#' must be a whole level, and the last", chat.ErrInvalid, s)
		}
		if strings.Contains(l, "+") && l != "+" {
			return fmt.Errorf("%w: filter %q: '+' must be a whole level", chat.ErrInvalid, s)
		}
	}
	return nil
}

func validString(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", chat.ErrInvalid, what)
	case len(s) > MaxBytes:
		return fmt.Errorf("%w: %s is longer than %d bytes", chat.ErrInvalid, what, MaxBytes)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return fmt.Errorf("%w: %s is not UTF-8 or contains U+0000", chat.ErrInvalid, what)
	case strings.Count(s, "/") >= MaxLevels:
		return fmt.Errorf("%w: %s has more than %d levels", chat.ErrInvalid, what, MaxLevels)
	}
	return nil
}

// Match reports whether a filter matches a topic. A filter that starts with a
// wildcard does not match a topic that starts with '$' [MQTT-4.7.2-1].
func Match(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !fmore && !tmore:
			return true
		case fmore && !tmore:
			return frest == "#" // "a/#" matches "a" too
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}
