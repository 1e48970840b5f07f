package sqlite_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdline/chat"
	"holdline/storage"
	"holdline/storage/sqlite"
)

const (
	crashes       = 10
	messagesAUnit = 3
)

// commitForEver is the child of TestAKilledProcessLosesNothing: it commits unit
// after unit and says the number of each that was committed.
func commitForEver(t *testing.T, path string) {
	s, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Claim(t.Context(), storage.InputLease(0), "child", 0, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.Position(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ada := chat.Account{Tenant: "main", Role: chat.Customer, Subject: "ada"}
	for {
		next := storage.Position{Journal: 1, Seq: at.Seq + 1}
		scope := storage.Scope{Accounts: []chat.Account{ada}, Advance: []storage.Advance{{Partition: 0, Lease: l, From: at, To: next}}}
		if err := s.Transact(t.Context(), scope, func(u *storage.Unit) error {
			c := u.Open(ada)
			if c == nil {
				c = chat.Open(chat.NewConversationID(ada.Slot(), [12]byte{}), ada, "", chat.DefaultQueue, time.Now())
			}
			for i := range messagesAUnit {
				say := chat.Say{ID: chat.MessageID(fmt.Sprintf("%d/%d", next.Seq, i)), Kind: chat.Text, Text: "text"}
				m := c.Number(ada, "", say, time.Now())
				u.Add(m)
				u.Remember(storage.SaidKey{Account: ada, ID: say.ID}, storage.Said{Conversation: c.ID, Seq: m.Seq}, m.At)
				u.TellMessage(c, m)
			}
			u.Touch(c)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		at = next
		if _, err := fmt.Println(at.Seq); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAKilledProcessLosesNothing(t *testing.T) {
	if path := os.Getenv("SQLITE_CRASH_CHILD"); path != "" {
		commitForEver(t, path)
	}
	path := filepath.Join(t.TempDir(), "holdline.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	reported := uint64(0)
	for range crashes {
		child := exec.CommandContext(t.Context(), self, "-test.run=^TestAKilledProcessLosesNothing$")
		child.Env = append(os.Environ(), "SQLITE_CRASH_CHILD="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed after so many commits and a moment more, so that it may be anywhere.
		commits, moment := 1+rand.N(40), time.Duration(rand.N(3000))*time.Microsecond
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ { // to the end: what was said before the kill counts
			seq, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			reported = seq
			if n == commits {
				time.AfterFunc(moment, func() { _ = child.Process.Kill() })
			}
		}
		_ = child.Wait() // killed
		checkAfterCrash(t, path, reported)
	}
	if reported < crashes {
		t.Errorf("only %d commits were reported", reported)
	}
}

func checkAfterCrash(t *testing.T, path string, reported uint64) {
	t.Helper()
	s := reopen(t, path)
	defer s.Close()
	at, err := s.Position(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if at.Seq < reported || at.Seq > reported+1 {
		t.Fatalf("the position is %d, the last reported was %d", at.Seq, reported)
	}
	list, err := s.Conversations(t.Context(), storage.ConversationQuery{Tenant: "main"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d conversations, %v", len(list), err)
	}
	if want := at.Seq * messagesAUnit; list[0].Seq != want {
		t.Errorf("the conversation is at %d, want %d", list[0].Seq, want)
	}
	last, err := s.LastEvent(t.Context(), chat.DefaultQueue.Inbox("main"))
	if err != nil || last != list[0].Seq {
		t.Errorf("the queue was told %d events (%v), want %d", last, err, list[0].Seq)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var integrity string
	var messages, said uint64
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
		t.Errorf("integrity_check = %q, %v", integrity, err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM said)").Scan(&messages, &said); err != nil {
		t.Fatal(err)
	}
	if messages != list[0].Seq || said != list[0].Seq {
		t.Errorf("%d messages and %d ids for seq %d", messages, said, list[0].Seq)
	}
}
