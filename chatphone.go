package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"holdline/broker/client"
	"holdline/chat"
)

const (
	// shownEvents is how much of the past a terminal phone begins with.
	shownEvents = 40
	// goodbye is how long the interactive phone waits for what is on its way.
	goodbye = 3 * time.Second
	// inputBytes bounds what is read of a line of a pipe.
	inputBytes = 4 * chat.MaxTextBytes
)

// chatPhone joins a client, a screen and somebody who types. What the client
// tells arrives in its own goroutine and is shown by that of the phone, through
// shows; a phone that does not come after slows the client down, and loses nothing.
type chatPhone struct {
	client  *client.Client
	screen  *chatScreen
	history *chatHistory
	tail    []chat.Event // of the history
	shows   chan func()
	over    chan struct{} // closed when nobody shows any more
	moved   chan struct{} // capacity 1: something left the outbox

	refused int // of what was said; for the goroutine of the screen
}

// openChat opens a phone in dir. cfg is everything of the client's
// configuration that the phone does not decide itself.
func openChat(dir string, cfg client.Config, screen *chatScreen) (*chatPhone, error) {
	p := &chatPhone{screen: screen, shows: make(chan func(), 64), over: make(chan struct{}), moved: make(chan struct{}, 1)}
	cfg.Dir = dir
	cfg.OnEvent, cfg.OnResync, cfg.OnReceipt, cfg.OnLink = p.event, p.resync, p.receipt, p.link
	var err error
	if p.client, err = client.New(cfg); err != nil {
		return nil, err
	}
	if p.history, p.tail, err = openHistory(filepath.Join(dir, "history.jsonl"), shownEvents); err != nil {
		return nil, errors.Join(err, p.client.Close())
	}
	return p, nil
}

func (p *chatPhone) close() error { return errors.Join(p.client.Close(), p.history.close()) }

// show lets f run where the screen is; after the end it is dropped.
func (p *chatPhone) show(f func()) {
	select {
	case p.shows <- f:
	case <-p.over:
	}
}

func (p *chatPhone) event(e chat.Event) error {
	fresh, err := p.history.add(e)
	if err != nil {
		return fmt.Errorf("keep the history: %w", err)
	}
	if fresh {
		p.show(func() { p.screen.event(e) })
	}
	return nil
}

func (p *chatPhone) resync() error {
	p.show(func() { p.screen.note(time.Now(), "the server was restored from a backup; here is everything it has") })
	return p.history.restart()
}

func (p *chatPhone) receipt(r client.Receipt) {
	select {
	case p.moved <- struct{}{}:
	default:
	}
	p.show(func() {
		if r.Status == client.Refused {
			p.refused++
		}
		p.screen.receipt(r, time.Now())
	})
}

func (p *chatPhone) link(l client.Link) { p.show(func() { p.screen.link(l, time.Now()) }) }

// run shows the past and then what happens, until talk returns or the client
// gives up. talk runs in a goroutine of its own and is waited for, when its
// context ends, only if it heeds it.
func (p *chatPhone) run(ctx context.Context, talk func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, e := range p.tail {
		p.screen.event(e)
	}
	for _, i := range p.client.Pending() {
		var s chat.Say
		if json.Unmarshal(i.Payload, &s) == nil {
			p.screen.say(i.ID, s.Text, i.Status, time.Now())
		}
	}
	p.screen.begin()
	defer p.screen.end()
	ran, talked := make(chan error, 1), make(chan error, 1)
	go func() { ran <- p.client.Run(ctx, nil) }()
	go func() { talked <- talk(ctx) }()
	var err error
	for running := true; running; {
		select {
		case f := <-p.shows:
			f()
		case err = <-talked:
			running = false
		case err = <-ran:
			ran <- nil
			running = false
		}
	}
	cancel()
	close(p.over)
	if e := <-ran; err == nil {
		err = e
	}
	for { // what came last
		select {
		case f := <-p.shows:
			f()
		default:
			return err
		}
	}
}

// say shows one line and sends it. What cannot be said is shown as refused; a
// full outbox is waited for.
func (p *chatPhone) say(ctx context.Context, text string) error {
	id := client.NewID()
	// The line first: its ticks may come at once.
	p.show(func() { p.screen.say(id, text, client.Queued, time.Now()) })
	for {
		_, err := p.client.Send(ctx, text, client.WithID(id))
		if errors.Is(err, client.ErrOutboxFull) {
			select {
			case <-p.moved:
				continue
			case <-ctx.Done():
				return err
			}
		}
		if reason, ours := chat.ReasonOf(err); ours {
			p.receipt(client.Receipt{ID: id, Status: client.Refused, Reason: reason, Detail: err.Error()})
			return nil
		}
		return err
	}
}

// pipe says every line of in, then waits until all is accepted or refused.
func (p *chatPhone) pipe(in io.Reader, patience time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, inputBytes)
		for lines.Scan() {
			if lines.Text() == "" {
				continue
			}
			if err := p.say(ctx, lines.Text()); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("read input: %w", err)
		}
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := p.client.Settle(waiting); err != nil {
			return fmt.Errorf("%w; they stay in the outbox and are sent the next time", err)
		}
		return nil
	}
}

// converse says what is typed until the input is closed. The goroutine that reads
// a terminal cannot be called back: it ends with the process, or at its next byte.
func (p *chatPhone) converse(in io.Reader) func(context.Context) error {
	return func(ctx context.Context) error {
		typed := make(chan []byte)
		go func() {
			defer close(typed)
			for {
				b := make([]byte, 1024)
				n, err := in.Read(b)
				if n > 0 {
					select {
					case typed <- b[:n]:
					case <-ctx.Done():
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
		var line chatLine
		for end := false; !end; {
			var b []byte
			select {
			case b = <-typed:
			case <-ctx.Done():
				return nil
			}
			var lines []string
			lines, end = line.feed(b)
			end = end || b == nil
			input := string(line.text)
			p.show(func() { p.screen.typed(input) })
			for _, text := range lines {
				if strings.TrimSpace(text) == "" {
					continue
				}
				if err := p.say(ctx, text); err != nil {
					return err
				}
			}
		}
		return p.leave(ctx)
	}
}

// leave gives what is on its way a moment, and says what stays behind.
func (p *chatPhone) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	if p.client.Settle(ctx) != nil {
		n := len(p.client.Pending())
		p.show(func() {
			p.screen.note(time.Now(), fmt.Sprintf("%d on the way; what is not sent yet waits in the outbox until the next chat", n))
		})
	}
	return nil
}
