package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"holdline/broker/journal"
	"holdline/chat"
)

func TestEveryErrorHasItsStatus(t *testing.T) {
	s := &server{Config: Config{Log: slog.New(slog.DiscardHandler)}}
	for _, tt := range []struct {
		err    error
		status int
		later  bool
	}{
		{chat.ErrInvalid, 422, false},
		{chat.ErrTooLarge, 413, false},
		{chat.ErrForbidden, 403, false},
		{chat.ErrNotFound, 404, false},
		{chat.ErrConflict, 409, false},
		{chat.ErrNotOwner, 409, false},
		{chat.ErrClosed, 409, false},
		{errBusy, 503, true},
		{journal.ErrFull, 507, true},
		{journal.ErrFailed, 503, true},
		{journal.ErrClosed, 503, true},
		{context.DeadlineExceeded, 503, true},
		{context.Canceled, 503, true},
		{errors.New("something else"), 500, false},
		{huma.Error401Unauthorized("already one"), 401, false},
	} {
		err := s.problem(t.Context(), fmt.Errorf("read conversation 7: %w", tt.err))
		var status huma.StatusError
		if !errors.As(err, &status) || status.GetStatus() != tt.status {
			t.Errorf("%v becomes %v, want %d", tt.err, err, tt.status)
		}
		var h huma.HeadersError
		if got := errors.As(err, &h) && h.GetHeaders().Get("Retry-After") != ""; got != tt.later {
			t.Errorf("%v: Retry-After is there: %v, want %v", tt.err, got, tt.later)
		}
	}
	if err := s.problem(t.Context(), nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}

func TestRetryAfterIsNeverTooEarly(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", 12 * time.Second: "12"} {
		var h huma.HeadersError
		if err := later(http.StatusTooManyRequests, wait, "x"); !errors.As(err, &h) || h.GetHeaders().Get("Retry-After") != want {
			t.Errorf("after %v: %v, want %s", wait, h.GetHeaders(), want)
		}
	}
}

func TestLimitsForgetWhoWasAwayLongest(t *testing.T) {
	l := newLimits(rate.Every(time.Minute), 1)
	now := time.Now()
	for i := range rememberedKeys {
		if l.take(fmt.Sprint(i), now) != 0 {
			t.Fatalf("the first try of %d is too early", i)
		}
	}
	if l.take("0", now) == 0 {
		t.Error("the second try of 0 is let through")
	}
	l.take("new", now) // forgets 1, because 0 was used again
	if l.take("0", now) == 0 {
		t.Error("0 was forgotten")
	}
	if l.take("1", now) != 0 {
		t.Error("1 was not forgotten")
	}
	if len(l.byKey) != rememberedKeys || l.recent.Len() != rememberedKeys {
		t.Errorf("%d keys are remembered, want %d", len(l.byKey), rememberedKeys)
	}
}

func TestAnAddressCountsWithoutItsPort(t *testing.T) {
	for remote, want := range map[string]string{
		"127.0.0.1:4711":             "127.0.0.1",
		"[::ffff:10.0.0.1]:80":       "10.0.0.1",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80":          "fe80::/64",
		"@":                          "@",
	} {
		if got := addressKey(remote); got != want {
			t.Errorf("addressKey(%q) = %q, want %q", remote, got, want)
		}
	}
}

// TestPasswordsAreCheckedFewAtATime fills every turn and asks for one more.
func TestPasswordsAreCheckedFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignIns()
		var leave []func()
		for {
			begin := time.Now()
			l, err := s.turn(t.Context())
			if err != nil {
				if !errors.Is(err, errBusy) || time.Since(begin) != hashPatience {
					t.Errorf("turn = %v after %v, want errBusy after %v", err, time.Since(begin), hashPatience)
				}
				break
			}
			leave = append(leave, l)
		}
		if want := 2 * runtime.NumCPU(); len(leave) != want {
			t.Errorf("%d at a time, want %d", len(leave), want)
		}
		leave[0]()
		if _, err := s.turn(t.Context()); err != nil {
			t.Errorf("a turn that got free is not given: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.turn(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("turn for somebody who is gone = %v", err)
		}
	})
}
