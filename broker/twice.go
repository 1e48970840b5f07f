package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"holdline/broker/journal"
)

// QoS 2, in both directions. What a handshake has come to is in the session's
// record before the other side is told, so that a message is never taken or handed on twice.

// ErrNoID: no handshake goes on under the packet id.
var ErrNoID = errors.New("no such packet identifier")

// receivedMost bounds the publishes of QoS 2 that a session has not released.
const receivedMost = 4096

// receive takes note of the id of a publish of QoS 2, whose entry is in the
// batch being filled. again is true when it was taken before.
func (s *Session) receive(id uint16) (again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again = s.received[id]; again {
		return true, nil
	}
	if len(s.received) >= receivedMost {
		return false, ErrReceiveMaximum
	}
	if s.received == nil {
		s.received = map[uint16]received{}
	}
	s.received[id] = received{counted: s.strict, pending: true}
	return false, nil
}

func (s *Session) hasReceived(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.received[id]
	return ok
}

// received is a publish of QoS 2 that was taken and not released.
type received struct {
	counted bool // it counts against our Receive Maximum on this connection
	// pending: its entry is not durable yet, so the id must not get into the record but
	// together with it.
	pending bool
}

// taken says what became of the entries of a batch.
func (b *batch) taken(ok bool) {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range b.acks {
		if !a.fresh {
			continue
		}
		if x, there := s.received[a.ID]; there && ok {
			x.pending = false
			s.received[a.ID] = x
		} else {
			delete(s.received, a.ID)
		}
	}
}

// Release takes the client's PUBREL; it is answered through Link.Acked.
func (s *Session) Release(ctx context.Context, id uint16) error {
	s.mu.Lock()
	x, known := s.received[id]
	delete(s.received, id)
	s.mu.Unlock()
	a := Ack{ID: id, Kind: Pubcomp, frees: x.counted}
	if !known {
		a.Err = ErrNoID
	}
	return s.settle(ctx, a, known)
}

// Receipt takes the client's PUBREC: refused tells that it wants nothing more of
// the message. Otherwise it is answered through Link.Acked. From then on the message is never
// sent again, only the PUBREL.
func (s *Session) Receipt(ctx context.Context, id uint16, refused bool) error {
	if refused {
		s.acknowledge(id, true)
		return nil
	}
	s.mu.Lock()
	w := &s.deliver.window
	fresh := !s.closed && s.settled(id, true)
	if fresh {
		w.releasing = append(w.releasing, id)
		w.beside++
	}
	known := slices.Contains(w.releasing, id)
	s.mu.Unlock()
	a := Ack{ID: id, Kind: Pubrel}
	if !known {
		a.Err = ErrNoID
	}
	return s.settle(ctx, a, fresh)
}

// Complete takes the client's PUBCOMP.
func (s *Session) Complete(ctx context.Context, id uint16) error {
	s.mu.Lock()
	w := &s.deliver.window
	i := slices.Index(w.releasing, id)
	if i >= 0 {
		w.releasing = slices.Delete(w.releasing, i, i+1)
		w.beside--
	}
	s.mu.Unlock()
	if i < 0 {
		return nil
	}
	s.b.count.confirmed.Add(1)
	// Written with what the client sent together with it: its id may come again after
	// 32767 entries, and must not be taken for this one then.
	s.filling().record = true
	return nil
}

// settle adds an answer to the batch being filled.
func (s *Session) settle(ctx context.Context, a Ack, changed bool) error {
	b := s.filling()
	b.acks = append(b.acks, a)
	b.record = b.record || changed
	if len(b.acks) >= batchEntries {
		return s.Flush(ctx)
	}
	return nil
}

// withRecord lets the session's record travel with a batch. The right to write
// it is given back when the batch is done.
func (b *batch) withRecord(ctx context.Context) error {
	s := b.s
	select {
	case s.rec <- struct{}{}:
	case <-s.gone:
		return ErrGone
	case <-ctx.Done():
		return ErrGone
	}
	s.mu.Lock()
	r := s.picture()
	for _, a := range b.acks {
		if _, there := s.received[a.ID]; a.fresh && there { // unless it was released meanwhile
			r.received = append(r.received, a.ID)
		}
	}
	s.mu.Unlock()
	slices.Sort(r.received)
	b.holds = true
	b.sub.Puts = append(b.sub.Puts, journal.Put{Key: s.key, Value: r.encode(), If: s.version})
	return nil
}

// written gives back the right to write the record.
func (b *batch) written(r journal.Result) {
	if !b.holds {
		return
	}
	if r.Err == nil {
		b.s.version = r.Version
		b.s.written.Store(time.Now().UnixNano())
	}
	b.s.unlockRecord()
}

// resend tells the client what it may forget: it acknowledged these messages, and
// was not heard to have got the answer [MQTT-4.4.0-1].
func (s *Session) resend() {
	s.mu.Lock()
	acks := make([]Ack, len(s.deliver.window.releasing))
	for i, id := range s.deliver.window.releasing {
		acks[i] = Ack{ID: id, Kind: Pubrel}
	}
	s.mu.Unlock()
	if len(acks) == 0 {
		return
	}
	s.in.mu.Lock()
	s.link.Acked(acks)
	s.in.mu.Unlock()
	s.link.Wake()
}

// appendHandshakes writes the ids of a record: those received, in order, and
// those being released, in the order of their PUBRECs.
func (r *record) appendHandshakes(b []byte) []byte {
	for _, ids := range [][]uint16{r.received, r.releasing} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return b
}

func (r *record) readHandshakes(in *reader) {
	for _, ids := range []*[]uint16{&r.received, &r.releasing} {
		for n := in.number(); n > 0 && !in.bad; n-- {
			*ids = append(*ids, uint16(in.number()))
		}
	}
}

// receivedIDs are for the record; s.mu is held.
func (s *Session) receivedIDs() (ids []uint16) {
	for id, x := range s.received {
		if !x.pending {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
