package bridge

import "testing"

// engines are the pairs of journal and storage that the tests of failures run on.
var engines = []struct {
	name  string
	world func(t *testing.T) *world
}{
	{"memory", newWorld},
}
