package storagetest

import (
	"fmt"
	"sync"
	"time"

	"holdline/storage"
)

var jobs = map[string]func(*fixture){
	"a job is claimed when it is due":            jobDue,
	"a claimed job is hidden until its lease":    jobHidden,
	"a finished job is gone":                     jobFinished,
	"a job is tried again":                       jobRetried,
	"a job is replaced under its id":             jobReplaced,
	"a job is cancelled by its id":               jobCancelled,
	"an overtaken worker changes nothing":        jobOvertaken,
	"a job scheduled anew outlives an old claim": jobScheduledAnew,
	"every job goes to one of many workers":      jobRace,
	"the next job is known":                      jobNext,
}

func (f *fixture) schedule(list ...storage.Job) {
	f.Helper()
	f.transact(storage.Scope{}, func(u *storage.Unit) error {
		for _, j := range list {
			u.Schedule(j)
		}
		return nil
	})
}

// due claims jobs of kind "k" for a minute.
func (f *fixture) due(now time.Time, limit int) []storage.Job {
	f.Helper()
	list, err := f.DueJobs(f.ctx, []string{"k", "l"}, now, time.Minute, limit)
	f.must(err)
	return list
}

func ids(list []storage.Job) []string {
	s := []string{}
	for _, j := range list {
		s = append(s, j.ID)
	}
	return s
}

func jobDue(f *fixture) {
	f.schedule(
		storage.Job{ID: "later", Kind: "k", At: noon.Add(time.Millisecond)},
		storage.Job{ID: "b", Kind: "k", At: noon, Payload: []byte("payload")},
		storage.Job{ID: "a", Kind: "l", At: noon},
		storage.Job{ID: "first", Kind: "k", At: noon.Add(-time.Hour)},
		storage.Job{ID: "other", Kind: "other", At: noon},
	)
	none, err := f.DueJobs(f.ctx, nil, noon, time.Minute, 9)
	f.must(err)
	f.want("of no kind", ids(none), []string{})
	list := f.due(noon, 2)
	f.want("due", ids(list), []string{"first", "a"})
	list = f.due(noon, 9)
	f.want("due", ids(list), []string{"b"})
	list[0].Claim = 0
	f.want("job", list[0], storage.Job{ID: "b", Kind: "k", At: noon, Attempt: 1, Payload: []byte("payload")})
}

func jobHidden(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	f.want("due", ids(f.due(noon, 9)), []string{"j"})
	f.want("due", ids(f.due(noon.Add(time.Minute-time.Millisecond), 9)), []string{})
	list := f.due(noon.Add(time.Minute), 9)
	f.want("due", ids(list), []string{"j"})
	f.want("attempt", list[0].Attempt, 2)
}

func jobFinished(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	j := f.due(noon, 9)[0]
	f.must(f.FinishJob(f.ctx, j))
	f.must(f.FinishJob(f.ctx, j))
	f.must(f.RetryJob(f.ctx, j, noon))
	f.want("due", ids(f.due(noon.AddDate(1, 0, 0), 9)), []string{})
}

func jobRetried(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	f.must(f.RetryJob(f.ctx, f.due(noon, 9)[0], noon.Add(time.Second)))
	f.want("due", ids(f.due(noon, 9)), []string{})
	list := f.due(noon.Add(time.Second), 9)
	f.want("due", ids(list), []string{"j"})
	f.want("attempt", list[0].Attempt, 2)
	if !list[0].At.Equal(noon.Add(time.Second)) {
		f.Errorf("At = %v, want when it was due", list[0].At)
	}
}

func jobReplaced(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon, Payload: []byte("old")})
	f.due(noon, 9)
	f.schedule(storage.Job{ID: "j", Kind: "l", At: noon.Add(time.Second), Attempt: 7, Payload: []byte("new")})
	f.want("due", ids(f.due(noon, 9)), []string{})
	list := f.due(noon.Add(time.Second), 9)
	list[0].Claim = 0
	f.want("due", list, []storage.Job{{ID: "j", Kind: "l", At: noon.Add(time.Second), Attempt: 1, Payload: []byte("new")}})
}

