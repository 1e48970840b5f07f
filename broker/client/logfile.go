package client

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"holdline/chat"
)

// record is one line of the log: one change of the state. Exactly one of its
// parts is set.
type record struct {
	// Owner begins the file: whose state it is, and where the count stands.
	Owner string `json:"owner,omitempty"`
	Next  uint64 `json:"next,omitempty"`

	Put   *item  `json:"put,omitempty"`
	Acked uint64 `json:"acked,omitempty"` // item N is acknowledged
	Anew  bool   `json:"anew,omitempty"`  // all acknowledged items are to be sent again
	Done  uint64 `json:"done,omitempty"`  // item N is settled

	Inbox string       `json:"inbox,omitempty"`
	Event chat.EventID `json:"event,omitempty"` // the last event of Inbox; empty to forget
}

const (
	logName  = "state.log"
	lockName = "lock"
	// compactBytes is the size up to which a log is never rewritten.
	compactBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logFile is an append-only file of records, one JSON line each behind its
// checksum. What is after the first line that is not whole was never promised
// to anybody, and is cut off when the file is opened.
type logFile struct {
	path string
	lock *os.File
	f    *os.File
	size int64
	base int64 // the size after the last rewriting
}

// openLog opens or creates the log in dir and hands its records to take. cut is
// how many bytes of a torn end were dropped.
func openLog(dir string, take func(record) error) (l *logFile, cut int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, 0, fmt.Errorf("%s is in use by another process: %w", dir, err)
	}
	l = &logFile{path: filepath.Join(dir, logName), lock: lock}
	if l.f, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, 0, errors.Join(err, lock.Close())
	}
	if l.size, err = readRecords(l.f, take); err != nil {
		return nil, 0, errors.Join(err, l.Close())
	}
	end, err := l.f.Seek(0, io.SeekEnd)
	if cut = end - l.size; err == nil && cut > 0 {
		err = l.f.Truncate(l.size)
	}
	if err != nil {
		return nil, 0, errors.Join(err, l.Close())
	}
	l.base = l.size
	return l, cut, syncDir(dir)
}

// readRecords returns how far the file is whole.
func readRecords(r io.Reader, take func(record) error) (good int64, err error) {
	for b := bufio.NewReader(r); ; {
		line, err := b.ReadBytes('\n')
		if err == io.EOF {
			return good, nil // without a newline it is torn
		}
		if err != nil {
			return good, err
		}
		rec, ok := decodeRecord(line)
		if !ok {
			return good, nil
		}
		if err := take(rec); err != nil {
			return good, err
		}
		good += int64(len(line))
	}
}

func encodeRecord(b *bytes.Buffer, r record) {
	body, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("client: record does not marshal: %v", err)) // strings, bytes and numbers only: cannot happen
	}
	fmt.Fprintf(b, "%08x %s\n", crc32.Checksum(body, castagnoli), body)
}

func decodeRecord(line []byte) (r record, ok bool) {
	sum, body, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	want, err := hex.DecodeString(string(sum))
	if !found || err != nil || len(want) != 4 {
		return record{}, false
	}
	if got := crc32.Checksum(body, castagnoli); !bytes.Equal(want, []byte{byte(got >> 24), byte(got >> 16), byte(got >> 8), byte(got)}) {
		return record{}, false
	}
	return r, json.Unmarshal(body, &r) == nil
}

// errSync is a sync that failed: what is on disk is unknown, and asking again
// would be told that all is well.
var errSync = errors.New("sync failed; the state must be opened anew")

// append writes records in one piece, and to the disk when sync is true. When
// it fails nothing was written, or the error wraps errSync.
func (l *logFile) append(sync bool, recs ...record) error {
	var b bytes.Buffer
	for _, r := range recs {
		encodeRecord(&b, r)
	}
	if _, err := l.f.Write(b.Bytes()); err != nil {
		if undo := l.f.Truncate(l.size); undo != nil {
			return fmt.Errorf("%w: %w, and undoing it: %w", errSync, err, undo)
		}
		return err // a full disk: nothing of it stays
	}
	l.size += int64(b.Len())
	if sync {
		if err := l.f.Sync(); err != nil {
			return fmt.Errorf("%w: %w", errSync, err)
		}
	}
	return nil
}

// grown reports whether rewriting would pay.
func (l *logFile) grown() bool { return l.size > max(compactBytes, 4*l.base) }

// rewrite replaces the file by these records, whole or not at all.
func (l *logFile) rewrite(recs []record) error {
	var b bytes.Buffer
	for _, r := range recs {
		encodeRecord(&b, r)
	}
	tmp := l.path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b.Bytes()); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, l.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	old := l.f
	l.f, l.size, l.base = f, int64(b.Len()), int64(b.Len())
	_ = old.Close() // it has no name any more
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

// Close gives the directory free.
func (l *logFile) Close() error { return errors.Join(l.f.Close(), l.lock.Close()) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
