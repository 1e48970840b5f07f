package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/chaos"
)

// TestStockClients are the lines of the README, with nothing but Debian's mosquitto clients.
func TestStockClients(t *testing.T) {
	for _, version := range []string{"mqttv5", "mqttv311"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			_, err := exec.LookPath("mosquitto_sub")
			need(t, err == nil, "mosquitto_sub and mosquitto_pub (apt-get install mosquitto-clients)")
			s := NewServer(t, Setup{})
			bob := s.HireDesk("bob", 5, Silent, nil)
			s.Start()
			// The proxy is no more than an address that outlives the server.
			front, err := chaos.Listen(s.MQTT())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { front.Close() })
			host, port, _ := strings.Cut(front.Addr(), ":")
			awaitDesks(t, s, bob)

			sub := func() *stockPhone {
				token := s.Command("token", "customer", "ada", "--device", "phone-1")
				return startStock(t, "mosquitto_sub", "-d", "-h", host, "-p", port, "-V", version, "-i", "phone-1", "-c", "-u", "ada", "-P", token, "-q", "1", "-t", "down/#")
			}
			pub := func(id, text string) {
				t.Helper()
				token := s.Command("token", "customer", "ada", "--device", "phone-2")
				say, err := json.Marshal(map[string]string{"id": id, "text": text})
				if err != nil {
					t.Fatal(err)
				}
				out, err := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-i", "phone-2", "-u", "ada", "-P", token,
					"-t", "up/message", "-q", "1", "-m", string(say)).CombinedOutput()
				if err != nil || len(out) > 0 {
					t.Fatalf("mosquitto_pub: %v\n%s", err, out)
				}
			}
			phone := sub()
			phone.AwaitSubscribed(t) // a session that is not there yet is owed nothing
			pub("0199-1", "Hi, order 4711 has not arrived")
			said := phone.Message(t, "0199-1")
			if said.Seq != 1 || said.From.Role != chat.Customer || said.From.ID != "ada" || said.Text != "Hi, order 4711 has not arrived" || said.Kind != chat.Text {
				t.Errorf("accepted as %+v", said)
			}
			if _, err := time.Parse(time.RFC3339, said.At); err != nil {
				t.Errorf("at: %v", err)
			}
			var epoch uint64
			Eventually(t, Patience, func() string {
				var mine bool
				if epoch, mine = bob.Holds(said.Conversation); !mine {
					return "the conversation was not assigned to the only agent"
				}
				return ""
			})
			answer := bob.Say(said.Conversation, epoch, "It leaves today")
			if got := phone.Message(t, answer.ID); got.Seq != 2 || got.From.Role != chat.AgentRole || got.Text != "It leaves today" {
				t.Errorf("answer arrived as %+v", got)
			}

			// Offline, answered, the server killed in between.
			phone.Kill()
			away := bob.Say(said.Conversation, epoch, "It has left")
			Eventually(t, Patience, func() string {
				if !bob.Taken(away) {
					return "the answer was not acknowledged"
				}
				return ""
			})
			s.Restart()
			front.Retarget(s.MQTT())
			phone = sub()
			if got := phone.Message(t, away.ID); got.Seq != 3 {
				t.Errorf("answer arrived as %+v", got)
			}
			pub("0199-2", "Thank you")
			if got := phone.Message(t, "0199-2"); got.Seq != 4 {
				t.Errorf("after the restart: %+v", got)
			}

			// Online while the server is killed: the stock client comes back by itself.
			s.Restart()
			front.Retarget(s.MQTT())
			var last *Said
			Eventually(t, Patience, func() string {
				if last == nil && bob.Online() {
					last = bob.Say(said.Conversation, epoch, "You are welcome")
				}
				if last == nil || !bob.Taken(last) {
					return "the desk has not come back"
				}
				return ""
			})
			phone.Message(t, last.ID)
			phone.Once(t)
			l := Ledger{Server: s, Desks: []*Desk{bob}}
			l.Close(t)
		})
	}
}

// stockPhone is a mosquitto_sub and what it printed.
type stockPhone struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	events []chat.Event
	other  []string // what -d adds: the packets
}

func startStock(t *testing.T, name string, args ...string) *stockPhone {
	t.Helper()
	// stdbuf becomes the program, and makes it print line by line.
	p := &stockPhone{cmd: exec.Command("stdbuf", append([]string{"-oL", name}, args...)...), done: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints output
	p.cmd.Stderr = &complaints
	if err := launch(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e chat.Event
			err := json.Unmarshal(lines.Bytes(), &e)
			p.mu.Lock()
			if err == nil {
				p.events = append(p.events, e)
			} else {
				p.other = append(p.other, lines.Text())
			}
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said: %s", name, complaints.tail())
		}
	})
	return p
}

// AwaitSubscribed waits for the SUBACK.
func (p *stockPhone) AwaitSubscribed(t *testing.T) {
	t.Helper()
	Eventually(t, Patience, func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !slices.ContainsFunc(p.other, func(s string) bool { return strings.HasPrefix(s, "Subscribed (mid: ") }) {
			return fmt.Sprintf("mosquitto_sub is not subscribed: %q", p.other)
		}
		return ""
	})
}

// Message waits for the message with an id.
func (p *stockPhone) Message(t *testing.T, id chat.MessageID) (m chat.Event) {
	t.Helper()
	Eventually(t, Patience, func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		var ok bool
		if m, ok = find(p.events, chat.TypeMessage, id); !ok {
			return fmt.Sprintf("mosquitto_sub has not printed message %s; it printed %d events and %q", id, len(p.events), p.other[max(0, len(p.other)-10):])
		}
		return ""
	})
	return m
}

// Once requires that messages were printed in order and none under two numbers.
func (p *stockPhone) Once(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	number := map[chat.MessageID]chat.EventID{}
	for _, e := range only(p.events, chat.TypeMessage) {
		if n, twice := number[e.ID]; twice && n != e.Event {
			t.Errorf("message %s came as event %s and as event %s", e.ID, n, e.Event)
		}
		number[e.ID] = e.Event
	}
}

// Kill ends the process without a word.
func (p *stockPhone) Kill() {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Kill() // it may just have ended
		<-p.done
	}
	_ = p.cmd.Wait() // how it ended does not matter; a second Wait is an error and harmless
}
