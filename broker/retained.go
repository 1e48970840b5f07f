package broker

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

const (
	// retainedPrefix is where the records of retained messages are, by full topic.
	retainedPrefix = "retained/"
	// retainedMost and retainedBytes bound what is retained. What would be more is
	// answered with ErrBusy and not published.
	retainedMost  = 65_536
	retainedBytes = 64 << 20
	// retainedLook is how many topics are looked at before others get a turn.
	retainedLook = 2048
	// retainedLag is how long the follower may take before it is asked whether
	// there is anything on its way at all.
	retainedLag = 5 * time.Millisecond
)

// retained are the retained messages, as they stand at one place of the
// journal. The records in the journal are the truth; each was written together with
// its entry. This is what the follower has seen of them, so that a SUBSCRIBE can take
// both its place and what was retained by then as one.
type retained struct {
	mu    sync.Mutex // never held while a lock of a session is asked for
	list  []*Message // by topic; messages are replaced, never changed
	bytes int
	at    uint64        // the newest entry that is in it
	moved chan struct{} // closed when at grows; nil when nobody waits
}

func byTopic(m *Message, topic string) int { return cmp.Compare(m.Topic, topic) }

// load reads the records. What is newer than the tail of the time comes by
// follow, again or for the first time.
func (b *Broker) loadRetained(ctx context.Context, at uint64) error {
	var list []*Message
	err := b.j.Records(ctx, retainedPrefix, func(raw journal.Record) error {
		m, err := decodeRetained(raw)
		if err != nil {
			b.Log.WarnContext(ctx, "retained message skipped", "err", err)
			return nil
		}
		list = append(list, m)
		return nil
	})
	if err == nil {
		_, err = b.j.Kept(ctx, 0) // brings the tail past whatever was read
	}
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = at
	for _, m := range list {
		r.put(m)
	}
	return err
}

// follow takes one batch of the journal.
func (r *retained) follow(batch []*journal.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range batch {
		if e.Refused == nil && isRetained(e.Properties) {
			m := *messageOf(e)
			m.Payload, m.Properties = slices.Clone(m.Payload), slices.Clone(m.Properties) // it stays when the entry goes
			m.Topic = strings.Clone(m.Topic)
			r.put(&m)
		}
	}
	r.at = batch[len(batch)-1].Seq
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// put replaces what is retained on a topic; an empty payload deletes it [MQTT-3.3.1-6].
func (r *retained) put(m *Message) {
	i, found := slices.BinarySearchFunc(r.list, m.Topic, byTopic)
	if found {
		r.bytes -= r.list[i].bytes()
	}
	switch {
	case len(m.Payload) == 0 && found:
		r.list = slices.Delete(r.list, i, i+1)
	case len(m.Payload) == 0:
	case found:
		r.list[i] = m
		r.bytes += m.bytes()
	default:
		r.list = slices.Insert(r.list, i, m)
		r.bytes += m.bytes()
	}
}

// fits reports whether so large a message may be retained. What is on its way
// to the journal is not counted.
func (r *retained) fits(topic string, bytes int) bool {
	if bytes == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := slices.BinarySearchFunc(r.list, topic, byTopic)
	return (found || len(r.list) < retainedMost) && r.bytes+bytes <= retainedBytes
}

// get returns what is retained on a topic and was by the place through.
func (r *retained) get(topic string, through uint64, now time.Time) (*Message, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, found := slices.BinarySearchFunc(r.list, topic, byTopic)
	if !found || !r.list[i].good(through, now) {
		return nil, false
	}
	return r.list[i], true
}

// good reports whether a retained message is owed to a subscription that was
// made at a place: what is newer comes to it as any message does.
func (m *Message) good(through uint64, now time.Time) bool {
	return m.Seq <= through && (m.Expires.IsZero() || m.Expires.After(now))
}

// page calls fn for what is retained under a filter, by topic, from the first
// topic after `after`, until fn returns false or enough was looked at. last is the topic
// it came to, and more whether there are others.
func (r *retained) page(filter, after string, through uint64, now time.Time, fn func(*Message) bool) (last string, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	prefix := filter
	if wild := strings.IndexAny(filter, "+#"); wild >= 0 {
		prefix = strings.TrimSuffix(filter[:wild], "/") // "a/#" is "a" too
	}
	i, found := slices.BinarySearchFunc(r.list, max(prefix, after), byTopic)
	if found && r.list[i].Topic == after {
		i++
	}
	last = after
	for looked := 0; i < len(r.list); i++ {
		m := r.list[i]
		if !strings.HasPrefix(m.Topic, prefix) || len(prefix) == len(filter) && m.Topic != filter {
			break
		}
		if looked++; looked > retainedLook {
			return last, true
		}
		if m.good(through, now) && topics.Match(filter, m.Topic) && !fn(m) {
			return last, true
		}
		last = m.Topic
	}
	return last, false
}

// reach waits until what is retained includes everything up to seq.
func (b *Broker) reachRetained(ctx context.Context, seq uint64) error {
	r := &b.retained
	lag := time.NewTimer(retainedLag)
	defer lag.Stop()
	for after := uint64(0); ; {
		r.mu.Lock()
		if r.at >= seq {
			r.mu.Unlock()
			return nil
		}
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		at, moved := r.at, r.moved
		r.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ErrGone
		case <-lag.C:
			// Places may be used for other things than entries. If there is no entry up to
			// seq, nothing is on its way.
			after = max(after, at)
			page, err := b.j.Read(ctx, anyTopic, after, 1)
			switch {
			case err != nil:
				return fault(err)
			case len(page.Entries) == 0 && page.Through >= seq:
				return nil
			case len(page.Entries) == 0:
				after = page.Through
			}
			lag.Reset(retainedLag)
		}
	}
}

