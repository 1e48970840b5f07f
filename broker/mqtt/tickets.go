package mqtt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// A ticket key makes tickets for a day and reads them for two more; whoever
	// stole it learns nothing of the connections of TLS 1.3.
	ticketKeyAge  = 24 * time.Hour
	ticketKeyKeep = 3
)

// tickets are the keys that make and read session tickets, newest first. One
// goroutine renews them.
type tickets struct {
	file string // empty: they end with the process
	keys []ticketKey
}

type ticketKey struct {
	made time.Time
	key  [32]byte
}

// renew makes a new key when the newest is a day old, and returns all in use.
// The first call reads the file. Keys are good also when the error says that they
// could not be written.
func (t *tickets) renew(now time.Time) (keys [][32]byte, changed bool, err error) {
	if t.keys == nil && t.file != "" {
		if t.keys, err = readTickets(t.file); err != nil {
			return nil, false, err
		}
		changed = true
	}
	t.keys = t.recent(now)
	if len(t.keys) == 0 || now.Sub(t.keys[0].made) >= ticketKeyAge {
		fresh := ticketKey{made: now.UTC().Truncate(time.Second)}
		rand.Read(fresh.key[:])
		t.keys = append([]ticketKey{fresh}, t.keys[:min(len(t.keys), ticketKeyKeep-1)]...)
		changed = true
		if t.file != "" {
			err = writeTickets(t.file, t.keys)
		}
	}
	for _, k := range t.keys {
		keys = append(keys, k.key)
	}
	return keys, changed, err
}

// recent leaves out keys that are too old to be used, or from the future.
func (t *tickets) recent(now time.Time) (list []ticketKey) {
	for _, k := range t.keys {
		if age := now.Sub(k.made); age < ticketKeyKeep*ticketKeyAge && age > -ticketKeyAge && len(list) < ticketKeyKeep {
			list = append(list, k)
		}
	}
	return list
}

// readTickets reads lines of time and key. A file that is not there holds none.
func readTickets(file string) (keys []ticketKey, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session ticket keys: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		made, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		k := ticketKey{}
		raw, err := hex.DecodeString(key)
		if err == nil {
			k.made, err = time.Parse(time.RFC3339, made)
		}
		if err != nil || copy(k.key[:], raw) != len(k.key) || len(raw) != len(k.key) {
			return nil, fmt.Errorf("session ticket keys: %s cannot be read; remove it to have new ones made", file)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// writeTickets replaces the file in one step, whole and on disk.
func writeTickets(file string, keys []ticketKey) error {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s %x\n", k.made.Format(time.RFC3339), k.key)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("session ticket keys: %w", err)
	}
	_, err = tmp.WriteString(b.String())
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("session ticket keys: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
