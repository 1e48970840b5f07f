package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	neturl "net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/postgres/pgtest"
)

var (
	noon    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ada     = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	discard = slog.New(slog.DiscardHandler)
)

func opened(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func customer(i int) chat.Account {
	return chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprintf("c%03d", i)}
}

// say stores one message of each customer in one unit.
func say(ctx context.Context, s *Store, id string, at time.Time, customers ...chat.Account) error {
	scope := storage.Scope{Accounts: customers}
	for _, a := range customers {
		scope.Said = append(scope.Said, storage.SaidKey{Account: a, ID: chat.MessageID(id)})
	}
	return s.Transact(ctx, scope, func(u *storage.Unit) error {
		for _, a := range customers {
			c := u.Open(a)
			if c == nil {
				c = chat.Open(chat.NewConversationID(a.Slot(), [12]byte([]byte(fmt.Sprintf("%012s", a.Subject))[:12])), a, "", chat.DefaultQueue, at)
			}
			m := c.Number(a, "", chat.Say{ID: chat.MessageID(id), Kind: chat.Text, Text: "text"}, at)
			u.Add(m)
			u.Touch(c)
			u.Remember(storage.SaidKey{Account: a, ID: m.ID}, storage.Said{Conversation: c.ID, Seq: m.Seq}, at)
			u.TellMessage(c, m)
		}
		return nil
	})
}

// turns counts how often a connection turns from writing to reading: round trips.
type turns struct {
	net.Conn
	count *atomic.Int64
	wrote atomic.Bool
}

func (c *turns) Write(b []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(b)
}

func (c *turns) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.wrote.Swap(false) {
		c.count.Add(1)
	}
	return n, err
}

func TestATransactionCostsAHandfulOfRoundTrips(t *testing.T) {
	config, err := configOf(pgtest.Database(t, Migrate))
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	config.MaxConns = 1
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &turns{Conn: c, count: &count}, err
	}
	s, err := open(t.Context(), config, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var customers []chat.Account
	for i := range 200 {
		customers = append(customers, customer(i))
	}
	for i := range 3 { // the first one prepares the statements
		if err := say(t.Context(), s, fmt.Sprint("warm ", i), noon, customers...); err != nil {
			t.Fatal(err)
		}
	}
	count.Store(0)
	if err := say(t.Context(), s, "counted", noon, customers...); err != nil {
		t.Fatal(err)
	}
	// Two by design. A batch larger than the socket's buffers is answered while
	// it is still being written, which looks like another.
	if got := count.Load(); got < 2 || got > 8 {
		t.Errorf("200 messages took %d round trips, want a handful", got)
	}
}

