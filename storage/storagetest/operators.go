package storagetest

import (
	"fmt"
	"time"

	"holdline/chat"
	"holdline/storage"
)

var operators = map[string]func(*fixture){
	"an incarnation is renewed once":                    incarnationRenewed,
	"settings are numbered revisions":                   settingsNumbered,
	"two who configure at once do not both win":         settingsRace,
	"the audit trail tells the newest first":            auditNewestFirst,
	"a store answers and is maintained again and again": answers,
}

func incarnationRenewed(f *fixture) {
	first, err := f.Incarnation(f.ctx)
	f.must(err)
	if first == "" {
		f.Fatal("there is no incarnation")
	}
	again, err := f.Incarnation(f.ctx)
	f.must(err)
	f.want("incarnation", again, first)
	if _, _, ok := chat.NewEventID(first, 7).Parse(); !ok {
		f.Errorf("%q makes no event id", first)
	}
	renewed := make([]string, 10)
	f.allNil(together(len(renewed), func(i int) (err error) {
		renewed[i], err = f.Renew(f.ctx, first)
		return err
	}))
	now, err := f.Incarnation(f.ctx)
	f.must(err)
	if now == first {
		f.Error("Renew changed nothing")
	}
	for _, r := range renewed {
		f.want("renewed", r, now)
	}
}

func settingsNumbered(f *fixture) {
	_, err := f.Configuration(f.ctx, "main")
	f.wantErr("Configuration", err, chat.ErrNotFound)
	one := storage.Configuration{Revision: 1, At: noon, Actor: "operator", Body: []byte(`{"queues":["main"]}`)}
	two := storage.Configuration{Revision: 2, At: noon.Add(time.Second), Actor: "operator", Body: []byte(`{}`)}
	f.wantErr("a second before a first", f.Configure(f.ctx, "main", two), chat.ErrConflict)
	f.must(f.Configure(f.ctx, "main", one))
	f.wantErr("the first again", f.Configure(f.ctx, "main", one), chat.ErrConflict)
	got, err := f.Configuration(f.ctx, "main")
	f.must(err)
	f.want("settings", got, one)
	f.must(f.Configure(f.ctx, "main", two))
	got, err = f.Configuration(f.ctx, "main")
	f.must(err)
	f.want("settings", got, two)
	lines, err := f.AuditTrail(f.ctx, "main", "configuration", 10)
	f.must(err)
	f.want("audit", lines, []storage.Audit{storage.ConfigureAudit("main", two), storage.ConfigureAudit("main", one)})
}

func settingsRace(f *fixture) {
	errs := together(10, func(i int) error {
		return f.Configure(f.ctx, "main", storage.Configuration{Revision: 1, At: noon, Actor: fmt.Sprint(i), Body: []byte("{}")})
	})
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			f.wantErr("Configure", err, chat.ErrConflict)
		}
	}
	f.want("winners", won, 1)
}

func auditNewestFirst(f *fixture) {
	var want []storage.Audit
	for i := range 12 {
		line := storage.Audit{Tenant: "main", At: noon.Add(time.Duration(i/3) * time.Second), Actor: "main/agent/bob",
			Action: "accept", Object: fmt.Sprintf("conversation/%d", i%2), Detail: fmt.Sprint(i)}
		want = append([]storage.Audit{line}, want...)
		f.transact(storage.Scope{}, func(u *storage.Unit) error {
			u.Audit(line)
			return nil
		})
	}
	got, err := f.AuditTrail(f.ctx, "main", "", 0)
	f.must(err)
	f.want("all", got, want)
	got, err = f.AuditTrail(f.ctx, "main", "conversation/1", 2)
	f.must(err)
	f.want("of one object", got, []storage.Audit{want[0], want[2]})
	got, err = f.AuditTrail(f.ctx, "main", "conversation/9", 2)
	f.must(err)
	f.want("of nothing", got, []storage.Audit{})
}

func answers(f *fixture) {
	f.must(f.Ping(f.ctx))
	for i := range 4 {
		f.must(f.Maintain(f.ctx, noon.AddDate(0, i, 0), noon))
	}
	f.must(f.Ping(f.ctx))
}
