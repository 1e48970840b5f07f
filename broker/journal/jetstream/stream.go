package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// dedupe is the window in which the server looks for repeated message ids. We
// use none: a repeat is found by the fence, for ever.
const dedupe = time.Second

// config is how the stream must be.
func (o *Options) config() jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:               o.Stream,
		Description:        "Holdline's journal; written by its brokers only",
		Subjects:           []string{o.Stream + rootEntries + ">", o.Stream + rootRecords + ">", o.Stream + rootFences + ">", o.Stream + rootMeta + ">"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           o.Replicas,
		MaxBytes:           o.MaxBytes,
		Discard:            jetstream.DiscardNew, // refuse, never drop
		Duplicates:         dedupe,
		AllowRollup:        true,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = -1
	}
	return c
}

// prepare makes the stream when there is none, and refuses one that was made
// for something else. It changes nothing of one that is there: what replicates it
// and how much it may hold is the operator's.
func prepare(ctx context.Context, js jetstream.JetStream, o *Options) (*jetstream.StreamInfo, error) {
	want := o.config()
	var info *jetstream.StreamInfo
	err := patiently(ctx, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, o.Stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else was faster, with other settings
				stream, err = js.Stream(ctx, o.Stream)
			}
		}
		if err == nil {
			info = stream.CachedInfo()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	got := info.Config
	slices.Sort(got.Subjects)
	slices.Sort(want.Subjects)
	switch {
	case !slices.Equal(got.Subjects, want.Subjects):
		return nil, fmt.Errorf("stream %s is not a journal: it has the subjects %q", o.Stream, got.Subjects)
	case got.Storage != want.Storage || got.Discard != want.Discard || got.Retention != want.Retention ||
		got.MaxAge != 0 || got.MaxMsgs > 0 || got.MaxMsgsPerSubject > 0:
		return nil, fmt.Errorf("stream %s would drop what was acknowledged: it must keep files, refuse when full, and have no limit of age or number", o.Stream)
	case !got.AllowAtomicPublish || !got.AllowRollup || !got.AllowDirect || !got.AllowMsgTTL:
		return nil, fmt.Errorf("stream %s must allow atomic publish, rollup, direct get and message TTL", o.Stream)
	case got.Replicas < want.Replicas:
		return nil, fmt.Errorf("stream %s has %d replicas, want %d", o.Stream, got.Replicas, want.Replicas)
	}
	return info, nil
}
