package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdline/chat"
	"holdline/test/wire"
)

// TestASecondServerOnTheSameDataIsRefused with an error that says what to do, and the first goes on.
func TestASecondServerOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	ada := s.Phone("ada", "phone", nil)
	begin(t, ada)
	out, err := s.TryCommand("serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err == nil || !strings.Contains(out, s.Dir()) || !strings.Contains(out, "--data") {
		t.Errorf("the second server: %v\n%s", err, out)
	}
	await(t, ada.Device, ada.Say("still there?"), chat.TypeMessage)
	l := Ledger{Server: s, Phones: []*Phone{ada}}
	l.Close(t)
}

// TestAStopUnderLoadDrains: SIGTERM ends the process well and soon, phones are
// told, and nothing is lost.
func TestAStopUnderLoadDrains(t *testing.T) {
	onEngines(t, func(t *testing.T, setup Setup) {
		s := NewServer(t, setup)
		desk := s.HireDesk("bob", 50, ByMQTT, nil)
		s.Start()
		awaitDesks(t, s, desk)
		phones := crowd(s, 10, nil)
		stop := chatter(t, phones, 4)
		for range 3 {
			idle := wire.Open(t, s.MQTT(), hello(s, wire.V5, "idle", "phone"))
			<-time.After(300 * time.Millisecond) // some load
			began := time.Now()
			s.Stop()
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("stopping took %s", took)
			}
			if last := idle.Closed(wire.Patience); last.Code != 0x8b {
				t.Errorf("a phone was told %s, want DISCONNECT 0x8b", last)
			}
			s.Start()
		}
		stop()
		l := Ledger{Server: s, Phones: phones, Desks: []*Desk{desk}, Answered: true}
		l.Close(t)
	})
}

// TestASecondSignalKills a process that is still draining.
func TestASecondSignalKills(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	ada := s.Phone("ada", "phone", nil)
	begin(t, ada)
	address := strings.TrimPrefix(s.HTTP(), "http://")
	// A request that never ends its body keeps the HTTP server draining.
	slow, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := fmt.Fprintf(slow, "POST /api/v1/session HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", address); err != nil {
		t.Fatal(err)
	}
	await(t, ada.Device, ada.Say("the request is under way by now"), chat.TypeMessage)
	s.Signal(syscall.SIGTERM)
	Eventually(t, Patience, func() string { // red before anything stops, and it stays so
		r, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return ""
		}
		defer r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return "still ready after SIGTERM"
		}
		return ""
	})
	s.Signal(syscall.SIGTERM)
	began := time.Now()
	state := s.Ended(Patience)
	if state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %s, want by the second signal", state)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the second signal took %s", took)
	}
	s.Start()
	l := Ledger{Server: s, Phones: []*Phone{ada}}
	l.Close(t)
}

// TestAddressesAreWrittenAndGo: DATA/addresses.json tells where the server of
// this moment listens, and /readyz says whether it works.
func TestAddressesAreWritten(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	b, err := os.ReadFile(s.Dir() + "/addresses.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"mqtt"`, s.MQTT(), `"http"`, strings.TrimPrefix(s.HTTP(), "http://")} {
		if !strings.Contains(string(b), want) {
			t.Errorf("addresses.json lacks %s: %s", want, b)
		}
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 200, "/api/v1/openapi.json": 200, "/api/v1/conversations": 401} {
		r, err := http.Get(s.HTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("GET %s = %d, want %d", path, r.StatusCode, want)
		}
	}
	if v := s.Command("version"); !strings.HasPrefix(v, "holdline ") {
		t.Errorf("version prints %q", v)
	}
}
