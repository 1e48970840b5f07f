package mqtt

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// certificate is the one in use, and the files it came from. One goroutine
// reloads it, any may use it.
type certificate struct {
	certFile, keyFile string
	now               atomic.Pointer[tls.Certificate]
	seen              [2]version
}

// version is what tells one state of a file from another.
type version struct {
	modified time.Time
	bytes    int64
}

// reload reads the files when they have changed since they were last read well.
// After an error the old certificate stays in use, and the next call tries again: files are
// replaced one after the other.
func (c *certificate) reload() (changed bool, err error) {
	var seen [2]version
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return false, fmt.Errorf("certificate: %w", err)
		}
		seen[i] = version{info.ModTime(), info.Size()}
	}
	if c.now.Load() != nil && seen == c.seen {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.now.Store(&pair)
	c.seen = seen
	return true, nil
}