func jobCancelled(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon}, storage.Job{ID: "stays", Kind: "k", At: noon})
	f.transact(storage.Scope{}, func(u *storage.Unit) error {
		u.Cancel("j")
		u.Cancel("never was")
		return nil
	})
	f.want("due", ids(f.due(noon, 9)), []string{"stays"})
}

func jobOvertaken(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	slow := f.due(noon, 9)[0]
	f.due(noon.Add(time.Minute), 9)
	f.must(f.FinishJob(f.ctx, slow))
	f.must(f.RetryJob(f.ctx, slow, noon))
	f.want("due at once", ids(f.due(noon.Add(time.Minute), 9)), []string{})
	f.want("due", ids(f.due(noon.Add(2*time.Minute), 9)), []string{"j"})
}

func jobScheduledAnew(f *fixture) {
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	slow := f.due(noon, 9)[0]
	f.transact(storage.Scope{}, func(u *storage.Unit) error { u.Cancel("j"); return nil })
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon})
	f.must(f.FinishJob(f.ctx, slow))
	list := f.due(noon, 9)
	f.want("due", ids(list), []string{"j"})
	f.want("attempt", list[0].Attempt, slow.Attempt) // the very same but for the claim
	f.must(f.FinishJob(f.ctx, slow))
	f.must(f.RetryJob(f.ctx, slow, noon))
	f.want("due at once", ids(f.due(noon, 9)), []string{})
	f.want("due", ids(f.due(noon.Add(time.Minute), 9)), []string{"j"})
}

func jobRace(f *fixture) {
	const total = 60
	var list []storage.Job
	for i := range total {
		list = append(list, storage.Job{ID: fmt.Sprint(i), Kind: "k", At: noon})
	}
	f.schedule(list...)
	var mu sync.Mutex
	got := map[string]int{}
	f.allNil(together(8, func(int) error {
		for {
			list, err := f.DueJobs(f.ctx, []string{"k"}, noon, time.Minute, 5)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, j := range list {
				got[j.ID]++
			}
			done := len(got) == total
			mu.Unlock()
			// An empty answer may mean that the others hold what is left: they have it.
			if done || len(list) == 0 {
				return nil
			}
		}
	}))
	for id, n := range got {
		f.want("claims of "+id, n, 1)
	}
	f.want("jobs", len(got), total)
}

func jobNext(f *fixture) {
	next := func() (time.Time, bool) {
		at, ok, err := f.NextJob(f.ctx, []string{"k", "l"})
		f.must(err)
		return at, ok
	}
	f.schedule(storage.Job{ID: "other", Kind: "other", At: noon.Add(-time.Hour)})
	if at, ok := next(); ok {
		f.Errorf("NextJob = %v, want none", at)
	}
	f.schedule(storage.Job{ID: "j", Kind: "k", At: noon}, storage.Job{ID: "l", Kind: "l", At: noon.Add(time.Second)})
	if at, ok := next(); !ok || !at.Equal(noon) {
		f.Errorf("NextJob = %v %v, want noon", at, ok)
	}
	f.due(noon, 9)
	if at, ok := next(); !ok || !at.Equal(noon.Add(time.Second)) {
		f.Errorf("NextJob = %v %v, want the other one", at, ok)
	}
	f.due(noon.Add(time.Second), 9)
	if at, ok := next(); !ok || !at.Equal(noon.Add(time.Minute)) {
		f.Errorf("NextJob = %v %v, want when the first is due again", at, ok)
	}
	if _, ok, err := f.NextJob(f.ctx, nil); ok || err != nil {
		f.Errorf("NextJob of no kind = %v %v", ok, err)
	}
}
