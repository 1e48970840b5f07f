package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// adminWait bounds one request that the cluster as a whole must answer.
	adminWait = 5 * time.Second
	// requestWait bounds one request to a server. It is shorter than an election, so
	// that a leader that was frozen and deposed answers nobody who still listens.
	requestWait = 2 * time.Second
	// pageBytes bounds the answer to one request for many messages.
	pageBytes = 4 << 20
	// pageMessages too.
	pageMessages = 4096
	// lastSubjects is how many subjects one request asks the last messages of.
	lastSubjects = 256
)

// stored is a message of the stream.
type stored struct {
	subject string
	seq     uint64
	at      time.Time
	*body
}

// fetcher reads the stream. Any server that holds it may answer, and it may be
// late: what is asked for says how far the answer must reach.
type fetcher struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream string
	names  names
	known  *atomic.Uint64 // how far the stream is known to reach
}

// again calls try until it neither fails nor is told to wait, or ctx ends.
func again(ctx context.Context, try func(ctx context.Context) (ok bool, err error)) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		once, cancel := context.WithTimeout(ctx, requestWait)
		ok, err := try(once)
		cancel()
		if ok && err == nil {
			return nil
		}
		if err == nil {
			err = errors.New("the server is behind")
		}
		if errors.Is(err, errEncoding) || errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// patiently calls try again while the cluster does not answer, until ctx ends.
// What the cluster refuses is final.
func patiently(ctx context.Context, try func(ctx context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, adminWait)
		err := try(once)
		cancel()
		var refusal *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refusal) && refusal.Code != 503 && refusal.ErrorCode != codeNoPeers: // those pass
			return err
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

type directRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	MultiLast []string   `json:"multi_last,omitempty"`
}

// direct asks any server. It returns the messages and how far the server's
// stream reached, where the answer says so. missing is the answer that there are none.
func (f *fetcher) direct(ctx context.Context, request directRequest) (found []stored, upTo uint64, missing bool, err error) {
	data, err := json.Marshal(request)
	if err != nil {
		return nil, 0, false, err
	}
	inbox := f.conn.NewRespInbox()
	sub, err := f.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, false, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only when the connection is gone
	if err := f.conn.PublishRequest("$JS.API.DIRECT.GET."+f.stream, inbox, data); err != nil {
		return nil, 0, false, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, false, err
		}
		switch status := m.Header.Get("Status"); {
		case status == "204":
			upTo, _ := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
			return found, upTo, false, nil
		case status == "404":
			return nil, 0, true, nil
		case status == "413":
			return nil, 0, false, errTooMany
		case status != "":
			return nil, 0, false, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		s, err := storedOf(m.Header, m.Data)
		if err != nil {
			return nil, 0, false, err
		}
		found = append(found, s)
	}
}

func storedOf(h nats.Header, data []byte) (s stored, err error) {
	s.subject = h.Get(jetstream.SubjectHeader)
	if s.seq, err = strconv.ParseUint(h.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return s, fmt.Errorf("direct get: sequence: %w", err)
	}
	if s.at, err = time.Parse(time.RFC3339Nano, h.Get(jetstream.TimeStampHeaer)); err != nil {
		return s, fmt.Errorf("direct get: time: %w", err)
	}
	if s.body, err = decode(data); err != nil {
		return s, fmt.Errorf("message %d: %w", s.seq, err)
	}
	return s, nil
}

