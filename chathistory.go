package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"holdline/chat"
)

// chatHistory keeps the events a terminal phone has shown, a line each, in the
// order of their numbers. An event that comes again after a crash is there already.
//
// It is not synced: what a power cut takes can be had again from the server
// with --new.
type chatHistory struct {
	f    *os.File
	last chat.EventID
}

// openHistory opens or creates the file and returns the last n events of it.
func openHistory(path string, n int) (h *chatHistory, tail []chat.Event, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	h = &chatHistory{f: f}
	whole := int64(0)
	for b := bufio.NewReader(f); ; {
		line, err := b.ReadBytes('\n')
		var e chat.Event
		if err == nil && json.Unmarshal(line, &e) == nil {
			whole += int64(len(line))
			h.last = e.Event
			if tail = append(tail, e); len(tail) > 2*n {
				tail = append(tail[:0], tail[len(tail)-n:]...)
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, errors.Join(err, f.Close())
		}
		break // the end, or what a kill left of a line
	}
	if err := f.Truncate(whole); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return h, tail[max(0, len(tail)-n):], nil
}

// add keeps an event; fresh is false when it is there already.
func (h *chatHistory) add(e chat.Event) (fresh bool, err error) {
	life, n, _ := e.Event.Parse()
	if had, last, ok := h.last.Parse(); ok && had == life && n <= last {
		return false, nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	if _, err := h.f.Write(append(line, '\n')); err != nil {
		return false, err
	}
	h.last = e.Event
	return true, nil
}

// restart forgets everything.
func (h *chatHistory) restart() error {
	h.last = ""
	if err := h.f.Truncate(0); err != nil {
		return err
	}
	_, err := h.f.Seek(0, io.SeekStart)
	return err
}

func (h *chatHistory) close() error { return h.f.Close() }
