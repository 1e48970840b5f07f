package test

import (
	"strings"
	"testing"
)

// TestOperatorsSeeSessionsAndEndThem by command, beside the running server.
func TestOperatorsSeeSessionsAndEndThem(t *testing.T) {
	t.Parallel()
	s := Start(t, Setup{})
	ada := s.Phone("ada", "phone-1", nil)
	begin(t, ada)
	const name = "main/customer/ada/phone-1"
	if out := s.Command("sessions", "list"); !strings.Contains(out, name+"  online") {
		t.Errorf("list prints\n%s", out)
	}
	if out := s.Command("sessions", "show", name); !strings.Contains(out, `"down/#"`) {
		t.Errorf("show prints\n%s", out)
	}
	if out := s.Command("sessions", "kick", name, "--forget"); out != "done" {
		t.Errorf("kick prints %q", out)
	}
	if out, err := s.TryCommand("sessions", "show", "main/customer/ada/phone-2"); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("show of nothing: %v, %s", err, out)
	}
	s.Stop()
	if out, err := s.TryCommand("sessions", "list"); err == nil || !strings.Contains(out, "no holdline is serving") && !strings.Contains(out, "does not answer") {
		t.Errorf("without a server: %v, %s", err, out)
	}
}
