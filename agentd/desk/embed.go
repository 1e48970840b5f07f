// Package desk is the agents' web app: its source, and the built files that
// the program carries.
//
// Handler serves them from memory, so Go alone builds and runs the product.
// Files under /assets/ carry a hash in their name and may be kept for ever;
// every page of the app is the same index.html, asked for anew each time. The
// content security policy allows this origin only, no inline script and no inline style.
//
// It knows nothing of conversations: the app talks to the API and the broker
// of the origin that served it.
package desk

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// dist is what `npm run build` makes; desk_test.go and check.sh hold it to the source.
//
//go:embed all:dist
var dist embed.FS

// policy is the content security policy. HOST becomes the host the page was
// asked from: not every browser takes 'self' to include its WebSockets.
const policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; worker-src 'self'; " +
	"connect-src 'self' ws://HOST wss://HOST; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// types are written down because the machine's own table may lack or change them.
var types = map[string]string{
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
	".md":    "text/markdown; charset=utf-8",
}

// file is one built file, ready to be sent.
type file struct {
	body    []byte
	gzipped []byte // nil where it would not be smaller
	kind    string
	tag     string
}

// Handler serves the app. Paths of the app's own pages get index.html; what
// belongs to the API or looks like a file that is not there gets 404.
func Handler() http.Handler {
	load := sync.OnceValue(func() map[string]file { return read(dist) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header(), r.Host)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		files := load()
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		f, ok := files[name]
		if !ok && isPage(name) {
			name = "index.html"
			f, ok = files[name]
		}
		if !ok {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		send(w, r, name, f)
	})
}

// isPage reports whether a path is one the app itself makes sense of.
func isPage(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return path.Ext(name) == "" && first != "api" && first != "mqtt" && first != "assets"
}

func secure(h http.Header, host string) {
	p := strings.ReplaceAll(policy, "HOST", host)
	if !plainHost(host) { // it goes into a header: leave out what does not look like a host
		p = strings.ReplaceAll(policy, " ws://HOST wss://HOST", "")
	}
	h.Set("Content-Security-Policy", p)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}

func plainHost(host string) bool {
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") == ""
}

func send(w http.ResponseWriter, r *http.Request, name string, f file) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	if strings.HasPrefix(name, "assets/") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	body, tag := f.body, f.tag
	if f.gzipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body, tag = f.gzipped, f.tag+"-gzip"
	}
	tag = `"` + tag + `"`
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Type")
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the reader went away: nobody to tell
	}
}

// matches reports whether one of the tags a browser has is tag, weak or not.
func matches(have, tag string) bool {
	for t := range strings.SplitSeq(have, ",") {
		if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}

// acceptsGzip takes the absence of a "q=0" for a yes, as every browser means it.
func acceptsGzip(accept string) bool {
	for e := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(e), ";")
		if strings.TrimSpace(name) == "gzip" {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// read takes all files of a build into memory, once.
func read(fsys fs.FS) map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(fsys, "dist", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f := file{body: body, tag: hex.EncodeToString(sum[:12]), kind: types[path.Ext(p)]}
		if f.kind == "" {
			f.kind = mime.TypeByExtension(path.Ext(p))
		}
		if path.Ext(p) != ".woff2" { // those are packed already
			if z := pack(body); len(z) < len(body) {
				f.gzipped = z
			}
		}
		files[strings.TrimPrefix(p, "dist/")] = f
		return nil
	})
	if err != nil {
		panic(err) // the files are in the program: cannot happen
	}
	return files
}

func pack(body []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // only for levels that do not exist
	}
	_, _ = z.Write(body) // into memory: cannot fail
	_ = z.Close()
	return b.Bytes()
}
