package broker

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"holdline/broker/topics"
)

// index finds the sessions whose filters match a topic. Only connected
// sessions are in it.
//
// Filters are kept by their text. Those with wildcards are found by shape: how
// many levels they have, and which of them are "+". There are few shapes (an
// account's tree needs three), so a topic is looked up once as itself and once for each
// shape, with its own levels put in, however many sessions there are. Lists and
// shapes are replaced, never changed, so that a reader holds no lock while it
// uses them.
type index struct {
	seed   maphash.Seed
	shards [64]shard
	shapes atomic.Pointer[[]shape]

	mu    sync.Mutex // guards counts, and the replacing of shapes
	count map[shape]int
}

type shard struct {
	mu sync.RWMutex
	m  map[string][]member
}

// member is one session's subscription under one full filter.
type member struct {
	session *Session
	sub     *subscription
}

// shape is a filter without its words.
type shape struct {
	levels int    // without a final '#'
	plus   uint32 // bit i: level i is "+"
	rest   bool   // ends with '#'
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed(), count: map[shape]int{}}
	for i := range x.shards {
		x.shards[i].m = map[string][]member{}
	}
	x.shapes.Store(new([]shape))
	return x
}

// shapeOf a valid filter.
func shapeOf(filter string) shape {
	var s shape
	for level := range strings.SplitSeq(filter, "/") {
		switch level {
		case "#":
			s.rest = true
			return s
		case "+":
			s.plus |= 1 << s.levels
		}
		s.levels++
	}
	return s
}

func (x *index) hash(s string) uint64 { return maphash.String(x.seed, s) }

func (x *index) shard(filter string) *shard { return &x.shards[x.hash(filter)%uint64(len(x.shards))] }

// add puts a subscription under a full filter.
func (x *index) add(filter string, m member) {
	sh := x.shard(filter)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.m[filter]
	if len(old) == 0 {
		x.reshape(shapeOf(filter), 1)
	}
	sh.m[filter] = append(slices.Clip(old), m)
}

// remove takes it out again; it does nothing when it is not there.
func (x *index) remove(filter string, m member) {
	sh := x.shard(filter)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.m[filter]
	switch i := slices.Index(old, m); {
	case i < 0:
	case len(old) == 1:
		delete(sh.m, filter)
		x.reshape(shapeOf(filter), -1)
	default:
		sh.m[filter] = slices.Concat(old[:i], old[i+1:])
	}
}

// reshape counts filters by shape. It is called with the filter's shard locked,
// so that the count never runs behind what the shard holds.
func (x *index) reshape(s shape, by int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.count[s]
	if x.count[s] += by; x.count[s] == 0 {
		delete(x.count, s)
	}
	if (was == 0) == (x.count[s] == 0) {
		return
	}
	list := make([]shape, 0, len(x.count))
	for s := range x.count {
		list = append(list, s)
	}
	x.shapes.Store(&list)
}

// find is a topic being looked up; it is used again for the next one.
type find struct {
	ends  []int // where each level of the topic ends
	key   []byte
	found []member
}

// match returns the subscriptions whose filter matches. The result is good
// until f is used again. A session with overlapping filters is in it more than once.
func (x *index) match(topic string, f *find) []member {
	f.found, f.ends = f.found[:0], f.ends[:0]
	for i := range len(topic) {
		if topic[i] == '/' {
			f.ends = append(f.ends, i)
		}
	}
	f.ends = append(f.ends, len(topic))
	n := len(f.ends)
	if n > topics.MaxLevels {
		return nil
	}
	hidden := topic != "" && topic[0] == '$'
	for _, s := range *x.shapes.Load() {
		switch {
		case s.levels > n, !s.rest && s.levels != n:
			continue
		case hidden && (s.plus&1 != 0 || s.levels == 0):
			continue // [MQTT-4.7.2-1]
		}
		if s.plus == 0 && !s.rest {
			x.look(topic, f)
			continue
		}
		f.key = f.key[:0]
		begin := 0
		for plus := s.plus; plus != 0; plus &= plus - 1 {
			level := bits.TrailingZeros32(plus)
			if level > 0 {
				f.key = append(f.key, topic[begin:f.ends[level-1]+1]...)
			}
			f.key = append(f.key, '+')
			begin = f.ends[level]
		}
		if s.levels > 0 {
			f.key = append(f.key, topic[begin:f.ends[s.levels-1]]...)
		}
		if s.rest {
			if s.levels > 0 {
				f.key = append(f.key, '/')
			}
			f.key = append(f.key, '#')
		}
		sh := &x.shards[maphash.Bytes(x.seed, f.key)%uint64(len(x.shards))]
		sh.mu.RLock()
		list := sh.m[string(f.key)]
		sh.mu.RUnlock()
		f.found = append(f.found, list...)
	}
	return f.found
}

func (x *index) look(topic string, f *find) {
	sh := x.shard(topic)
	sh.mu.RLock()
	list := sh.m[topic]
	sh.mu.RUnlock()
	f.found = append(f.found, list...)
}