// anyTopic matches everything a client can subscribe to.
var anyTopic = []journal.Filter{"#", topics.Root + "/#"}

// place returns the place of a new subscription: nothing up to it is missing
// from what is retained, and nothing after it is in there that will not come.
func (b *Broker) place(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tail := b.j.Tail().Seq
	if err := b.reachRetained(ctx, tail); err != nil {
		return 0, err
	}
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return max(tail, b.retained.at), nil
}

// sweepRetained removes what has expired.
func (b *Broker) sweepRetained(ctx context.Context, now time.Time) {
	r := &b.retained
	r.mu.Lock()
	var stale []*Message
	r.list = slices.DeleteFunc(r.list, func(m *Message) bool {
		if len(stale) == retainedLook || m.good(m.Seq, now) {
			return false
		}
		stale = append(stale, m)
		r.bytes -= m.bytes()
		return true
	})
	r.mu.Unlock()
	for _, m := range stale {
		key := retainedPrefix + m.Topic
		raw, ok, err := b.j.Record(ctx, key)
		if err != nil || !ok {
			continue // the next start finds it again
		}
		if m, err := decodeRetained(raw); err == nil && m.good(0, now) {
			continue // there is another one by now
		}
		// Nobody waits for it. Whoever replaced it meanwhile is right.
		if err := b.j.Append(ctx, &journal.Submission{Puts: []journal.Put{{Key: key, If: raw.Version}}, Lazy: true}); err != nil {
			return
		}
	}
}

const retainedFormat = 1

var errRetained = errors.New("retained message cannot be read")

// retainedPut is the record of an entry that came with the retain flag.
func retainedPut(e *journal.Entry) journal.Put {
	put := journal.Put{Key: retainedPrefix + e.Topic, If: journal.AnyVersion}
	if len(e.Payload) == 0 {
		return put
	}
	v := make([]byte, 0, 24+len(e.Client)+len(e.Properties)+len(e.Payload))
	v = append(v, retainedFormat)
	expires := uint64(0)
	if !e.Expires.IsZero() {
		expires = uint64(e.Expires.UnixMicro())
	}
	v = binary.AppendUvarint(v, expires)
	v = appendString(v, e.Client)
	v = appendString(v, string(e.Properties))
	put.Value = append(v, e.Payload...)
	return put
}

// decodeRetained reads a record. Its place in the journal is not known; it is
// before that of whoever reads the record.
func decodeRetained(raw journal.Record) (*Message, error) {
	in := reader{b: raw.Value}
	if f := in.byte(); f != retainedFormat {
		return nil, fmt.Errorf("%w: format %d", errRetained, f)
	}
	e := journal.Entry{Topic: strings.TrimPrefix(raw.Key, retainedPrefix)}
	if us := in.number(); us != 0 {
		e.Expires = time.UnixMicro(int64(min(us, 1<<62))).UTC()
	}
	e.Client = in.string()
	e.Properties = []byte(in.string())
	if in.bad || len(in.b) == 0 {
		return nil, errRetained
	}
	e.Payload = slices.Clone(in.b)
	return messageOf(&e), nil
}
