package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdline/broker/journal"
	"holdline/chat"
)

// problem is the one place where our errors become HTTP (RFC 9457). What it does
// not know is logged here, because the answer says nothing about it. An error that is a problem already stays one.
func (s *server) problem(ctx context.Context, err error) error {
	var already huma.StatusError
	switch {
	case err == nil, errors.As(err, &already):
		return err
	case errors.Is(err, chat.ErrTooLarge):
		return huma.NewError(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, chat.ErrInvalid):
		return huma.NewError(http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, chat.ErrForbidden):
		return huma.NewError(http.StatusForbidden, err.Error())
	case errors.Is(err, chat.ErrNotFound):
		return huma.NewError(http.StatusNotFound, err.Error())
	case errors.Is(err, chat.ErrConflict), errors.Is(err, chat.ErrNotOwner), errors.Is(err, chat.ErrClosed):
		return huma.NewError(http.StatusConflict, err.Error())
	case errors.Is(err, errBusy):
		return later(http.StatusServiceUnavailable, time.Second, err.Error())
	case errors.Is(err, journal.ErrFull):
		s.Log.ErrorContext(ctx, "journal is full", "err", err)
		return later(http.StatusInsufficientStorage, 30*time.Second, "the server has no space left; nothing was taken")
	case errors.Is(err, journal.ErrFailed), errors.Is(err, journal.ErrClosed):
		s.Log.ErrorContext(ctx, "journal takes nothing", "err", err)
		return later(http.StatusServiceUnavailable, 5*time.Second, "the server takes nothing at the moment")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.Log.WarnContext(ctx, "request took too long", "err", err)
		return later(http.StatusServiceUnavailable, time.Second, "this took too long; send it again, with the same id if it has one")
	}
	s.Log.ErrorContext(ctx, "request failed", "err", err)
	return huma.NewError(http.StatusInternalServerError, "something went wrong here; it is in the log")
}

// later is a refusal that tells when to come back, in whole seconds and at least one.
func later(status int, wait time.Duration, detail string) error {
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	return huma.ErrorWithHeaders(huma.NewError(status, detail),
		http.Header{"Retry-After": {strconv.FormatInt(seconds, 10)}})
}

// writeProblem is for what happens outside of huma.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{ // a client that is gone needs no answer
		Title: http.StatusText(status), Status: status, Detail: detail,
	})
}

// refuse answers from a middleware.
func (s *server) refuse(ctx huma.Context, err error) {
	var h huma.HeadersError
	if errors.As(err, &h) {
		for k, values := range h.GetHeaders() {
			for _, v := range values {
				ctx.AppendHeader(k, v)
			}
		}
	}
	var e huma.StatusError
	if !errors.As(err, &e) {
		e = huma.NewError(http.StatusInternalServerError, "something went wrong here")
	}
	_ = huma.WriteErr(s.api, ctx, e.GetStatus(), e.Error()) // a client that is gone needs no answer
}

// quiet keeps what a client sent out of the errors about it: a refused
// password or message is not to be found in anybody's log of answers.
func quiet(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		for _, e := range m.Errors {
			e.Value = nil
		}
	}
	return v, nil
}
