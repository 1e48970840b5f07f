package main

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"holdline/broker/mqtt"
	"holdline/broker/token"
	"holdline/chat"
)

// setting is one thing an operator can set: as --name, as HOLDLINE_NAME or as
// name in the configuration file. The flag wins over the environment, that over
// the file, that over the default.
type setting struct {
	name     string
	fallback string // "" where the default depends on another setting
	doc      string
	secret   bool
}

// settings is everything that can be set, in the order `holdline check` prints it.
var settings = []setting{
	{name: "data", fallback: "data", doc: "directory for everything that is kept"},
	{name: "mqtt", fallback: "127.0.0.1:1883", doc: "address for MQTT; port 0 picks a free one"},
	{name: "mqtts", fallback: "127.0.0.1:8883", doc: "address for MQTT over TLS; off without tls-cert"},
	{name: "http", fallback: "127.0.0.1:8080", doc: "address for the desk, the API, MQTT over WebSocket, health and metrics"},
	{name: "storage", doc: "sqlite:FILE or postgres://… (default sqlite:DATA/holdline.db)"},
	{name: "journal", doc: "pebble:DIR (default pebble:DATA/journal)"},
	{name: "blobs", doc: "file:DIR (default file:DATA/blobs)"},
	{name: "allow-anonymous", fallback: "false", doc: "let clients without credentials use plain topics; loopback only"},
	{name: "token-secret", doc: "HS256 secret of the host application's tokens, at least 32 bytes", secret: true},
	{name: "token-key", doc: "file with the host application's Ed25519 public key (PEM)"},
	{name: "tls-cert", doc: "certificate for mqtts with its chain (PEM); replaced files are taken up by themselves"},
	{name: "tls-key", doc: "its private key (PEM)"},
	{name: "tls-min", fallback: "1.3", doc: "oldest TLS that is spoken: 1.3 or 1.2"},
	{name: "origins", doc: "further web origins that may open MQTT over WebSocket, comma-separated"},
	{name: "secure-cookies", fallback: "false", doc: "set when the desk is reached by https, through a proxy"},
	{name: "grace", fallback: "45s", doc: "how long an agent whose sessions are gone keeps the conversations"},
	{name: "min-free", fallback: "256MB", doc: "free disk space below which nothing more is accepted"},
	{name: "retention", fallback: "336h", doc: "how long the journal is kept, and so the longest a session can be away"},
	{name: "accept-rate", fallback: "2000/2000", doc: "connections a second, all together, and at once; or off, as with every rate"},
	{name: "connect-rate", doc: "connects of one client (default 1/5; off while all listeners are on loopback, as the rest of these)"},
	{name: "failed-rate-ipv4", fallback: "200/200", doc: "refused connects of one IPv4 address"},
	{name: "failed-rate-ipv6", fallback: "20/20", doc: "refused connects of one IPv6 network (/64)"},
	{name: "takeovers", doc: "how often in a minute a session may be taken over; 0 for any number (default 15)"},
	{name: "rate-customer", doc: "publishes of a customer's connection (default 2/20)"},
	{name: "rate-agent", doc: "publishes of an agent's connection (default 20/100)"},
	{name: "rate-device", doc: "publishes of a field device's connection (default 5/50)"},
	{name: "debug", doc: "loopback address for profiles (net/http/pprof); off when empty"},
	{name: "log", fallback: "info", doc: "debug, info, warn or error"},
}

const configDoc = "configuration file, TOML (default DATA/holdline.toml when there is one)"

// Config is the effective configuration, checked.
type Config struct {
	Data           string // absolute
	MQTT, HTTP     string
	Debug          string   // empty for none
	TLS            mqtt.TLS // without an Addr when there is no certificate
	Storage        engineURL
	Journal        engineURL
	Blobs          engineURL
	AllowAnonymous bool
	TokenSecret    []byte
	TokenKey       ed25519.PublicKey
	Origins        []string
	SecureCookies  bool
	Admission      mqtt.Admission
	Grace          time.Duration
	MinFreeBytes   uint64
	Retention      time.Duration
	LogLevel       slog.Level

	effective []effective
}

