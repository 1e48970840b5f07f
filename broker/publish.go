package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// Publish is one PUBLISH of a client. Its bytes are only looked at during the call.
type Publish struct {
	ID         uint16 // 0 for QoS 0
	QoS        byte
	Retain     bool
	Topic      []byte
	Payload    []byte
	Properties []byte        // those to forward, as MQTT 5 writes them
	Expiry     time.Duration // 0 for none
	// Oversize is the size of a packet that was too large to be read to its end; the
	// payload is then missing.
	Oversize int
}

// AckKind is what an Ack answers.
type AckKind byte

// The kinds of answers.
const (
	Puback  AckKind = iota // to a publish of QoS 1
	Pubrec                 // to a publish of QoS 2
	Pubcomp                // to a PUBREL; Err may be ErrNoID
	Pubrel                 // to a PUBREC; Err may be ErrNoID
)

// Ack is the answer to one packet of the client. To a publish it is the decision: Err
// is nil when it is durable, otherwise what it was refused for (see Final).
type Ack struct {
	ID   uint16
	Kind AckKind
	// frees: it makes room for another publish. fresh: the id was not in the record before.
	frees, fresh bool
	Err          error
}

// inbound is the publishing side of a session.
type inbound struct {
	batch   *batch       // being filled by the reader; nil when empty
	waiting atomic.Int32 // publishes that count against our Receive Maximum
	freed   chan struct{}
	refused []time.Time // the last refusals, oldest first
	// short and full are the last topic and where it is mounted: clients repeat themselves.
	short, full string
	row         *topics.Topic

	mu    sync.Mutex // guards queue; Link.Acked is called under it, to keep the order
	queue []*batch
}

