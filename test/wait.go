package test

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Patience is how long a scenario waits for what has to happen.
const Patience = 60 * time.Second

// Eventually polls until check returns "", and fails with what check last
// said was missing when that does not happen in time.
func Eventually(tb testing.TB, within time.Duration, check func() (missing string)) {
	tb.Helper()
	deadline := time.Now().Add(within)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("after %s: %s", within, missing)
		}
		select {
		case <-tb.Context().Done():
			tb.Fatalf("the test ended while waiting: %s", missing)
		case <-time.After(pause):
		}
	}
}

// Long reports whether the long form of the scenarios was asked for.
func Long() bool { return os.Getenv("HOLDLINE_LONG") != "" }

// Scale is how much of something a scenario does: the environment variable
// when it is set, else one of the three.
func Scale(tb testing.TB, variable string, short, normal, long int) int {
	tb.Helper()
	switch v := os.Getenv(variable); {
	case v != "":
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			tb.Fatalf("%s=%q is not a positive number", variable, v)
		}
		return n
	case testing.Short():
		return short
	case Long():
		return long
	}
	return normal
}

// need skips, or in CI fails, when the machine lacks something.
func need(tb testing.TB, have bool, what string) {
	tb.Helper()
	switch {
	case have:
	case os.Getenv("CI") != "":
		tb.Fatalf("this needs %s", what)
	default:
		tb.Skipf("this needs %s", what)
	}
}
