package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdline/broker/mqtt"
	"holdline/chat"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "holdline.toml")
	if err := os.WriteFile(file, []byte("mqtt = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\ngrace = \"1m\"\nallow-anonymous = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, rest, err := loadConfig("serve", []string{"a", "--mqtt", "127.0.0.1:3", "b", "--data=" + dir},
		env(map[string]string{"HOLDLINE_MQTT": "127.0.0.1:4", "HOLDLINE_HTTP": "127.0.0.1:5"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.MQTT != "127.0.0.1:3" || c.HTTP != "127.0.0.1:5" || c.Grace.String() != "1m0s" || !c.AllowAnonymous || c.LogLevel != 0 {
		t.Errorf("got mqtt %s (flag), http %s (environment), grace %s and anonymous %t (file)", c.MQTT, c.HTTP, c.Grace, c.AllowAnonymous)
	}
	if strings.Join(rest, " ") != "a b" {
		t.Errorf("rest = %q", rest)
	}
	if want := filepath.Join(dir, "holdline.db"); c.Storage.Path != want || c.Storage.Scheme != "sqlite" {
		t.Errorf("storage = %+v, want sqlite %s", c.Storage, want)
	}
}

func TestDefaultsWork(t *testing.T) {
	c, _, err := loadConfig("serve", nil, env(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Grace != chat.Grace {
		t.Errorf("grace = %s, the rule says %s", c.Grace, chat.Grace)
	}
	if !isLoopback(c.MQTT) || !isLoopback(c.HTTP) {
		t.Errorf("the defaults listen on %s and %s, want loopback", c.MQTT, c.HTTP)
	}
}

func TestTheDefaultsOfAdmissionAreThoseOfItsPackage(t *testing.T) {
	c, _, err := loadConfig("serve", []string{"--mqtt", "0.0.0.0:1883"}, env(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(mqtt.DefaultAdmission(), c.Admission); d != "" {
		t.Error(d)
	}
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, _, err := loadConfig("serve", []string{
		"--mqtt", "nonsense", "--http", "0.0.0.0:99999", "--storage", "mysql://x", "--journal", "nats://a,b", "--blobs", "s3://bucket",
		"--token-secret", "short", "--token-key", "/nonexistent/key.pem", "--origins", "example.org", "--grace", "soon",
		"--mqtts", "8883", "--tls-cert", "/nonexistent/cert.pem", "--tls-min", "1.1",
		"--accept-rate", "0/1", "--connect-rate", "many", "--failed-rate-ipv4", "1", "--failed-rate-ipv6", "1/0", "--takeovers", "-1",
		"--rate-customer", "2/x", "--rate-agent", "inf/1", "--rate-device", "fast",
		"--min-free", "lots", "--retention", "-1h", "--log", "loud",
	}, env(map[string]string{"HOLDLINE_ALLOW_ANONYMOUS": "perhaps"}), nil)
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, name := range []string{"mqtt", "mqtts", "tls-key", "tls-min", "accept-rate", "connect-rate", "failed-rate-ipv4",
		"failed-rate-ipv6", "takeovers", "rate-customer", "rate-agent", "rate-device", "http", "storage", "journal", "blobs", "token-secret", "token-key", "origins", "grace", "min-free", "retention", "log", "allow-anonymous"} {
		if !strings.Contains("\n"+err.Error(), "\n"+name+": ") {
			t.Errorf("the fault of %s is not reported:\n%v", name, err)
		}
	}
}

func TestUnknownSettingsAreFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(file, []byte("mqqt = \"127.0.0.1:1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := loadConfig("serve", []string{"--config", file}, env(nil), nil); err == nil || !strings.Contains(err.Error(), `"mqqt" is not a setting`) {
		t.Errorf("in the file: %v", err)
	}
	if _, _, err := loadConfig("serve", []string{"--mqqt", "x"}, env(nil), nil); err == nil {
		t.Error("as a flag: no fault")
	}
}

func TestAnonymousIsForLoopbackOnly(t *testing.T) {
	for addr, ok := range map[string]bool{"127.0.0.1:0": true, "localhost:1883": true, "[::1]:1883": true, "0.0.0.0:1883": false, ":1883": false, "192.0.2.1:1883": false} {
		_, _, err := loadConfig("serve", []string{"--allow-anonymous", "--mqtt", addr}, env(nil), nil)
		if (err == nil) != ok {
			t.Errorf("allow-anonymous on %s: %v, want ok %t", addr, err, ok)
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	secret := strings.Repeat("s3cret", 8)
	c, _, err := loadConfig("check", []string{"--token-secret", secret, "--storage", "postgres://holdline:hunter2@db/holdline"}, env(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c.show(&b)
	if s := b.String(); strings.Contains(s, secret) || strings.Contains(s, "hunter2") || !strings.Contains(s, "(set)") || !strings.Contains(s, "--token-secret") {
		t.Errorf("check shows:\n%s", s)
	}
}

func TestHostKeyIsReadFromPEM(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := loadConfig("serve", []string{"--token-key", file}, env(nil), nil)
	if err != nil || !c.TokenKey.Equal(pub) {
		t.Errorf("token-key: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]uint64{"1": 1, "2KB": 2048, "256MB": 256 << 20, "1gb": 1 << 30, "0": 0} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("parseBytes(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "MB", "-1", "1.5GB", "1TBx"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("parseBytes(%q) = %d, want an error", s, got)
		}
	}
}

func TestFlagsOfACommandStandAnywhere(t *testing.T) {
	var device string
	_, rest, err := loadConfig("token", []string{"customer", "ada", "--device", "phone-1"}, env(nil), func(fs *flag.FlagSet) {
		fs.StringVar(&device, "device", "", "")
	})
	if err != nil || device != "phone-1" || len(rest) != 2 {
		t.Errorf("device %q, rest %q, %v", device, rest, err)
	}
}

func TestKeysAreMadeOnceAndStay(t *testing.T) {
	dir := t.TempDir()
	a, err := loadSecret(dir, "token.key", 32)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadSecret(dir, "token.key", 32)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("second read differs: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "token.key")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("token.key: %v, %v; want mode 0600", fi.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token.key"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSecret(dir, "token.key", 32); err == nil {
		t.Error("a damaged key was accepted or replaced")
	}
}

func TestOneProcessServesADataDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "another holdline is serving") {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := lockData(dir)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	again()
}

func TestLimitsOfOneClientAreForOtherMachines(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"on loopback", nil, "off"},
		{"phones come in", []string{"--mqtt", "0.0.0.0:1883"}, "2/20"},
		{"desks come in", []string{"--http", "0.0.0.0:8080"}, "2/20"},
		{"as it was said", []string{"--rate-customer", "7/9"}, "7/9"},
	} {
		c, _, err := loadConfig("check", tt.args, env(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := mqtt.ParseRate(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Admission.Publish[chat.Customer]; got != want {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
		var b bytes.Buffer
		c.show(&b)
		if !strings.Contains(b.String(), tt.want) {
			t.Errorf("%s: check does not show %s", tt.name, tt.want)
		}
	}
}
