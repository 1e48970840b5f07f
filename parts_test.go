package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

// diary notes in which order things happen.
type diary struct {
	mu   sync.Mutex
	said []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, s)
}

func (d *diary) part(name string) part {
	return part{name, func(ctx context.Context, ready func()) error {
		d.note(name + " up")
		ready()
		<-ctx.Done()
		d.note(name + " down")
		return nil
	}}
}

func TestTheFrontDoorOpensLastAndClosesFirst(t *testing.T) {
	var d diary
	ctx, cancel := context.WithCancel(t.Context())
	err := runParts(ctx, slog.New(slog.DiscardHandler), []part{d.part("store"), d.part("bridge"), d.part("door")},
		func() { d.note("ready"); cancel() }, func() { d.note("stopping") })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"store up", "bridge up", "door up", "ready", "stopping", "door down", "bridge down", "store down"}
	if !slices.Equal(d.said, want) {
		t.Errorf("got %q\nwant %q", d.said, want)
	}
}

func TestAFailingPartStopsTheRest(t *testing.T) {
	var d diary
	broken := errors.New("broken")
	err := runParts(t.Context(), slog.New(slog.DiscardHandler), []part{
		d.part("store"),
		{"door", func(_ context.Context, ready func()) error { ready(); return broken }},
	}, func() {}, func() { d.note("stopping") })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "door") {
		t.Errorf("runParts = %v, want the door's error", err)
	}
	if want := []string{"store up", "stopping", "store down"}; !slices.Equal(d.said, want) {
		t.Errorf("got %q, want %q", d.said, want)
	}
}

func TestAPartThatCannotStartStopsTheStart(t *testing.T) {
	var d diary
	broken := errors.New("port taken")
	err := runParts(t.Context(), slog.New(slog.DiscardHandler), []part{
		d.part("store"),
		{"broker", func(context.Context, func()) error { return broken }},
		d.part("door"),
	}, func() { d.note("ready") }, func() {})
	if !errors.Is(err, broken) {
		t.Errorf("runParts = %v", err)
	}
	if want := []string{"store up", "store down"}; !slices.Equal(d.said, want) {
		t.Errorf("got %q, want %q", d.said, want)
	}
}