// batch is what one reader found buffered: one submission.
type batch struct {
	s     *Session
	sub   journal.Submission
	bytes []byte // what the entries consist of, until the journal has its own copy
	acks  []Ack
	// record tells that the session's record is to be written with it, holds that it is.
	record, holds bool

	done bool
	err  error
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// maxPooled bounds the memory that an unused batch keeps.
const maxPooled = 64 << 10

// release gives a batch back for the next reader.
func (b *batch) release() {
	if cap(b.bytes) > maxPooled || cap(b.sub.Entries) > batchEntries {
		return
	}
	clear(b.sub.Entries)
	clear(b.acks)
	*b = batch{sub: journal.Submission{Entries: b.sub.Entries[:0]}, bytes: b.bytes[:0], acks: b.acks[:0]}
	batches.Put(b)
}

// keep copies p to where it stays until the journal has it.
func (b *batch) keep(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	n := len(b.bytes)
	b.bytes = append(b.bytes, p...)
	return b.bytes[n:len(b.bytes):len(b.bytes)]
}

// markOf says in what way a publish is not an ordinary one.
func markOf(p *Publish) (mark byte) {
	if p.QoS == 0 {
		mark |= markOnce
	}
	if p.QoS == 2 {
		mark |= markTwice
	}
	if p.Retain {
		mark |= markRetain
	}
	return mark
}

// keepProperties is keep, with a mark in front unless it is 0.
func (b *batch) keepProperties(mark byte, p []byte) []byte {
	if mark == 0 {
		return b.keep(p)
	}
	n := len(b.bytes)
	b.bytes = append(append(b.bytes, marked|mark), p...)
	return b.bytes[n:len(b.bytes):len(b.bytes)]
}

// retain writes the record of an entry together with it; of several on one
// topic the last counts.
func (b *batch) retain(e *journal.Entry) {
	put := retainedPut(e)
	i := slices.IndexFunc(b.sub.Puts, func(p journal.Put) bool { return p.Key == put.Key })
	if i < 0 {
		b.sub.Puts = append(b.sub.Puts, put)
	} else {
		b.sub.Puts[i] = put
	}
}

// Publish takes one publish. A publish of QoS 1 is answered through
// Link.Acked, in the order of the calls. An error means that the connection must end.
func (s *Session) Publish(ctx context.Context, p *Publish) error {
	s.b.count.received.Add(1)
	if p.QoS == 2 && s.hasReceived(p.ID) {
		return s.settle(ctx, Ack{ID: p.ID, Kind: Pubrec}, false) // it was taken; only the answer was lost [MQTT-4.3.3-10]
	}
	if p.QoS > 0 {
		if err := s.claim(ctx); err != nil {
			return err
		}
	}
	entry := journal.Entry{Partition: journal.NoPartition}
	id, err := s.admit(p, &entry)
	switch {
	case err != nil:
		return s.refuse(ctx, p, id, err)
	case p.Retain && !s.b.retained.fits(entry.Topic, len(p.Payload)):
		return s.filled(ctx, p, fmt.Errorf("%w: too much is retained", ErrBusy))
	case p.QoS == 0 && !p.Retain && entry.Partition == journal.NoPartition:
		s.scatter(p, entry.Topic)
		return nil
	}
	entry.Client = s.origin
	if p.Expiry > 0 {
		entry.Expires = time.Now().UTC().Add(p.Expiry)
	}
	if p.QoS == 2 {
		if _, err := s.receive(p.ID); err != nil {
			return err
		}
	}
	b := s.filling()
	b.record = b.record || p.QoS == 2
	entry.Properties = b.keepProperties(markOf(p), p.Properties)
	entry.Payload = b.keep(p.Payload)
	b.sub.Entries = append(b.sub.Entries, entry)
	if p.Retain {
		b.retain(&entry)
	}
	return s.filled(ctx, p, nil)
}

// claim takes one place of the client's Receive Maximum.
func (s *Session) claim(ctx context.Context) error {
	for s.in.waiting.Load() >= int32(s.limits.Inbound) {
		if s.strict {
			return ErrReceiveMaximum
		}
		// A 3.1.1 client does not know the bound: read on when there is room.
		if err := s.Flush(ctx); err != nil {
			return err
		}
		if s.in.waiting.Load() < int32(s.limits.Inbound) {
			break
		}
		select {
		case <-s.in.freed:
		case <-ctx.Done():
			return ErrGone
		}
	}
	s.in.waiting.Add(1)
	return nil
}

// admit decides whether a publish may go to the journal and where to. id is
// what the sender calls it, for a refusal.
func (s *Session) admit(p *Publish, e *journal.Entry) (id chat.MessageID, err error) {
	if p.Oversize > 0 {
		return "", fmt.Errorf("%w: packet has %d bytes, at most %d are allowed", chat.ErrTooLarge, p.Oversize, s.limits.PacketBytes)
	}
	full, row, err := s.mountTopic(p.Topic)
	if err == nil && p.Retain && !s.mayRetain() {
		err = ErrRetain
	}
	if err != nil {
		say, _ := chat.ParseSay(p.Payload) // only to find out what the sender calls it
		return say.ID, err
	}
	e.Topic = full
	if row == nil || !row.Input {
		return "", nil
	}
	slot := s.mount.Account.Slot()
	switch row.Name {
	case topics.CustomerMessage.Name:
		say, err := chat.ParseSay(p.Payload)
		if err != nil {
			return say.ID, err
		}
		if say.Conversation != "" {
			slot, _ = say.Conversation.Slot() // checked by ParseSay
		}
	case topics.AgentCommand.Name:
		c, err := chat.ParseCommand(p.Payload)
		if err != nil {
			return c.ID, err
		}
		slot, _ = c.Conversation.Slot() // checked by ParseCommand
	case topics.CustomerRequest.Name:
		// A request that has a name is answered under it, with the error if need be.
		if r, err := chat.ParseRequest(p.Payload); err != nil && r.ID == "" {
			return "", err
		}
	}
	e.Partition = slot.Partition()
	return "", nil
}

// mayRetain reports whether the client may leave retained messages: services and
// clients without an account.
func (s *Session) mayRetain() bool {
	return s.mount.Tree || s.mount.Account == chat.Account{}
}

// mountTopic is Mount.Publish, remembering the last answer.
func (s *Session) mountTopic(name []byte) (full string, row *topics.Topic, err error) {
	if string(name) == s.in.short && len(name) > 0 {
		return s.in.full, s.in.row, nil
	}
	short := string(name)
	if err := topics.ValidName(short); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrTopic, err)
	}
	if full, row, err = s.mount.Publish(short); err != nil {
		return "", nil, err
	}
	s.in.short, s.in.full, s.in.row = short, full, row
	return full, row, nil
}

// refuse answers a publish that can never be taken. Accounts with an inbox are
// told there as well, by the bridge, because MQTT 3.1.1 cannot say it in the PUBACK.
func (s *Session) refuse(ctx context.Context, p *Publish, id chat.MessageID, err error) error {
	reason, _ := chat.ReasonOf(err)
	s.b.count.refuse(string(reason))
	if a, _ := s.account(); a.Role == chat.Customer || a.Role == chat.AgentRole {
		carrier, _, mountErr := s.mount.Publish(topics.CustomerMessage.Name)
		text, jsonErr := json.Marshal(chat.Refuse(id, err))
		if mountErr != nil || jsonErr != nil {
			return fmt.Errorf("refuse: %w %w", mountErr, jsonErr) // neither can happen: a row of the table, two strings
		}
		b := s.filling()
		b.sub.Entries = append(b.sub.Entries, journal.Entry{
			Topic: carrier, Client: s.origin, Refused: text, Partition: a.Slot().Partition(),
		})
	}
	if err := s.filled(ctx, p, err); err != nil {
		return err
	}
	now := time.Now()
	s.in.refused = append(s.in.refused, now)
	if n := len(s.in.refused); n >= refusalsAllowed {
		if now.Sub(s.in.refused[n-refusalsAllowed]) < refusalsWithin {
			return ErrRefusals
		}
		s.in.refused = s.in.refused[1:]
	}
	return nil
}