func TestOverlappingTransactionsDoNotDeadlock(t *testing.T) {
	s := opened(t, pgtest.Database(t, Migrate))
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 2))
			for round := range 25 {
				var some []chat.Account
				for _, i := range random.Perm(40)[:8] {
					some = append(some, customer(i))
				}
				if err := say(t.Context(), s, fmt.Sprintf("%d/%d", w, round), noon, some...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// The engine tries a deadlocked transaction again: the server's count tells whether it had to.
	var deadlocks int
	if err := s.pool.QueryRow(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks); err != nil {
		t.Fatal(err)
	}
	if deadlocks != 0 {
		t.Errorf("%d deadlocks", deadlocks)
	}
}

func TestWaitingForALockHonoursTheContext(t *testing.T) {
	s := opened(t, pgtest.Database(t, Migrate))
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	scope := storage.Scope{Accounts: []chat.Account{ada}}
	go func() {
		done <- s.Transact(context.WithoutCancel(t.Context()), scope, func(*storage.Unit) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := say(ctx, s, "m", noon, ada); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Transact = %v, want the deadline", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := say(t.Context(), s, "m", noon, ada); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A process that is frozen between its locks and its commit must not hold up
// the one that takes over, and must not write when it wakes.
func TestAFrozenTransactionIsCutOff(t *testing.T) {
	url := pgtest.Database(t, Migrate)
	at, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	settings := at.Query()
	settings.Set("idle_in_transaction_session_timeout", "200")
	at.RawQuery = settings.Encode()
	frozen, next := opened(t, at.String()), opened(t, url)
	l, err := frozen.Claim(t.Context(), storage.InputLease(0), "n1", 0, noon, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	inside, wake := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		scope := storage.Scope{Accounts: []chat.Account{ada}, Advance: []storage.Advance{{Partition: 0, Lease: l, To: storage.Position{Journal: 1, Seq: 9}}}}
		done <- frozen.Transact(t.Context(), scope, func(u *storage.Unit) error {
			u.Tell(ada.Inbox(), chat.Event{Type: chat.TypeDone}, noon)
			select {
			case inside <- struct{}{}:
			case <-wake: // tried again, and fenced, we do not get here
			}
			<-wake
			return nil
		})
	}()
	<-inside
	later := noon.Add(2 * time.Minute) // the lease has run out; the lock is what holds
	taken, err := next.Claim(t.Context(), storage.InputLease(0), "n2", 0, later, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	scope := storage.Scope{Advance: []storage.Advance{{Partition: 0, Lease: taken, To: storage.Position{Journal: 1, Seq: 1}}}}
	if err := next.Transact(t.Context(), scope, func(*storage.Unit) error { return nil }); err != nil {
		t.Errorf("the next owner: %v", err)
	}
	close(wake)
	if err := <-done; err == nil {
		t.Error("the frozen transaction was committed")
	}
	position, err := next.Position(t.Context(), 0)
	if want := (storage.Position{Journal: 1, Seq: 1}); err != nil || position != want {
		t.Errorf("Position = %v, %v; want %v", position, err, want)
	}
	if n, err := next.LastEvent(t.Context(), ada.Inbox()); err != nil || n != 0 {
		t.Errorf("LastEvent = %d, %v; want none", n, err)
	}
}

// stored counts rows of a table.
func stored(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+pgx.Identifier{table}.Sanitize()).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMessagesGoToTheirMonth(t *testing.T) {
	s := opened(t, pgtest.Database(t, Migrate))
	now := time.Now().UTC()
	// Months from the present one on are there since Migrate.
	if err := say(t.Context(), s, "now", now, ada); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, s, "message_default"); n != 0 {
		t.Errorf("%d messages of this month are in the default partition", n)
	}
	// One far ahead waits in the default partition, and moves when its month is made.
	ahead := time.Date(now.Year()+3, 2, 28, 23, 59, 59, 999e6, time.UTC)
	if err := say(t.Context(), s, "ahead", ahead, ada); err != nil {
		t.Fatal(err)
	}
	if err := say(t.Context(), s, "after", ahead.Add(time.Millisecond), ada); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, s, "message_default"); n != 2 {
		t.Errorf("%d messages are in the default partition, want 2", n)
	}
	for _, month := range []time.Time{ahead, ahead} { // again is harmless
		if err := s.Maintain(t.Context(), month, noon); err != nil {
			t.Fatal(err)
		}
	}
	if n := stored(t, s, "message_default"); n != 0 {
		t.Errorf("%d messages are left in the default partition", n)
	}
	for month, want := range map[time.Time]int{ahead: 1, ahead.Add(time.Millisecond): 1} {
		if n := stored(t, s, "message_"+month.Format("2006_01")); n != want {
			t.Errorf("%d messages in %s, want %d", n, month.Format("2006-01"), want)
		}
	}
	list, err := s.Conversations(t.Context(), storage.ConversationQuery{Tenant: "main"})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := s.Messages(t.Context(), "main", list[0].ID, 0, 10)
	if err != nil || len(messages) != 3 {
		t.Errorf("%d messages, %v; want 3", len(messages), err)
	}
}

func TestMonthsAreMadeWhileMessagesAreStored(t *testing.T) {
	s := opened(t, pgtest.Database(t, Migrate))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				if err := say(t.Context(), s, fmt.Sprint(i), noon.AddDate(10, i, 0), customer(w)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for i := range 20 {
				if err := s.Maintain(t.Context(), noon.AddDate(10, i, 0), noon); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := stored(t, s, "message"); n != 80 {
		t.Errorf("%d messages, want 80", n)
	}
	if n := stored(t, s, "message_default"); n != 0 {
		t.Errorf("%d messages are in the default partition", n)
	}
}

func TestMigrateManyAtOnce(t *testing.T) {
	url := pgtest.Database(t)
	if _, err := Open(t.Context(), url, discard); err == nil || !strings.Contains(err.Error(), "migrated") {
		t.Errorf("Open before Migrate = %v", err)
	}
	errs := make(chan error)
	for range 4 {
		go func() { errs <- Migrate(t.Context(), url) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s := opened(t, url)
	if err := Migrate(t.Context(), url); err != nil {
		t.Errorf("Migrate of what is in use: %v", err)
	}
	if _, err := s.pool.Exec(t.Context(), "UPDATE goose_db_version SET is_applied = false"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping of a store that lacks a migration is fine")
	}
}

func TestThePoolSurvivesTheServer(t *testing.T) {
	server := pgtest.Start(t)
	s := opened(t, server.Database(t, Migrate))
	var stop atomic.Bool
	var wg sync.WaitGroup
	reported := make([]map[string]bool, 6) // by writer, the ids whose commit was reported
	for w := range reported {
		reported[w] = map[string]bool{}
		wg.Go(func() {
			for i := 0; !stop.Load() && t.Context().Err() == nil; i++ {
				id := fmt.Sprint(i)
				if err := say(t.Context(), s, id, noon, customer(w)); err == nil {
					reported[w][id] = true
				} else if errors.Is(err, storage.ErrPermanent) && !errors.Is(err, chat.ErrConflict) || errors.Is(err, storage.ErrFenced) {
					t.Errorf("with the server gone: %v, want an error that may pass", err)
				}
			}
		})
	}
	waitFor := func(n uint64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			if last, err := s.LastEvent(ctx, chat.DefaultQueue.Inbox("main")); err == nil && last >= n {
				return
			} else if ctx.Err() != nil {
				t.Fatalf("%d events, %v; want %d", last, err, n)
			}
		}
	}
	waitFor(50)
	server.Kill()
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping of a dead server is fine")
	}
	server.Restart(t)
	last, err := s.LastEvent(t.Context(), chat.DefaultQueue.Inbox("main"))
	for err != nil && t.Context().Err() == nil { // the connections of before are found dead one by one
		last, err = s.LastEvent(t.Context(), chat.DefaultQueue.Inbox("main"))
	}
	waitFor(last + 50)
	stop.Store(true)
	wg.Wait()
	for w := range reported {
		list, err := s.Conversations(t.Context(), storage.ConversationQuery{Tenant: "main", Customer: customer(w).Subject})
		if err != nil || len(list) != 1 {
			t.Fatalf("%d conversations, %v", len(list), err)
		}
		seq := list[0].Seq
		have := map[string]bool{}
		for before := uint64(0); seq > 0; {
			page, err := s.Messages(t.Context(), "main", list[0].ID, before, storage.MaxMessages)
			if err != nil || len(page) == 0 {
				t.Fatalf("%d messages before %d, %v", len(page), before, err)
			}
			for _, m := range page {
				if m.Seq != seq {
					t.Fatalf("seq %d where %d is due", m.Seq, seq)
				}
				have[string(m.ID)] = true
				seq--
			}
			before = page[len(page)-1].Seq
		}
		for id := range reported[w] {
			if !have[id] {
				t.Errorf("message %s of writer %d was reported and is gone", id, w)
			}
		}
	}
}

func TestLookupsAreServedByTheirIndex(t *testing.T) {
	s := opened(t, pgtest.Database(t, Migrate))
	none := []string{}
	for _, tt := range []struct {
		name, text string
		args       []any
		want       []string
	}{
		{"accounts", lockAccounts, []any{none, none, none}, []string{"using account_pkey"}},
		{"sessions", loadSessions, []any{none, none, none}, []string{"using session_pkey"}},
		{"said", loadSaid, []any{none, none, none, none}, []string{"using said_pkey"}},
		{"heads", lockHeads, []any{"", none, none, none, none}, []string{"using conversation_pkey", "using conversation_open"}},
		{"agents", loadAgents, []any{none, none}, []string{"using agent_pkey", "using conversation_held", "using session_pkey"}},
		{"a node", onNode, []any{"", 0}, []string{"using session_node"}},
		{"due jobs", dueJobs, []any{none, 0, 0, 0, 0}, []string{"using job_due"}},
		{"published", published, []any{"", "", 0, []int64{}, none, none, none, []int64{}, []int64{}}, []string{"using lease_pkey", "using outbox_pkey"}},
		{"forget", forget, []any{0, 0}, []string{"using event_at"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Generic, as after some uses; nothing is known of the data, as on the first day.
			var plan strings.Builder
			err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), "SET LOCAL plan_cache_mode = force_generic_plan"); err != nil {
					return err
				}
				return eachExplained(t.Context(), tx, tt.text, tt.args, &plan)
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(plan.String(), want) {
					t.Errorf("want %q in:\n%s", want, plan.String())
				}
			}
			if strings.Contains(plan.String(), "Seq Scan") {
				t.Errorf("a table is read from end to end:\n%s", plan.String())
			}
		})
	}
}

func eachExplained(ctx context.Context, tx pgx.Tx, text string, args []any, plan *strings.Builder) error {
	rows, err := tx.Query(ctx, "EXPLAIN "+text, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var line string
		err := rows.Scan(&line)
		fmt.Fprintln(plan, line)
		return err
	})
}

func TestTheURLDecides(t *testing.T) {
	config, err := configOf("postgres://u:secret@h/db?application_name=mine&idle_in_transaction_session_timeout=5")
	if err != nil {
		t.Fatal(err)
	}
	if got := config.ConnConfig.RuntimeParams; got["application_name"] != "mine" || got["idle_in_transaction_session_timeout"] != "5" || got["jit"] != "off" {
		t.Errorf("settings are %v", got)
	}
	if _, err := configOf("postgres://u:secret@h:x/db"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a bad URL = %v", err)
	}
	var none *pgxpool.Config
	if none, err = configOf("postgres://h/db?connect_timeout=9"); err != nil || none.ConnConfig.ConnectTimeout != 9*time.Second {
		t.Errorf("connect_timeout is %v, %v", none.ConnConfig.ConnectTimeout, err)
	}
}