// engineURL chooses an engine by its scheme: "sqlite:FILE" or "postgres://…".
type engineURL struct {
	Scheme string
	Path   string // absolute, for engines on this machine
	URL    string // as it was given, for engines elsewhere
}

// effective is one setting as it came out, for `holdline check`.
type effective struct {
	setting
	value, source string
}

// loadConfig reads the flags in args (which may stand between other
// arguments), the environment and the file. rest is what was no flag. The error
// holds every fault, not only the first.
func loadConfig(name string, args []string, getenv func(string) string, extra func(*flag.FlagSet)) (c Config, rest []string, err error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	given := map[string]string{}
	for _, s := range settings {
		set := func(v string) error { given[s.name] = v; return nil }
		if s.name == "allow-anonymous" || s.name == "secure-cookies" {
			fs.BoolFunc(s.name, s.doc, set)
		} else {
			fs.Func(s.name, s.doc, set)
		}
	}
	file := fs.String("config", getenv("HOLDLINE_CONFIG"), configDoc)
	if extra != nil {
		extra(fs)
	}
	if rest, err = parseInterleaved(fs, args); errors.Is(err, flag.ErrHelp) {
		return Config{}, nil, err
	} else if err != nil {
		return Config{}, nil, fmt.Errorf("%s: %w; see holdline help\n%w", name, err, errUsage)
	}

	var faults []error
	data := firstOf(given["data"], getenv("HOLDLINE_DATA"))
	if *file == "" {
		if usual := filepath.Join(firstOf(data, "data"), "holdline.toml"); exists(usual) {
			*file = usual
		}
	}
	inFile := map[string]any{}
	if *file != "" {
		if _, err := toml.DecodeFile(*file, &inFile); err != nil {
			faults = append(faults, fmt.Errorf("configuration file: %w", err))
		}
	}
	raw := map[string]string{}
	for _, s := range settings {
		e := effective{setting: s, value: s.fallback, source: "default"}
		if v, ok := inFile[s.name]; ok {
			e.value, e.source = fmt.Sprint(v), *file
			delete(inFile, s.name)
		}
		env := "HOLDLINE_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
		if v := getenv(env); v != "" {
			e.value, e.source = v, env
		}
		if v, ok := given[s.name]; ok {
			e.value, e.source = v, "--"+s.name
		}
		raw[s.name] = e.value
		c.effective = append(c.effective, e)
	}
	for k := range inFile {
		faults = append(faults, fmt.Errorf("%s: %q is not a setting", *file, k))
	}
	faults = append(faults, c.take(raw)...)
	return c, rest, errors.Join(faults...)
}

