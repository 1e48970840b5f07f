package agentd_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdline/agentd"
	"holdline/chat"
)

func TestAPasswordIsKnownByItsHashOnly(t *testing.T) {
	hash := agentd.HashPassword("correct horse")
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash = %q, want PHC format with today's cost", hash)
	}
	if again := agentd.HashPassword("correct horse"); again == hash {
		t.Error("two hashes of one password are equal: no salt")
	}
	if ok, outdated, err := agentd.VerifyPassword(hash, "correct horse"); !ok || outdated || err != nil {
		t.Errorf("right password: %v, %v, %v", ok, outdated, err)
	}
	if ok, _, err := agentd.VerifyPassword(hash, "correct horsf"); ok || err != nil {
		t.Errorf("wrong password: %v, %v", ok, err)
	}
	if ok, _, err := agentd.VerifyPassword(hash, strings.Repeat("x", agentd.MaxPasswordBytes+1)); ok || err != nil {
		t.Errorf("endless password: %v, %v", ok, err)
	}
}

// The hash is a vector of the reference implementation's command line (argon2id,
// t=1, m=64, p=1, "password" with "somesalt"), so the format is understood
// beyond what we write ourselves.
func TestAHashMadeElsewhereVerifiesAndIsOutdated(t *testing.T) {
	const reference = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$ZVrRXqxlLcWfcXCnMyv0m4Rpvh/bnCi7"
	if ok, outdated, err := agentd.VerifyPassword(reference, "password"); !ok || !outdated || err != nil {
		t.Errorf("VerifyPassword = %v, outdated %v, %v; want it right and outdated", ok, outdated, err)
	}
}

func TestADamagedHashIsRefusedNotComputed(t *testing.T) {
	for _, hash := range []string{
		"", "x", "$argon2id$", "$2a$10$abcdefghijklmnopqrstuv",
		"$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", // 4 TiB
		"$argon2id$v=19$m=19456,t=0,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=19456,t=2000000,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=19456,t=2,p=0$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=19456,t=2,p=256$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$t=2,m=19456,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$!!!$AAAAAAAAAAAAAAAAAAAAAA",
	} {
		if ok, _, err := agentd.VerifyPassword(hash, "password"); ok || !errors.Is(err, chat.ErrInvalid) {
			t.Errorf("VerifyPassword(%q) = %v, %v; want ErrInvalid", hash, ok, err)
		}
	}
}

func TestThePasswordPolicyNamesEveryFault(t *testing.T) {
	for _, tt := range []struct {
		password string
		want     []string // parts of the error; none for a good one
	}{
		{"correct horse battery", nil},
		{"Gänsefüßchen", nil},
		{"eightchr", nil},
		{"sevenxx", []string{"shorter than 8"}},
		{"", []string{"shorter than 8"}},
		{"wi\x00th", []string{"control character", "shorter than 8"}},
		{"not\xffutf8 at all", []string{"UTF-8"}},
		{strings.Repeat("abcdefgh", 40), []string{"longer than 256 bytes"}},
	} {
		err := agentd.CheckPassword(tt.password)
		if tt.want == nil {
			if err != nil {
				t.Errorf("CheckPassword(%q) = %v, want nil", tt.password, err)
			}
			continue
		}
		if !errors.Is(err, chat.ErrInvalid) {
			t.Errorf("CheckPassword(%q) = %v, want ErrInvalid", tt.password, err)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("CheckPassword(%q) = %q, want it to say %q", tt.password, err, part)
			}
		}
		if tt.password != "" && strings.Contains(err.Error(), tt.password) {
			t.Errorf("the error repeats the password: %q", err)
		}
	}
}

func TestMadePasswordsPassThePolicy(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		p := agentd.NewPassword()
		if err := agentd.CheckPassword(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
		if len(p) != 23 || seen[p] {
			t.Errorf("%q: want 23 characters, new each time", p)
		}
		seen[p] = true
	}
}

func TestStaff(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	staff := agentd.Staff{Store: w.store, Journal: w.journal, By: "cli"}
	if err := staff.Add(ctx, agentd.Hire{ID: "ada", Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		hire agentd.Hire
		want error
	}{
		{"the id is taken", agentd.Hire{ID: "ada", Password: "correct horse"}, chat.ErrConflict},
		{"no id", agentd.Hire{Password: "correct horse"}, chat.ErrInvalid},
		{"a space at the end", agentd.Hire{ID: "bob ", Password: "correct horse"}, chat.ErrInvalid},
		{"a control character in the name", agentd.Hire{ID: "bob", Name: "B\x00b", Password: "correct horse"}, chat.ErrInvalid},
		{"a short password", agentd.Hire{ID: "bob", Password: "short"}, chat.ErrInvalid},
		{"no room for a negative number", agentd.Hire{ID: "bob", Password: "correct horse", Capacity: -1}, chat.ErrInvalid},
		{"more than anybody can hold", agentd.Hire{ID: "bob", Password: "correct horse", Capacity: 101}, chat.ErrInvalid},
	} {
		if err := staff.Add(ctx, tt.hire); !errors.Is(err, tt.want) {
			t.Errorf("%s: Add = %v, want %v", tt.name, err, tt.want)
		}
	}
	got, err := staff.List(ctx)
	want := []chat.Agent{{Tenant: "main", ID: "ada", Name: "ada", Intent: chat.Available, Capacity: chat.DefaultCapacity}}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("List (-want +got):\n%s", d)
	}
	if err := staff.SetPassword(ctx, "ada", "another horse"); err != nil {
		t.Fatal(err)
	}
	cred, err := w.store.Credential(ctx, key("ada"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := agentd.VerifyPassword(cred.PasswordHash, "another horse"); !ok || err != nil {
		t.Errorf("the new password is not the one that counts: %v, %v", ok, err)
	}
	if err := staff.SetPassword(ctx, "ada", "short"); !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("SetPassword short = %v, want ErrInvalid", err)
	}
	if err := staff.SetPassword(ctx, "eve", "correct horse"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("SetPassword of nobody = %v, want ErrNotFound", err)
	}
	if err := staff.Disable(ctx, "eve"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("Disable nobody = %v, want ErrNotFound", err)
	}
	if d := cmp.Diff([]string{"agent add", "agent password"}, w.audits("agent/ada")); d != "" {
		t.Errorf("audit (-want +got):\n%s", d)
	}
}
