package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// ackWait is how long a batch may take before its outcome counts as unknown.
	ackWait = 5 * time.Second
	// tombstone is how long the place of a deleted record is kept.
	tombstone = "1h"
	// fenceLife is how long the fence of a process that is gone stays; a living one
	// renews its fence after fenceRenew.
	fenceLife  = "168h"
	fenceRenew = 24 * time.Hour
)

// message is one to be published.
type message struct {
	subject string
	data    []byte
	rollup  bool   // it replaces what is on its subject
	ttl     string // how long it is kept; empty for until it is removed

	// When conditional, the last message on the subject filter on (its own
	// subject when that is empty) must be the one with sequence number expect, 0 for none.
	conditional bool
	on          string
	expect      uint64
}

// The outcomes of publishing that are no errors of the journal.
//
// A refusal proves nothing: a leader that was frozen and deposed gets what is
// published as well, and may refuse what its successor writes. Only an
// acknowledgement takes a quorum.
var (
	// errStale: a server says that a condition does not hold.
	errStale = errors.New("the stream has changed")
	// errBusy: a server does not take it now.
	errBusy = errors.New("not taken")
	// errNoRoom: a server does not take it before there is more room.
	errNoRoom = errors.New("no room")
	// errAgain: it was not sent, or there was no server to take it. Nothing was written.
	errAgain = errors.New("not now")
	// errUnknown: it was sent, and nobody said what became of it.
	errUnknown = errors.New("no answer")
)

// The servers' numbers of errors.
const (
	codeInsufficientResources = 10023
	codeAccountResources      = 10002
	codeMemoryResources       = 10028
	codeStorageResources      = 10047
	codeStoreFailed           = 10077 // the text says why
	codeNoPeers               = 10005 // some are offline
	codeNotLeader             = 10009
	codeNotAvailable          = 10008
	codeWrongLast             = 10071
	codeWrongLastInFlight     = 10164
	codeIncomplete            = 10176
	codeTooManyInFlight       = 10210
)

// publisher sends batches, one at a time, over a connection of its own.
type publisher struct {
	conn *nats.Conn
	sub  *nats.Subscription
	ask  string // the beginning of reply subjects
	acks chan *nats.Msg
	lost chan struct{} // holds one: the connection broke

	mu   sync.Mutex
	sent uint64 // replies asked for
}

func newPublisher(conn *nats.Conn) (*publisher, error) {
	p := &publisher{conn: conn, ask: conn.NewInbox() + ".", acks: make(chan *nats.Msg, 64), lost: make(chan struct{}, 1)}
	warn := conn.DisconnectErrHandler()
	conn.SetDisconnectErrHandler(func(c *nats.Conn, err error) {
		select {
		case p.lost <- struct{}{}: // an answer that was on its way is lost
		default:
		}
		warn(c, err)
	})
	var err error
	p.sub, err = conn.ChanSubscribe(p.ask+"*", p.acks)
	return p, err
}

type pubAck struct {
	Error *struct {
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Seq uint64 `json:"seq"`
}

// publish sends messages as one atomic batch and waits for the answer: the
// sequence number of the last message.
func (p *publisher) publish(ctx context.Context, id string, messages []*message) (seq uint64, err error) {
	p.mu.Lock()
	p.sent++
	reply := p.ask + strconv.FormatUint(p.sent, 10)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	select {
	case <-p.lost: // before this batch
	default:
	}
	for i, m := range messages {
		out := m.outgoing()
		if len(messages) > 1 {
			out.Header["Nats-Batch-Id"] = []string{id}
			out.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		}
		if i == len(messages)-1 {
			if len(messages) > 1 {
				out.Header["Nats-Batch-Commit"] = []string{"1"}
			}
			out.Reply = reply
		}
		if err := p.conn.PublishMsg(out); err != nil {
			if i < len(messages)-1 {
				return 0, fmt.Errorf("%w: %w", errAgain, err) // without its end it is no batch
			}
			return 0, fmt.Errorf("%w: %w", errUnknown, err)
		}
	}
	for {
		select {
		case m := <-p.acks:
			if m.Subject == reply {
				return outcome(m)
			}
		case <-p.lost:
			return 0, fmt.Errorf("%w: %w", errUnknown, nats.ErrDisconnected)
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", errUnknown, ctx.Err())
		}
	}
}

func (m *message) outgoing() *nats.Msg {
	out := &nats.Msg{Subject: m.subject, Data: m.data, Header: nats.Header{}}
	if m.rollup {
		out.Header["Nats-Rollup"] = []string{"sub"}
	}
	if m.ttl != "" {
		out.Header["Nats-TTL"] = []string{m.ttl}
	}
	if m.conditional {
		out.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(m.expect, 10)}
		if m.on != "" {
			out.Header["Nats-Expected-Last-Subject-Sequence-Subject"] = []string{m.on}
		}
	}
	return out
}

// outcome reads an answer. What it does not know is unknown: the fence finds out.
func outcome(m *nats.Msg) (seq uint64, err error) {
	if m.Header.Get("Status") == "503" { // nobody was there to take it
		return 0, fmt.Errorf("%w: no responders", errAgain)
	}
	var a pubAck
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, fmt.Errorf("%w: %w", errUnknown, err)
	}
	if a.Error == nil {
		if a.Seq == 0 {
			return 0, fmt.Errorf("%w: an answer without number", errUnknown)
		}
		return a.Seq, nil
	}
	kind := errUnknown
	switch a.Error.ErrCode {
	case codeWrongLast:
		kind = errStale
	case codeNotLeader, codeNotAvailable, codeWrongLastInFlight, codeIncomplete, codeTooManyInFlight:
		kind = errBusy
	case codeInsufficientResources, codeAccountResources, codeMemoryResources, codeStorageResources:
		kind = errNoRoom
	case codeStoreFailed:
		// Before it is proposed, or in the apply of a server that is not alone.
		if d := a.Error.Description; d == "maximum bytes exceeded" || d == "maximum messages exceeded" {
			kind = errNoRoom
		}
	}
	return 0, fmt.Errorf("%w: %s (%d)", kind, a.Error.Description, a.Error.ErrCode)
}
