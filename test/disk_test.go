package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/wire"
)

// smallDisk mounts a disk of its own for a test.
func smallDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("holdline-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("this needs the right to mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes a file until only `leave` bytes of the disk are free.
func fill(t *testing.T, file string, leave int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		var disk syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(file), &disk); err != nil {
			t.Fatal(err)
		}
		over := int64(disk.Bavail)*disk.Bsize - leave
		if over <= 0 {
			return
		}
		if _, err := f.Write(make([]byte, min(over, 1<<20))); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFullDisk: what cannot be stored is refused for now, and nobody is lied to.
// When there is room again, everything goes on by itself.
func TestAFullDisk(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave int64
	}{
		{"below the floor", 6 << 20},
		{"to the last byte", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t, "160m")
			s := NewServer(t, Setup{Dir: dir, Flags: []string{"--min-free", "16MB"}})
			desk := s.HireDesk("bob", 50, ByMQTT, nil)
			s.Start()
			awaitDesks(t, s, desk)
			phones := crowd(s, 8, nil)
			for _, p := range phones {
				p.AwaitOnline()
			}
			refused5 := wire.Open(t, s.MQTT(), hello(s, wire.V5, "eve", "phone-5"))
			refused3 := wire.Open(t, s.MQTT(), hello(s, wire.V311, "eve", "phone-3"))
			stop := chatter(t, phones, 3)
			Eventually(t, Patience, func() string {
				if phones[0].Answers() < 20 {
					return "no conversation gets going"
				}
				return ""
			})
			ballast := filepath.Join(dir, "ballast")
			fill(t, ballast, tt.leave)

			// Publishes are refused for now: 5 is told, 3.1.1 gets no acknowledgement and is cut off.
			say := wire.Packet{Type: wire.Publish, QoS: 1, ID: 7, Topic: "up/message", Payload: []byte(`{"id":"full","text":"hi"}`)}
			Eventually(t, Patience, func() string {
				if err := refused5.Send(say); err != nil {
					return ""
				}
				a, err := refused5.Await(wire.Patience, func(p wire.Packet) bool { return p.Type == wire.Puback || p.Type == wire.Disconnect })
				switch {
				case wire.Gone(err):
					t.Error("an MQTT 5 client was cut off without a word")
				case err != nil:
					return err.Error()
				case a.Code == 0: // taken before the server looked again
					return "publishes are still taken"
				case a.Code != 0x97:
					t.Errorf("%s, want 0x97", a)
				}
				return ""
			})
			if err := refused3.Send(say); err != nil {
				t.Fatal(err)
			}
			for {
				p, err := refused3.Next(wire.Patience)
				if wire.Gone(err) {
					break
				}
				if err != nil || p.Type == wire.Puback {
					t.Fatalf("a 3.1.1 client got %s, %v; want no acknowledgement and the end", p, err)
				}
			}
			// Who has something to say tries again meanwhile, and again.
			tries := func() (n int) {
				for _, p := range phones {
					n += p.Tries()
				}
				return n + desk.Tries()
			}
			began := tries()
			for _, p := range phones {
				p.Say("is there no room?")
			}
			Eventually(t, Patience, func() string {
				if n := tries() - began; n < 10 {
					return fmt.Sprintf("%d tries while the disk is full", n)
				}
				return ""
			})
			if state := s.present(); state.cmd.ProcessState != nil {
				t.Fatalf("the process ended: %s\n%s", state.cmd.ProcessState, s.Log())
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			was := phones[0].Answers()
			Eventually(t, Patience, func() string {
				if phones[0].Answers() < was+10 {
					return "after there was room again, the conversation does not go on"
				}
				return ""
			})
			stop()
			s.Restart()
			l := Ledger{Server: s, Phones: phones, Desks: []*Desk{desk}, Answered: true}
			l.Close(t)
		})
	}
}

// TestNoRoomFromTheStart: a server with less than the floor to write on takes
// nothing, and what it had taken before is still there when it may again.
func TestNoRoomFromTheStart(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	ada := s.Phone("ada", "phone", nil)
	id := begin(t, ada)
	s.Stop()
	s.setup.Flags = []string{"--min-free", "1000000GB"}
	err := s.Try()
	word := ada.Say("is anybody there")
	if err == nil {
		<-time.After(2 * time.Second)
		if ada.Taken(word) {
			t.Error("a word was acknowledged below the floor")
		}
	} else {
		t.Logf("did not start: %v", err)
	}
	s.setup.Flags = nil
	s.Restart()
	await(t, ada.Device, word, chat.TypeMessage)
	if e, _ := ada.Find(chat.TypeMessage, word.ID); e.Conversation != id || e.Seq != 2 {
		t.Errorf("afterwards: %+v, want seq 2 of %s", e, id)
	}
	l := Ledger{Server: s, Phones: []*Phone{ada}}
	l.Close(t)
}
