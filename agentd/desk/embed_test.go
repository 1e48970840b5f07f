package desk

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var handler = Handler()

func get(t *testing.T, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// asset returns the path of the built file that index.html loads.
func asset(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindString(body(t, get(t, "GET", "/")))
	if m == "" {
		t.Fatalf("index.html loads nothing like %s", pattern)
	}
	return m
}

func TestPagesOfTheAppAreIndexAndAskedForAnew(t *testing.T) {
	index := body(t, get(t, "GET", "/index.html"))
	for _, p := range []string{"/", "/c/5c8f14e45fceea167a5a36dedd", "/some/later/page", "/c/%E2%82%AC"} {
		r := get(t, "GET", p)
		if r.StatusCode != 200 || body(t, r) != index {
			t.Errorf("%s: status %d, or not index.html", p, r.StatusCode)
		}
		if got := r.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s: Cache-Control %q", p, got)
		}
		if got := r.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: Content-Type %q", p, got)
		}
	}
}

func TestWhatIsNotThereIsNotIndex(t *testing.T) {
	for _, p := range []string{"/api/v1/nothing", "/api", "/mqtt", "/assets/gone-1234.js", "/assets/", "/favicon.ico", "/x/../../etc/passwd.txt", "/embed.go"} {
		r := get(t, "GET", p)
		if r.StatusCode != 404 || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, Cache-Control %q", p, r.StatusCode, r.Header.Get("Cache-Control"))
		}
	}
}

func TestAssetsAreKeptForEverWithTheirType(t *testing.T) {
	for pattern, kind := range map[string]string{
		`/assets/[^"]+\.js`:  "text/javascript; charset=utf-8",
		`/assets/[^"]+\.css`: "text/css; charset=utf-8",
	} {
		r := get(t, "GET", asset(t, pattern))
		if got := r.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", pattern, got)
		}
		if got := r.Header.Get("Content-Type"); got != kind {
			t.Errorf("%s: Content-Type %q, want %q", pattern, got, kind)
		}
	}
	// Not everything that has no hash in its name may be kept.
	if got := get(t, "GET", "/first-paint.js").Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("first-paint.js: Cache-Control %q", got)
	}
	files := read(dist)
	for name, f := range files {
		if f.kind == "" {
			t.Errorf("%s has no content type", name)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	for _, p := range []string{"/", "/assets/gone.js", asset(t, `/assets/[^"]+\.js`)} {
		h := get(t, "GET", "http://desk.example:8443"+p).Header
		for k, want := range map[string]string{
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy":        "same-origin",
			"X-Frame-Options":        "DENY",
		} {
			if h.Get(k) != want {
				t.Errorf("%s: %s is %q, want %q", p, k, h.Get(k), want)
			}
		}
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'self'", "connect-src 'self' ws://desk.example:8443 wss://desk.example:8443", "frame-ancestors 'none'", "object-src 'none'",
		} {
			if !slices.Contains(strings.Split(csp, "; "), want) {
				t.Errorf("%s: %q is not in %q", p, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "data:") || strings.Contains(csp, "HOST") {
			t.Errorf("%s: policy %q", p, csp)
		}
	}
}

func TestAHostThatIsNoneStaysOutOfThePolicy(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "a; script-src *"
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	csp := w.Header().Get("Content-Security-Policy")
	if strings.Contains(csp, "*") || !strings.Contains(csp, "connect-src 'self';") {
		t.Errorf("policy %q", csp)
	}
}

func TestThePageNeedsNothingInline(t *testing.T) {
	index := body(t, get(t, "GET", "/"))
	for _, bad := range []string{`<style`, ` style=`, `onload=`, `http://`, `https://`} {
		if strings.Contains(index, bad) {
			t.Errorf("index.html contains %q, which the policy forbids", bad)
		}
	}
	for _, m := range regexp.MustCompile(`<script[^>]*>`).FindAllString(index, -1) {
		if !strings.Contains(m, " src=") {
			t.Errorf("inline script: %s", m)
		}
	}
}

func TestOnlyGetAndHead(t *testing.T) {
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if r := get(t, m, "/"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: status %d, Allow %q", m, r.StatusCode, r.Header.Get("Allow"))
		}
	}
	full, head := get(t, "GET", "/"), get(t, "HEAD", "/")
	if head.StatusCode != 200 || body(t, head) != "" {
		t.Errorf("HEAD: status %d, or with a body", head.StatusCode)
	}
	for _, k := range []string{"Content-Length", "Content-Type", "Etag"} {
		if head.Header.Get(k) != full.Header.Get(k) || head.Header.Get(k) == "" {
			t.Errorf("HEAD: %s is %q, GET has %q", k, head.Header.Get(k), full.Header.Get(k))
		}
	}
}

func TestUnchangedIsNotSentAgain(t *testing.T) {
	first := get(t, "GET", "/")
	tag := first.Header.Get("ETag")
	for _, have := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		if r := get(t, "GET", "/", "If-None-Match", have); r.StatusCode != 304 || body(t, r) != "" {
			t.Errorf("If-None-Match %s: status %d", have, r.StatusCode)
		}
	}
	if r := get(t, "GET", "/", "If-None-Match", `"other"`); r.StatusCode != 200 {
		t.Errorf("another tag: status %d", r.StatusCode)
	}
}

func TestPackedForWhoUnderstandsIt(t *testing.T) {
	js := asset(t, `/assets/[^"]+\.js`)
	plain := body(t, get(t, "GET", js))
	r := get(t, "GET", js, "Accept-Encoding", "br, gzip;q=0.8")
	if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("Content-Encoding %q, Vary %q", r.Header.Get("Content-Encoding"), r.Header.Get("Vary"))
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || string(unpacked) != plain {
		t.Errorf("unpacked differs from plain: %v", err)
	}
	if a, b := r.Header.Get("ETag"), get(t, "GET", js).Header.Get("ETag"); a == b {
		t.Errorf("packed and plain share the tag %s", a)
	}
	for _, accept := range []string{"", "br", "gzip;q=0", "gzip; q=0.0"} {
		if got := get(t, "GET", js, "Accept-Encoding", accept).Header.Get("Content-Encoding"); got != "" {
			t.Errorf("Accept-Encoding %q: got %q", accept, got)
		}
	}
}

// TestDistIsBuiltFromTheSource compares the checksums that the build wrote
// (seal.mjs) with what is here. check.sh builds again and compares the bytes.
func TestDistIsBuiltFromTheSource(t *testing.T) {
	sealed, err := os.ReadFile("dist.sum")
	if err != nil {
		t.Fatal(err)
	}
	sources := sum(t, "", ".npmrc", "index.html", "package-lock.json", "package.json", "public", "src", "tsconfig.json", "vite.config.ts")
	got := fmt.Sprintf("sources %s\ndist %s\n", sources, sum(t, "dist/", "dist"))
	if got != string(sealed) {
		t.Errorf("dist is not built from this source; run: cd agentd/desk && npm ci && npm run build\ndist.sum:\n%shere:\n%s", sealed, got)
	}
}

func sum(t *testing.T, root string, paths ...string) string {
	t.Helper()
	var names []string
	for _, p := range paths {
		err := filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, filepath.ToSlash(p))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	h := sha256.New()
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%s\x00%d\x00", strings.TrimPrefix(n, root), len(b))
		_, _ = io.Copy(h, bytes.NewReader(b))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestTheLockNamesNoRegistryHost(t *testing.T) {
	b, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), `"resolved"`) {
		t.Error("package-lock.json contains resolved addresses; .npmrc should leave them out")
	}
}
