package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Binary is the program, built once per run with the kill points in it.
func Binary(tb testing.TB) string {
	tb.Helper()
	build.once.Do(func() { build.path, build.err = buildBinary() })
	if build.err != nil {
		tb.Fatal(build.err)
	}
	return build.path
}

// removeBinary cleans up after Binary.
func removeBinary() error {
	if build.dir == "" {
		return nil
	}
	return os.RemoveAll(build.dir)
}

func buildBinary() (string, error) {
	if err := noteSources(".."); err != nil {
		return "", err
	}
	var err error
	if build.dir, err = os.MkdirTemp("", "holdline-test-"); err != nil {
		return "", err
	}
	path := filepath.Join(build.dir, "holdline")
	if out, err := exec.Command("go", "build", "-tags", "killpoints", "-o", path, "holdline").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// noteSources looks at every source of the program. The go command remembers
// what a test looked at, and so does not call a result cached when the program has changed.
func noteSources(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
			return nil
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "data"):
			return fs.SkipDir
		case d.IsDir() || filepath.Dir(path) == root && filepath.Ext(path) != ".go":
			return nil
		}
		if _, err := os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
