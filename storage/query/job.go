package query

import (
	"context"
	"errors"
	"time"

	"holdline/storage"
)

const finishJob = `DELETE FROM job WHERE id = $1 AND attempt = $2 AND claim = $3`

// FinishJob removes a job unless it was claimed again.
func (q *Queries) FinishJob(ctx context.Context, j storage.Job) error {
	_, err := q.Write.Exec(ctx, finishJob, j.ID, j.Attempt, int64(j.Claim))
	return wrap(err, "finish job %s", j.ID)
}

const retryJob = `UPDATE job SET at = $4 WHERE id = $1 AND attempt = $2 AND claim = $3`

// RetryJob makes a job due again at `at`.
func (q *Queries) RetryJob(ctx context.Context, j storage.Job, at time.Time) error {
	_, err := q.Write.Exec(ctx, retryJob, j.ID, j.Attempt, int64(j.Claim), storage.Millis(at))
	return wrap(err, "retry job %s", j.ID)
}

// nextJob is served by index job_due (kind, at, id).
const nextJob = `SELECT at FROM job WHERE kind = $1 ORDER BY at LIMIT 1`

// NextJob is when the next job of the kinds is due.
func (q *Queries) NextJob(ctx context.Context, kinds []string) (at time.Time, ok bool, err error) {
	for _, kind := range kinds {
		var ms int64
		switch err := one(ctx, q.Read, nextJob, []any{kind}, &ms); {
		case errors.Is(err, errNoRow):
		case err != nil:
			return time.Time{}, false, wrap(err, "next job")
		case !ok || storage.Time(ms).Before(at):
			at, ok = storage.Time(ms), true
		}
	}
	return at, ok, nil
}
