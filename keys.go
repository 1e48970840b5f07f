package main

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdline/broker/token"
)

// loadSecret reads a hex secret of n bytes from a file in the data directory,
// and makes it on first use. Two processes that start at once agree: the file
// appears whole or not at all, and the first one stays.
func loadSecret(dataDir, name string, n int) ([]byte, error) {
	file := filepath.Join(dataDir, name)
	for range 2 {
		b, err := os.ReadFile(file)
		if err == nil {
			key, err := hex.DecodeString(strings.TrimSpace(string(b)))
			if err != nil || len(key) != n {
				return nil, fmt.Errorf("%s does not hold %d hex bytes; restore it, or remove it to make a new one", file, n)
			}
			return key, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := os.MkdirAll(dataDir, 0o700); err != nil {
			return nil, err
		}
		key := make([]byte, n)
		rand.Read(key)
		if err := writeNew(file, []byte(hex.EncodeToString(key)+"\n")); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s cannot be made", file)
}

// writeNew makes a file with content that is whole and on disk, or returns
// os.ErrExist when there is one already.
func writeNew(file string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Link(tmp.Name(), file)
}

// loadKeys are the keys of a data directory alone, without the host application's.
func loadKeys(dataDir string) (*token.Keys, error) { return Config{Data: dataDir}.keys() }

// keys are what tokens are checked with and issued by.
func (c Config) keys() (*token.Keys, error) {
	own, err := loadSecret(c.Data, "token.key", token.MinKeyBytes)
	if err != nil {
		return nil, err
	}
	return token.NewKeys(own, c.TokenSecret, c.TokenKey)
}

// cookieKey signs the desk's cookies. It derives from the token key but is not
// it, so that a cookie is never a token nor the other way round.
func (c Config) cookieKey() ([]byte, error) {
	own, err := loadSecret(c.Data, "token.key", token.MinKeyBytes)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, own, nil, "holdline desk cookie", 32)
}

// node is the stable name of this data directory's process: what a crashed
// one held, its successor takes back at once.
func (c Config) node() (string, error) {
	b, err := loadSecret(c.Data, "node", 8)
	return hex.EncodeToString(b), err
}
