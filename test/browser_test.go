package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAShiftInTheBrowser: two agents in real browsers and ten customers hold
// conversations at once, over links that are cut; each side sees the same.
// Screenshots go to test/artifacts/shift when HOLDLINE_SHOTS is set.
func TestAShiftInTheBrowser(t *testing.T) {
	script, err := filepath.Abs("../agentd/desk/test/shift.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("../agentd/desk/node_modules"); err != nil {
		const what = "the desk's node modules are not installed: make test does it (npm ci in agentd/desk)"
		if os.Getenv("CI") != "" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	s := Start(t, Setup{})
	agents := []string{"ann", "ben"}
	var passwords, tokens []string
	for _, a := range agents {
		s.Command("agent", "add", a, "--display", strings.ToUpper(a[:1])+a[1:], "--password", passwordOf(a))
		passwords = append(passwords, passwordOf(a))
	}
	for n := range 10 {
		tokens = append(tokens, strings.TrimSpace(s.Command("token", "customer", fmt.Sprintf("customer-%d", n), "--device", "phone")))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	shift := exec.CommandContext(ctx, "node", script)
	shift.Dir = filepath.Dir(filepath.Dir(script))
	shift.Env = append(os.Environ(),
		"DESK_URL="+s.HTTP(), "DESK_AGENT="+strings.Join(agents, ","), "DESK_PASSWORD="+strings.Join(passwords, ","),
		"DESK_TOKENS="+strings.Join(tokens, ","), "DESK_TIMEOUT=60000")
	if os.Getenv("HOLDLINE_SHOTS") != "" {
		dir, err := filepath.Abs("artifacts/shift")
		if err != nil {
			t.Fatal(err)
		}
		shift.Env = append(shift.Env, "DESK_SHOTS="+dir)
	}
	out, err := shift.CombinedOutput()
	if err != nil {
		t.Fatalf("the shift failed: %v\n%s\nserver:\n%s", err, out, s.Log())
	}
	t.Logf("%s", out)
}
