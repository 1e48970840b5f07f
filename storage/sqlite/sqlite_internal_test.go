package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/query"
)

var (
	noon    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ada     = chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	discard = slog.New(slog.DiscardHandler)
)

// migrated is the path of a new, empty store.
func migrated(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdline.db")
	if err := Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, path string, pragmas ...string) *Store {
	t.Helper()
	s, err := open(t.Context(), path, discard, append(slices.Clone(writing), pragmas...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// tell stores one event of so many bytes.
func tell(ctx context.Context, s *Store, bytes int) error {
	return s.Transact(ctx, storage.Scope{}, func(u *storage.Unit) error {
		u.Tell(ada.Inbox(), chat.Event{Type: chat.TypeMessage, Text: strings.Repeat("x", bytes)}, noon)
		return nil
	})
}

func TestAFullDiskIsTemporary(t *testing.T) {
	s := opened(t, migrated(t), "max_page_count(200)")
	ctx := t.Context()
	stored := uint64(0)
	var err error
	for err == nil && stored < 1000 {
		if err = tell(ctx, s, 3000); err == nil {
			stored++
		}
	}
	if stored == 0 || err == nil {
		t.Fatalf("stored %d events of 3 kB in 200 pages, then %v", stored, err)
	}
	for _, wrong := range []error{storage.ErrPermanent, storage.ErrFenced, chat.ErrConflict, chat.ErrInvalid} {
		if errors.Is(err, wrong) {
			t.Errorf("a full disk is %v, want an error that may pass", err)
		}
	}
	n, err := s.LastEvent(ctx, ada.Inbox())
	if err != nil || n != stored {
		t.Errorf("LastEvent = %d, %v; want %d: the failed one is not there", n, err, stored)
	}
	// Room is made: it goes on, with the next number.
	if _, err := s.writer.Exec(ctx, "PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if err := tell(ctx, s, 3000); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if n, err := s.LastEvent(ctx, ada.Inbox()); err != nil || n != stored+1 {
		t.Errorf("LastEvent = %d, %v; want %d", n, err, stored+1)
	}
}

func TestAnotherProcessHoldsTheFile(t *testing.T) {
	path := migrated(t)
	s := opened(t, path, "busy_timeout(20)")
	other, err := sql.Open("sqlite", dsn(path, "rw"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = tell(t.Context(), s, 1)
	if !busy(err) {
		t.Errorf("Transact = %v, want busy", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := tell(t.Context(), s, 1); err != nil {
		t.Errorf("Transact afterwards = %v", err)
	}
}

func TestWaitingForTheWriterHonoursTheContext(t *testing.T) {
	s := opened(t, migrated(t))
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Transact(context.WithoutCancel(t.Context()), storage.Scope{}, func(*storage.Unit) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := tell(ctx, s, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Transact = %v, want the deadline", err)
	}
	if _, err := s.LastEvent(t.Context(), ada.Inbox()); err != nil {
		t.Errorf("a read waits for the writer: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAStoreThatIsNotMigratedIsNotOpened(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.db")
	if _, err := Open(t.Context(), missing, discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of no file = %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), empty, discard); err == nil || !strings.Contains(err.Error(), "migrated") {
		t.Errorf("Open of an empty file = %v", err)
	}
	path := migrated(t)
	s := opened(t, path)
	if _, err := s.writer.Exec(t.Context(), "UPDATE goose_db_version SET is_applied = 0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping of a store that lacks a migration is fine")
	}
}

func TestMigrateTwiceAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holdline.db")
	errs := make(chan error)
	for range 4 {
		go func() { errs <- Migrate(t.Context(), path) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	opened(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, want readable by its owner alone", info.Mode())
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := opened(t, migrated(t))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tell(t.Context(), s, 1); err == nil {
		t.Error("a closed store stores")
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
}

func TestNothingIsWrittenThroughTheReaders(t *testing.T) {
	s := opened(t, migrated(t))
	if _, err := s.reader.db.ExecContext(t.Context(), "DELETE FROM store"); err == nil {
		t.Error("a reading connection writes")
	}
}

// explaining notes how SQLite would run each query, and does not run it.
type explaining struct {
	*reader
	plan *strings.Builder
}

func (e explaining) Query(ctx context.Context, text string, args []any, _ func(query.Row) error) error {
	return e.reader.Query(ctx, "EXPLAIN QUERY PLAN "+text, args, func(r query.Row) error {
		var id, parent, unused int
		var detail string
		err := r.Scan(&id, &parent, &unused, &detail)
		fmt.Fprintln(e.plan, detail)
		return err
	})
}

func TestHotQueriesAreServedByTheirIndex(t *testing.T) {
	s := opened(t, migrated(t))
	ctx := t.Context()
	var plan strings.Builder
	s.Queries.Read = explaining{s.reader, &plan}
	heads := func(q storage.ConversationQuery) func() error {
		return func() error { _, err := s.Conversations(ctx, q); return err }
	}
	explain := func(text string, params int) func() error {
		return func() error {
			return s.Queries.Read.Query(ctx, text, []any{"[]", "[]", "[]"}[:params], func(query.Row) error { return nil })
		}
	}
	for _, tt := range []struct {
		name string
		run  func() error
		want []string
	}{
		{"a queue", heads(storage.ConversationQuery{Queue: "main", States: []chat.State{chat.Waiting}}), []string{"conversation_waiting (tenant=? AND queue=?"}},
		{"an agent's", heads(storage.ConversationQuery{Holder: "bob", States: []chat.State{chat.Held}}), []string{"conversation_held (tenant=? AND holder=?"}},
		{"a desk", heads(storage.ConversationQuery{States: []chat.State{chat.Waiting, chat.Held}}), []string{"conversation_unresolved (tenant=? AND (since,id)>"}},
		{"all waiting", heads(storage.ConversationQuery{States: []chat.State{chat.Waiting}}), []string{"conversation_unresolved (tenant=? AND (since,id)>"}},
		{"a customer's", heads(storage.ConversationQuery{Customer: "ada"}), []string{"conversation_customer (tenant=? AND customer=?"}},
		{"history", heads(storage.ConversationQuery{}), []string{"conversation_since (tenant=? AND (since,id)>"}},
		{"a thread", func() error { _, err := s.Messages(ctx, "main", "x", 0, 1); return err }, []string{"message USING PRIMARY KEY (tenant=? AND conversation=? AND seq<?)"}},
		{"events", func() error { _, err := s.Events(ctx, ada.Inbox(), 0, 1); return err }, []string{"PRIMARY KEY (tenant=? AND kind=? AND name=? AND n>?)"}},
		{"unpublished", func() error { _, err := s.Unpublished(ctx, 1, 1); return err }, []string{"SEARCH o USING PRIMARY KEY (partition=?)", "SEARCH e USING PRIMARY KEY (tenant=? AND kind=? AND name=? AND n=?)"}},
		{"next job", func() error { _, _, err := s.NextJob(ctx, []string{"k"}); return err }, []string{"job_due (kind=?)"}},
		{"audit of one", func() error { _, err := s.AuditTrail(ctx, "main", "o", 1); return err }, []string{"audit_object (tenant=? AND object=?)"}},
		{"audit", func() error { _, err := s.AuditTrail(ctx, "main", "", 1); return err }, []string{"audit_at (tenant=?)"}},
		{"agents", func() error { _, err := s.Agents(ctx, "main"); return err }, []string{"conversation_held (tenant=? AND holder=?)", "SEARCH s USING PRIMARY KEY (tenant=? AND role=? AND subject=?)"}},
		{"due jobs", explain(dueJobs, 3), []string{"job_due (kind=? AND at<?)"}},
		{"open ones", explain(loadOpen, 1), []string{"conversation_open (tenant=? AND customer_role=? AND customer=?)"}},
		{"named ones", explain(loadNamed, 2), []string{"PRIMARY KEY (tenant=? AND id=?)"}},
		{"accounts", explain(loadAccounts, 1), []string{"SEARCH a USING PRIMARY KEY (tenant=? AND role=? AND subject=?)"}},
		{"sessions", explain(loadSessions, 1), []string{"SEARCH s USING PRIMARY KEY (tenant=? AND role=? AND subject=?)"}},
		{"said", explain(loadSaid, 1), []string{"SEARCH s USING PRIMARY KEY (tenant=? AND role=? AND subject=? AND id=?)"}},
		{"agents of a unit", explain(loadAgents, 1), []string{"SEARCH a USING PRIMARY KEY (tenant=? AND id=?)"}},
		{"a node", explain(onNode, 2), []string{"session_node (node=? AND partition=?)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan.Reset()
			if err := tt.run(); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(plan.String(), want) {
					t.Errorf("want %q in:\n%s", want, plan.String())
				}
			}
			if strings.Contains(strings.ReplaceAll(plan.String(), "SCAN json_each", ""), "SCAN ") {
				t.Errorf("something is read from end to end:\n%s", plan.String())
			}
		})
	}
}