// take parses every value and collects what is wrong.
func (c *Config) take(raw map[string]string) (faults []error) {
	fault := func(name, format string, a ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, a...)))
	}
	var err error
	if c.Data, err = filepath.Abs(raw["data"]); err != nil || raw["data"] == "" {
		fault("data", "%q is not a directory name", raw["data"])
	}
	c.MQTT, c.HTTP = raw["mqtt"], raw["http"]
	for _, name := range []string{"mqtt", "mqtts", "http"} {
		if _, port, err := net.SplitHostPort(raw[name]); err != nil {
			fault(name, "%q is not an address; write HOST:PORT", raw[name])
		} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			fault(name, "%q: the port is not a number from 0 to 65535", raw[name])
		}
	}
	if c.Debug = raw["debug"]; c.Debug != "" && !isLoopback(c.Debug) {
		fault("debug", "%q is not a loopback address; write 127.0.0.1:PORT", c.Debug)
	}
	c.takeTLS(raw, fault)
	c.Storage = c.engine("storage", raw, "sqlite", "holdline.db", []string{"sqlite", "postgres", "postgresql"}, nil, fault)
	c.Journal = c.engine("journal", raw, "pebble", "journal", []string{"pebble"}, []string{"nats"}, fault)
	c.Blobs = c.engine("blobs", raw, "file", "blobs", []string{"file"}, []string{"s3"}, fault)
	for name, to := range map[string]*bool{"allow-anonymous": &c.AllowAnonymous, "secure-cookies": &c.SecureCookies} {
		if *to, err = strconv.ParseBool(raw[name]); err != nil {
			fault(name, "%q is not true or false", raw[name])
		}
	}
	if c.AllowAnonymous && !isLoopback(c.MQTT) {
		fault("allow-anonymous", "is for loopback addresses only, and mqtt is %s", c.MQTT)
	}
	if c.AllowAnonymous && !isLoopback(c.HTTP) {
		fault("allow-anonymous", "is for loopback addresses only, and http is %s", c.HTTP)
	}
	if s := raw["token-secret"]; s != "" {
		if c.TokenSecret = []byte(s); len(s) < token.MinKeyBytes {
			fault("token-secret", "has %d bytes, at least %d are needed", len(s), token.MinKeyBytes)
		}
	}
	if f := raw["token-key"]; f != "" {
		if c.TokenKey, err = readPublicKey(f); err != nil {
			fault("token-key", "%v", err)
		}
	}
	for o := range strings.SplitSeq(raw["origins"], ",") {
		if o = strings.TrimSpace(o); o == "" {
			continue
		}
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
			fault("origins", "%q is not an origin; write https://HOST", o)
		}
		c.Origins = append(c.Origins, o)
	}
	for name, to := range map[string]*time.Duration{"grace": &c.Grace, "retention": &c.Retention} {
		if *to, err = time.ParseDuration(raw[name]); err != nil || *to <= 0 {
			fault(name, "%q is not a duration; write 45s, 10m or 336h", raw[name])
		}
	}
	c.takeAdmission(raw, fault)
	if c.MinFreeBytes, err = parseBytes(raw["min-free"]); err != nil {
		fault("min-free", "%v", err)
	}
	if err := c.LogLevel.UnmarshalText([]byte(raw["log"])); err != nil {
		fault("log", "%q is not debug, info, warn or error", raw["log"])
	}
	return faults
}

// takeTLS reads the settings of MQTT over TLS.
func (c *Config) takeTLS(raw map[string]string, fault func(string, string, ...any)) {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	lowest, ok := versions[raw["tls-min"]]
	if !ok {
		fault("tls-min", "%q is not 1.3 or 1.2", raw["tls-min"])
	}
	cert, key := raw["tls-cert"], raw["tls-key"]
	switch {
	case cert == "" && key == "":
		return
	case cert == "":
		fault("tls-cert", "is missing, and tls-key is set")
		return
	case key == "":
		fault("tls-key", "is missing, and tls-cert is set")
		return
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		fault("tls-cert", "%v", err)
	}
	c.TLS = mqtt.TLS{
		Addr: raw["mqtts"], CertFile: cert, KeyFile: key, MinVersion: lowest,
		TicketFile: filepath.Join(c.Data, "tickets.key"),
	}
}

// forPhones are the defaults of what one client may do, once clients come from
// other machines. On loopback they are programs, scripts and tests.
var forPhones = map[string]string{
	"connect-rate": "1/5", "takeovers": "15", "rate-customer": "2/20", "rate-agent": "20/100", "rate-device": "5/50",
}

