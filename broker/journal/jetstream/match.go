package jetstream

import (
	"slices"
	"strings"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

// matcher is a set of filters, sorted by what they cost.
type matcher struct {
	exact    []string
	prefixes []string // "a/b" for the filter "a/b/#"
	general  []string // with other wildcards: the index cannot find them
}

func newMatcher(filters []journal.Filter) *matcher {
	m := &matcher{}
	for _, f := range filters {
		prefix, under := strings.CutSuffix(f, "/#")
		switch {
		case !strings.ContainsAny(f, "+#"):
			m.exact = append(m.exact, f)
		case under && !strings.ContainsAny(prefix, "+#"):
			m.prefixes = append(m.prefixes, prefix)
		default:
			m.general = append(m.general, f)
		}
	}
	slices.Sort(m.exact)
	m.exact = slices.Compact(m.exact)
	return m
}

// indexed reports whether the index finds everything that matches.
func (m *matcher) indexed() bool { return len(m.general) == 0 }

func (m *matcher) match(e *journal.Entry) bool { return m.matchTopic(e.Topic) }

func (m *matcher) matchTopic(topic string) bool {
	if len(m.exact) > 8 {
		if _, ok := slices.BinarySearch(m.exact, topic); ok {
			return true
		}
	} else if slices.Contains(m.exact, topic) {
		return true
	}
	for _, p := range m.prefixes {
		if strings.HasPrefix(topic, p) && (len(topic) == len(p) || topic[len(p)] == '/') {
			return true
		}
	}
	for _, f := range m.general {
		if topics.Match(f, topic) {
			return true
		}
	}
	return false
}
