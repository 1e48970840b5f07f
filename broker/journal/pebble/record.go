package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"holdline/broker/journal"
)

// lookup returns a copy of a value as of the synced tail; nil when there is none.
func (j *Journal) lookup(ctx context.Context, key []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := j.gate.enter(); err != nil {
		return nil, err
	}
	defer j.gate.leave()
	v, err := j.views.get()
	if err != nil {
		return nil, err
	}
	defer j.views.let(v)
	value, closer, err := v.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	if len(value) < 8 {
		return nil, fmt.Errorf("value of %q is damaged", key)
	}
	return append([]byte(nil), value...), nil
}

// Inbox implements journal.Journal.
func (j *Journal) Inbox(ctx context.Context, inbox string) (uint64, error) {
	v, err := j.lookup(ctx, named(keyInbox, inbox))
	if v == nil || err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// Record implements journal.Journal.
func (j *Journal) Record(ctx context.Context, key string) (r journal.Record, ok bool, err error) {
	v, err := j.lookup(ctx, named(keyRecord, key))
	if v == nil || err != nil {
		return r, false, err
	}
	return journal.Record{Key: key, Value: v[8:], Version: binary.BigEndian.Uint64(v)}, true, nil
}

// Records implements journal.Journal. It sees the records as they were when it began.
func (j *Journal) Records(ctx context.Context, prefix string, fn func(journal.Record) error) error {
	if err := j.gate.enter(); err != nil {
		return err
	}
	defer j.gate.leave()
	v, err := j.views.get()
	if err != nil {
		return err
	}
	defer j.views.let(v)
	lower := named(keyRecord, prefix)
	it, err := v.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, it.Close())
		}
		value := it.Value()
		if len(value) < 8 {
			return errors.Join(fmt.Errorf("value of %q is damaged", it.Key()), it.Close())
		}
		r := journal.Record{
			Key:     string(it.Key()[1:]),
			Value:   append([]byte{}, value[8:]...),
			Version: binary.BigEndian.Uint64(value),
		}
		if err := fn(r); err != nil {
			// The error is fn's, for the caller to recognise.
			if closing := it.Close(); closing != nil {
				return errors.Join(err, closing)
			}
			return err
		}
	}
	return it.Close()
}