// filling is the batch being filled.
func (s *Session) filling() *batch {
	if s.in.batch == nil {
		s.in.batch = batches.Get().(*batch)
		s.in.batch.s = s
	}
	return s.in.batch
}

// filled adds the decision about p, and submits a batch that is large enough.
func (s *Session) filled(ctx context.Context, p *Publish, err error) error {
	b := s.filling()
	switch p.QoS {
	case 1:
		b.acks = append(b.acks, Ack{ID: p.ID, frees: true, Err: err})
	case 2:
		// A 3.1.1 client does not know our bound and must not be kept from releasing.
		b.acks = append(b.acks, Ack{ID: p.ID, Kind: Pubrec, frees: err != nil || !s.strict, fresh: err == nil, Err: err})
	}
	if len(b.sub.Entries) >= batchEntries || len(b.acks) >= batchEntries || len(b.bytes) >= batchBytes {
		return s.Flush(ctx)
	}
	return nil
}

// Flush submits what was published since the last time. It does not wait for
// the disk; Link.Acked comes when it is durable.
func (s *Session) Flush(ctx context.Context) error {
	b := s.in.batch
	if b == nil {
		return nil
	}
	s.in.batch = nil
	s.in.mu.Lock()
	s.in.queue = append(s.in.queue, b)
	s.in.mu.Unlock()
	durable := b.record && s.durable
	if len(b.sub.Entries) == 0 && !durable {
		s.decided(b, nil)
		s.link.Wake()
		return nil
	}
	b.sub.Done = b.appended
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	if durable {
		err = b.withRecord(ctx)
	}
	if err == nil {
		if err = s.b.j.Append(ctx, &b.sub); err != nil {
			b.taken(false)
			b.written(journal.Result{Err: err})
			err = fault(err)
		}
	}
	if err != nil {
		s.decided(b, err)
		s.link.Wake()
		if ctx.Err() == nil {
			return err
		}
		return ErrGone
	}
	return nil
}

// appended is the journal's answer; it is called from the journal's goroutine.
func (b *batch) appended(r journal.Result) {
	broker, link := b.s.b, b.s.link
	err := fault(r.Err)
	if b.record {
		b.taken(err == nil)
	}
	b.written(r)
	alone := len(b.sub.Entries) == 0
	b.s.decided(b, err)
	if alone && err == nil {
		link.Wake() // the follower hears nothing of it
		return
	}
	if err != nil {
		broker.failed(r.Err)
		link.Wake()
		return
	}
	broker.wakeLater(link) // with what the batch brings it, in one write
}

// decided passes on the decisions that are next in the order of the publishes.
func (s *Session) decided(b *batch, err error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	b.done, b.err = true, err
	for len(s.in.queue) > 0 && s.in.queue[0].done {
		b := s.in.queue[0]
		copy(s.in.queue, s.in.queue[1:])
		s.in.queue[len(s.in.queue)-1] = nil
		s.in.queue = s.in.queue[:len(s.in.queue)-1]
		if b.err != nil {
			for i := range b.acks {
				a := &b.acks[i]
				a.Err, a.frees = b.err, a.frees || a.fresh
			}
		}
		if len(b.acks) > 0 {
			var freed int32
			for i := range b.acks {
				if b.acks[i].frees {
					freed++
				}
			}
			s.in.waiting.Add(-freed)
			s.b.count.acked.Add(uint64(len(b.acks)))
			s.link.Acked(b.acks)
			select {
			case s.in.freed <- struct{}{}:
			default:
			}
		}
		b.release()
	}
	if len(s.in.queue) == 0 && cap(s.in.queue) > 16 {
		s.in.queue = nil
	}
}

// scatter sends a publish of QoS 0 to whoever is there. It is not journalled.
func (s *Session) scatter(p *Publish, full string) {
	m := &Message{
		Topic: full, Payload: bytes.Clone(p.Payload), Properties: bytes.Clone(p.Properties), origin: s.origin,
	}
	if p.Expiry > 0 {
		m.Expires = time.Now().UTC().Add(p.Expiry)
	}
	s.b.scatter(m)
}
