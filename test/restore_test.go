package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdline/chat"
)

// TestRestoredBackups: operators restore what they have, together or not. What
// a customer was acknowledged and is in what was restored, or still in the
// journal, is stored once; every screen is right again.
//
// That storage alone was restored is noticed also when `migrate --restored` was
// forgotten. When both were, there is nothing left to notice it by: then it must not be.
func TestRestoredBackups(t *testing.T) {
	for _, tt := range []struct {
		name     string
		restore  []string // from the backup
		remove   []string
		declared bool // holdline migrate --restored was run
		// lost: what was said after the backup is gone with the journal that had it.
		lost bool
	}{
		{name: "storage", restore: []string{"holdline.db"}, declared: true},
		{name: "storage, and nobody read the manual", restore: []string{"holdline.db"}},
		{name: "the journal is lost", remove: []string{"journal"}},
		{name: "an older journal", restore: []string{"journal"}},
		{name: "both", restore: []string{"holdline.db", "journal"}, declared: true, lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := NewServer(t, Setup{})
			desk := s.HireDesk("bob", 5, Silent, nil)
			s.Start()
			awaitDesks(t, s, desk)
			var screens []*screen
			for i := range 2 {
				sc := &screen{device: fmt.Sprintf("phone-%d", i), dir: t.TempDir(), server: s, address: s.MQTT, mayResync: true}
				sc.open(t)
				screens = append(screens, sc)
			}
			// Some words and answers, before and after the backup.
			var id chat.ConversationID
			var epoch uint64
			talk := func(what string, n int) (want []chat.MessageID) {
				t.Helper()
				for i := range n {
					for _, sc := range screens {
						sc.say(t, fmt.Sprintf("%s, word %d of %s", what, i, sc.device))
						want = append(want, sc.sent[len(sc.sent)-1])
					}
					if id != "" {
						want = append(want, desk.Say(id, epoch, fmt.Sprintf("%s, answer %d", what, i)).ID)
					}
				}
				awaitShown(t, screens, want)
				return want
			}
			before := talk("first", 1)
			id = only(screens[0].shown(), chat.TypeMessage)[0].Conversation
			epoch = awaitHeld(t, desk, id)
			before = append(before, talk("before", 10)...)
			desk.Off()
			s.Stop()
			backup := t.TempDir()
			copyAll(t, s.Dir(), backup)
			s.Start()
			desk.On()
			after := talk("after", 20)
			desk.Off()
			s.Stop()

			for _, name := range append(tt.remove, tt.restore...) {
				for _, one := range matches(t, s.Dir(), name) {
					if err := os.RemoveAll(one); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, name := range tt.restore {
				for _, one := range matches(t, backup, name) {
					copyAll(t, one, filepath.Join(s.Dir(), filepath.Base(one)))
				}
			}
			if tt.declared {
				s.Command("migrate", "--restored")
			}
			// Something is waiting to be said the moment the server is back.
			var waiting []chat.MessageID
			for _, sc := range screens {
				sc.say(t, "while it was being restored")
				waiting = append(waiting, sc.sent[len(sc.sent)-1])
			}
			s.Start()
			want := append(append([]chat.MessageID{}, before...), waiting...)
			if !tt.lost {
				want = append(want, after...)
			}
			awaitShown(t, screens, want)
			for _, sc := range screens { // and on
				sc.say(t, "afterwards")
				want = append(want, sc.sent[len(sc.sent)-1])
			}
			awaitShown(t, screens, want)
			sameScreens(t, screens)
			for _, sc := range screens {
				t.Logf("%s: %d events, resynced %d times", sc.device, len(sc.shown()), sc.resyncs)
			}
			l := Ledger{Server: s}
			l.Close(t)
			thread, err := s.Thread(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			shown := only(screens[0].shown(), chat.TypeMessage)
			if len(thread) != len(shown) {
				t.Fatalf("the server has %d messages, the screens show %d", len(thread), len(shown))
			}
			for i, m := range thread {
				if m.ID != shown[i].ID || m.Text != shown[i].Text {
					t.Errorf("seq %d is %s at the server and %s on the screens", m.Seq, m.ID, shown[i].ID)
				}
			}
		})
	}
}

// matches are the files of a directory that belong to a name: SQLite has several.
func matches(t *testing.T, dir, name string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, name+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// copyAll copies a file, or a directory with all that is in it.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		var b []byte
		if b, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, b, info.Mode())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
