//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package main

import (
	"io"
	"os"
)

// terminal is a terminal that edits lines by itself.
type terminal struct{ size func() (width, height int) }

// openTerminal reports whether in is a terminal.
func openTerminal(in io.Reader, _ io.Writer) (*terminal, bool) {
	f, ok := in.(*os.File)
	if !ok {
		return nil, false
	}
	info, err := f.Stat()
	return &terminal{}, err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (t *terminal) restore() {}
