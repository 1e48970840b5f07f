package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
	"holdline/storage"
)

const (
	answerWorkers = 4
	answerQueue   = 256             // requests that wait; one more is told to ask again
	answerTimeout = 5 * time.Second // of one request
	answerBytes   = 48 << 10        // of the events of one reply: it must fit a packet of 64 KiB
)

// answerer answers requests, beside the committer: a slow read of storage must
// not hold up what is being stored. A reply that is lost is asked for again.
type answerer struct {
	journal journal.Journal
	store   storage.Store
	log     *slog.Logger
	queue   chan question // closed by the committer's end
}

// question is a request whose entry is stored.
type question struct {
	account chat.Account
	client  string
	request chat.Request
}

func newAnswerer(c Config) *answerer {
	return &answerer{journal: c.Journal, store: c.Store, log: c.Log, queue: make(chan question, answerQueue)}
}

// ask has a request answered. It does not block.
func (a *answerer) ask(ctx context.Context, it *item) {
	if it.entry.Client == "" {
		return // no session to answer
	}
	q := question{it.account(), it.entry.Client, it.request}
	if it.refusal.Reason != "" {
		a.reply(ctx, q, chat.Reply{ID: q.request.ID, Error: &it.refusal})
		return
	}
	select {
	case a.queue <- q:
	default:
		a.reply(ctx, q, busy(q))
	}
}

// busy tells to ask again.
func busy(q question) chat.Reply {
	return chat.Reply{ID: q.request.ID, Error: &chat.Refusal{
		ID: q.request.ID, Reason: chat.ReasonBusy, Detail: "this cannot be answered now; ask again in a few seconds",
	}}
}

// work answers until the queue is closed and empty.
func (a *answerer) work(ctx context.Context) {
	for q := range a.queue {
		a.answer(ctx, q)
	}
}

func (a *answerer) answer(ctx context.Context, q question) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := a.sync(ctx, q)
	if err != nil {
		a.log.WarnContext(ctx, "request not answered", "account", q.account.String(), "err", err)
		r = busy(q)
	}
	a.reply(context.WithoutCancel(ctx), q, r)
}

// sync is what the caller's inbox was told after Since.
func (a *answerer) sync(ctx context.Context, q question) (chat.Reply, error) {
	reply := chat.Reply{ID: q.request.ID}
	inbox := q.account.Inbox()
	incarnation, err := a.store.Incarnation(ctx)
	if err != nil {
		return reply, fmt.Errorf("incarnation: %w", err)
	}
	last, err := a.store.LastEvent(ctx, inbox)
	if err != nil {
		return reply, fmt.Errorf("last event: %w", err)
	}
	life, since, ok := q.request.Since.Parse()
	if !ok || life != incarnation || since > last {
		reply.Resync = q.request.Since != ""
		since = 0
	}
	events, err := a.store.Events(ctx, inbox, since, q.request.Limit)
	if err != nil {
		return reply, fmt.Errorf("events: %w", err)
	}
	if q.request.Since != "" && since < last && (len(events) == 0 || events[0].N > since+1) {
		reply.Resync = true // what came next was removed: the client cannot go on from there
	}
	size, at := 0, since
	for _, e := range events {
		line := chat.Numbered(chat.NewEventID(incarnation, e.N), e.Body)
		if size += len(line); size > answerBytes && len(reply.Events) > 0 {
			break
		}
		reply.Events, at = append(reply.Events, line), e.N
	}
	if last = max(last, at); last > 0 {
		reply.Last = chat.NewEventID(incarnation, last)
	}
	reply.More = len(reply.Events) > 0 && at < last
	return reply, nil
}

func (a *answerer) reply(ctx context.Context, q question, r chat.Reply) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the events stay as they are stored
	if err := e.Encode(r); err != nil {
		a.log.ErrorContext(ctx, "reply does not marshal", "account", q.account.String(), "err", err)
		return
	}
	payload := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if err := a.journal.Announce(ctx, journal.Announcement{Topic: topics.Reply(q.account, q.client), Payload: payload}); err != nil {
		a.log.WarnContext(ctx, "reply not announced", "account", q.account.String(), "err", err)
	}
}
