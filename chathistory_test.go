package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdline/chat"
)

func addEvent(t *testing.T, h *chatHistory, id chat.EventID, fresh bool) {
	t.Helper()
	got, err := h.add(chat.Event{Event: id, Type: chat.TypeMessage, Text: string(id)})
	if err != nil || got != fresh {
		t.Fatalf("add %s = %t, %v, want %t", id, got, err, fresh)
	}
}

func reopen(t *testing.T, path string, n int) (*chatHistory, []string) {
	t.Helper()
	h, tail, err := openHistory(path, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.close() })
	var texts []string
	for _, e := range tail {
		texts = append(texts, e.Text)
	}
	return h, texts
}

func TestHistoryIsKeptOnceAndSurvivesAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, tail := reopen(t, path, 2)
	if len(tail) != 0 {
		t.Errorf("a new history has %q", tail)
	}
	for n := range uint64(9) {
		addEvent(t, h, chat.NewEventID("k", n+1), true)
	}
	addEvent(t, h, "k-9", false)
	addEvent(t, h, "k-3", false)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"event":"k-10","te`); err != nil { // killed while writing
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h, tail = reopen(t, path, 2)
	if got := fmt.Sprint(tail); got != "[k-8 k-9]" {
		t.Errorf("tail %s", got)
	}
	addEvent(t, h, "k-9", false)
	addEvent(t, h, "k-10", true)
	addEvent(t, h, "new-1", true) // the numbering began anew
	if _, tail = reopen(t, path, 3); fmt.Sprint(tail) != "[k-9 k-10 new-1]" {
		t.Errorf("tail %s", tail)
	}
	if err := h.restart(); err != nil {
		t.Fatal(err)
	}
	addEvent(t, h, "new-1", true)
	if _, tail = reopen(t, path, 3); fmt.Sprint(tail) != "[new-1]" {
		t.Errorf("tail %s", tail)
	}
}
