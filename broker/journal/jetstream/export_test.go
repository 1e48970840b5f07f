package jetstream

import "testing"

// NewTestCluster starts servers and returns their URL.
func NewTestCluster(t testing.TB, n int) string { return newCluster(t, n).url() }
