package broker

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdline/broker/topics"
)

var words = []string{"a", "b", "$x", "", "+"}

func randomFilter(r *rand.Rand) string {
	levels := make([]string, 1+r.IntN(4))
	for i := range levels {
		levels[i] = words[r.IntN(len(words))]
	}
	if r.IntN(3) == 0 {
		levels[len(levels)-1] = "#"
	}
	return strings.Join(levels, "/")
}

func randomTopic(r *rand.Rand) string {
	levels := make([]string, 1+r.IntN(5))
	for i := range levels {
		levels[i] = words[r.IntN(len(words)-1)]
	}
	return strings.Join(levels, "/")
}

// TestIndexFindsWhatMatches compares the index with going through all filters.
func TestIndexFindsWhatMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	x, s := newIndex(), &Session{}
	type entry struct {
		filter string
		m      member
	}
	var all []entry
	var f find
	for range 20_000 {
		switch n := r.IntN(10); {
		case n < 3:
			e := entry{randomFilter(r), member{s, &subscription{}}}
			if topics.ValidFilter(e.filter) != nil {
				continue
			}
			x.add(e.filter, e.m)
			all = append(all, e)
		case n < 6 && len(all) > 0:
			i := r.IntN(len(all))
			x.remove(all[i].filter, all[i].m)
			x.remove(all[i].filter, all[i].m) // twice is harmless
			all = slices.Delete(all, i, i+1)
		default:
			topic := randomTopic(r)
			got := map[*subscription]bool{}
			for _, m := range x.match(topic, &f) {
				if got[m.sub] {
					t.Fatalf("%q is found twice for one filter", topic)
				}
				got[m.sub] = true
			}
			for _, e := range all {
				if want := topics.Match(e.filter, topic); got[e.m.sub] != want {
					t.Fatalf("filter %q, topic %q: found %t, want %t", e.filter, topic, got[e.m.sub], want)
				}
			}
		}
	}
	for _, e := range all {
		x.remove(e.filter, e.m)
	}
	if n := len(*x.shapes.Load()); n != 0 {
		t.Errorf("%d shapes are left in an empty index", n)
	}
}

// TestIndexLosesNobodyWhileOthersCome looks a filter up while others of its
// shape come and go.
func TestIndexLosesNobodyWhileOthersCome(t *testing.T) {
	x := newIndex()
	stays := member{&Session{}, &subscription{}}
	x.add("a/+", stays)
	stop := make(chan struct{})
	var g sync.WaitGroup
	for range 3 {
		g.Go(func() {
			m := member{&Session{}, &subscription{}}
			for {
				select {
				case <-stop:
					return
				default:
					x.add("b/+", m)
					x.remove("b/+", m)
				}
			}
		})
	}
	var f find
	for range 20_000 {
		if !slices.Contains(x.match("a/b", &f), stays) {
			t.Error("the filter that stays was not found")
			break
		}
	}
	close(stop)
	g.Wait()
}

func TestIntersectKnowsFiltersThatShareATopic(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 100_000 {
		a, b, topic := randomFilter(r), randomFilter(r), randomTopic(r)
		if topics.ValidFilter(a) != nil || topics.ValidFilter(b) != nil {
			continue
		}
		if topics.Match(a, topic) && topics.Match(b, topic) && !intersect(a, b) {
			t.Fatalf("intersect(%q, %q) = false, but both match %q", a, b, topic)
		}
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/c", false}, {"a/+", "b/+", false}, {"a/b/c", "a/b", false}, {"a/b/#", "a/b", true}, {"a/+/c", "a/b/+", true},
		{"t/customer/ada/down/#", "t/customer/ada/session/x/down/#", false},
	} {
		if got := intersect(tt.a, tt.b); got != tt.want || intersect(tt.b, tt.a) != tt.want {
			t.Errorf("intersect(%q, %q) = %t, want %t", tt.a, tt.b, got, tt.want)
		}
	}
}

func BenchmarkIndexMatch(b *testing.B) {
	x := newIndex()
	m := member{&Session{}, &subscription{}}
	for _, f := range []string{"tree/main/customer/ada/down/#", "tree/main/customer/ada/session/p/down/#", "tree/main/queue/+/event", "tree/#"} {
		x.add(f, m)
	}
	var f find
	b.ReportAllocs()
	for b.Loop() {
		x.match("tree/main/customer/ada/down/event", &f)
	}
}