// takeAdmission reads the limits of how fast clients come in and speak.
func (c *Config) takeAdmission(raw map[string]string, fault func(string, string, ...any)) {
	alone := isLoopback(c.MQTT) && isLoopback(c.HTTP) && (c.TLS.Addr == "" || isLoopback(c.TLS.Addr))
	for name, limit := range forPhones {
		if raw[name] != "" {
			continue
		}
		switch {
		case !alone:
			raw[name] = limit
		case name == "takeovers":
			raw[name] = "0"
		default:
			raw[name] = "off"
		}
		c.setEffective(name, raw[name])
	}
	rate := func(name string) mqtt.Rate {
		r, err := mqtt.ParseRate(raw[name])
		if err != nil {
			fault(name, "%v", err)
		}
		return r
	}
	c.Admission = mqtt.Admission{
		Accept: rate("accept-rate"), Connect: rate("connect-rate"),
		FailedIPv4: rate("failed-rate-ipv4"), FailedIPv6: rate("failed-rate-ipv6"),
		Publish: map[chat.Role]mqtt.Rate{
			chat.Customer: rate("rate-customer"), chat.AgentRole: rate("rate-agent"), chat.Device: rate("rate-device"),
		},
	}
	var err error
	if c.Admission.Takeovers, err = strconv.Atoi(raw["takeovers"]); err != nil || c.Admission.Takeovers < 0 || c.Admission.Takeovers > 1000 {
		fault("takeovers", "%q is not a number from 0 to 1000", raw["takeovers"])
	}
}

// engine reads the setting that chooses an engine. later are schemes that the
// design knows and this version does not.
func (c *Config) engine(name string, raw map[string]string, scheme, file string, known, later []string, fault func(string, string, ...any)) engineURL {
	v := raw[name]
	if v == "" {
		v = scheme + ":" + filepath.Join(c.Data, file)
		c.setEffective(name, v)
	}
	got, path, ok := strings.Cut(v, ":")
	for _, s := range later {
		if got == s {
			fault(name, "%s:// is not part of this version; use %s:…", s, scheme)
			return engineURL{}
		}
	}
	for _, s := range known {
		if !ok || got != s {
			continue
		}
		if strings.HasPrefix(s, "postgres") {
			if u, err := url.Parse(v); err != nil || u.Host == "" && u.Query().Get("host") == "" {
				fault(name, "not a Postgres URL; write postgres://USER:PASSWORD@HOST/DATABASE")
			}
			return engineURL{Scheme: "postgres", URL: v}
		}
		path = strings.TrimPrefix(path, "//")
		abs, err := filepath.Abs(path)
		if err != nil || path == "" {
			fault(name, "%q names no path", v)
		}
		return engineURL{Scheme: s, Path: abs}
	}
	fault(name, "%q: the scheme is not one of %s", mask(v), strings.Join(known, ", "))
	return engineURL{}
}

// setEffective shows a default that depends on other settings.
func (c *Config) setEffective(name, value string) {
	for i := range c.effective {
		if c.effective[i].name == name {
			c.effective[i].value = value
		}
	}
}

// parseInterleaved parses flags wherever they stand among the arguments.
func parseInterleaved(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if args = fs.Args(); len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func readPublicKey(file string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", file)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	pub, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an Ed25519 public key", file, k)
	}
	return pub, nil
}

func parseBytes(s string) (uint64, error) {
	units := []struct {
		suffix string
		n      uint64
	}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"", 1}}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(strings.ToUpper(s), u.suffix); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 40)
			if err != nil {
				return 0, fmt.Errorf("%q is not a size; write 256MB or 2GB", s)
			}
			return n * u.n, nil
		}
	}
	return 0, nil
}

// mask hides what must not be shown of a value: the passwords in a URL.
func mask(v string) string {
	const hidden = "xxxxx"
	u, err := url.Parse(v)
	if err != nil { // a password with a stray character, say: show where it leads
		scheme, rest, ok := strings.Cut(v, "://")
		if at := strings.LastIndex(rest, "@"); ok && at >= 0 {
			return scheme + "://" + hidden + rest[at:]
		}
		return v
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), hidden)
		v = u.String()
	}
	query, found := u.Query(), false
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, hidden)
			found = true
		}
	}
	if found {
		u.RawQuery = query.Encode()
		return u.String()
	}
	return v
}

// show prints the effective settings with their sources, secrets masked.
func (c Config) show(w io.Writer) {
	for _, e := range c.effective {
		v := mask(e.value)
		if e.secret && v != "" {
			v = "(set)"
		}
		if v == "" {
			v = "-"
		}
		fmt.Fprintf(w, "%-16s %-44s %s\n", e.name, v, e.source)
	}
}

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