// last returns the last message of each subject filter that has one, from a
// stream that reaches least at the least.
func (f *fetcher) last(ctx context.Context, least uint64, subjects []string) (found []stored, err error) {
	for len(subjects) > 0 {
		some := subjects[:min(len(subjects), lastSubjects)]
		subjects = subjects[len(some):]
		// The epoch is always there, so that the answer is never a bare 404 and
		// always says how far it reaches.
		ask := directRequest{MultiLast: append([]string{f.names.epoch()}, some...)}
		err := again(ctx, func(ctx context.Context) (bool, error) {
			part, upTo, missing, err := f.direct(ctx, ask)
			if err != nil || missing || upTo < least {
				return false, err
			}
			for _, s := range part {
				found = append(found, s)
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// next returns messages on a subject filter from a sequence number on, in
// order: some of those that there are, or none when there are none up to the place end.
func (f *fetcher) next(ctx context.Context, filter string, from, end uint64, limit int) (found []stored, err error) {
	err = again(ctx, func(ctx context.Context) (bool, error) {
		var err error
		found, _, _, err = f.direct(ctx, directRequest{Seq: from, NextFor: filter, Batch: min(limit, pageMessages), MaxBytes: pageBytes})
		if err != nil {
			return false, err
		}
		for len(found) > 0 && found[len(found)-1].seq > end {
			found = found[:len(found)-1]
		}
		if len(found) > 0 {
			return true, nil // a prefix of what there is, however late the server is
		}
		return f.none(ctx, filter, from, end)
	})
	return found, err
}

// none reports whether there is certainly no message on a subject filter from a
// sequence number up to the place end.
//
// A server that reaches so far is asked for the last messages. Where that cannot
// tell, because there are newer ones, or too many, the leader is asked, which may for
// a moment be one that was deposed while it was frozen.
func (f *fetcher) none(ctx context.Context, filter string, from, end uint64) (bool, error) {
	last, upTo, _, err := f.direct(ctx, directRequest{MultiLast: []string{f.names.epoch(), filter}})
	if err == nil {
		if upTo < min(end, f.known.Load()) {
			return false, nil
		}
		newer := false
		for _, s := range last {
			switch {
			case s.subject == f.names.epoch() || s.seq < from:
			case s.seq <= end:
				return false, nil
			default:
				newer = true
			}
		}
		if !newer {
			return true, nil
		}
	} else if !errors.Is(err, errTooMany) {
		return false, err
	}
	seq, ok, err := f.leaderNext(ctx, filter, from)
	return err == nil && (!ok || seq > end), err
}

// errTooMany: too many subjects match for one answer.
var errTooMany = errors.New("too many results")

type leaderRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

type leaderResponse struct {
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Message *struct {
		Seq  uint64    `json:"seq"`
		Time time.Time `json:"time"`
	} `json:"message"`
}

const errNoMessageFound = 10037

// leader asks the stream's leader for one message's place.
func (f *fetcher) leader(ctx context.Context, request leaderRequest) (seq uint64, ok bool, err error) {
	data, err := json.Marshal(request)
	if err != nil {
		return 0, false, err
	}
	m, err := f.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+f.stream, data)
	if err != nil {
		return 0, false, err
	}
	var r leaderResponse
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return 0, false, fmt.Errorf("message get: %w", err)
	}
	switch {
	case r.Error != nil && r.Error.ErrCode == errNoMessageFound:
		return 0, false, nil
	case r.Error != nil:
		return 0, false, fmt.Errorf("message get: %s (%d)", r.Error.Description, r.Error.ErrCode)
	case r.Message == nil:
		return 0, false, errors.New("message get: an answer without message")
	}
	return r.Message.Seq, true, nil
}

// leaderNext returns the place of the first message on a subject filter from a
// sequence number on.
func (f *fetcher) leaderNext(ctx context.Context, filter string, from uint64) (seq uint64, ok bool, err error) {
	return f.leader(ctx, leaderRequest{Seq: from, NextFor: filter})
}

// leaderLast returns the place of the last message on a subject filter.
func (f *fetcher) leaderLast(ctx context.Context, filter string) (seq uint64, err error) {
	err = again(ctx, func(ctx context.Context) (bool, error) {
		var err error
		seq, _, err = f.leader(ctx, leaderRequest{LastFor: filter})
		return err == nil, err
	})
	return seq, err
}

// since returns the place of the first entry that is not older than a time; ok is
// false when all are.
func (f *fetcher) since(ctx context.Context, at time.Time) (seq uint64, ok bool, err error) {
	err = again(ctx, func(ctx context.Context) (bool, error) {
		found, _, missing, err := f.direct(ctx, directRequest{StartTime: &at, NextFor: f.names.entries(), Batch: 1})
		if err != nil {
			return false, err
		}
		if ok = !missing && len(found) > 0; ok {
			seq = found[0].seq
		}
		return true, nil
	})
	return seq, ok, err
}

// purge removes the messages on a subject filter before a sequence number.
func (f *fetcher) purge(ctx context.Context, filter string, before uint64) error {
	return again(ctx, func(ctx context.Context) (bool, error) {
		stream, err := f.js.Stream(ctx, f.stream)
		if err != nil {
			return false, err
		}
		return true, stream.Purge(ctx, jetstream.WithPurgeSubject(filter), jetstream.WithPurgeSequence(before))
	})
}

// remove removes one message, so that nothing of it stays on the servers' disks.
func (f *fetcher) remove(ctx context.Context, seq uint64) error {
	return again(ctx, func(ctx context.Context) (bool, error) {
		stream, err := f.js.Stream(ctx, f.stream)
		if err != nil {
			return false, err
		}
		err = stream.SecureDeleteMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			err = nil
		}
		return true, err
	})
}
