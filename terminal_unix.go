//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal is the terminal behind stdin, set so that every key arrives at once.
type terminal struct {
	fd    int
	saved *unix.Termios
	// size tells columns and rows; nil when the output cannot move its cursor.
	size func() (width, height int)
}

// openTerminal takes over the terminal; ok is false when in is none. The caller restores it.
func openTerminal(in io.Reader, out io.Writer) (t *terminal, ok bool) {
	f, isFile := in.(*os.File)
	if !isFile {
		return nil, false
	}
	fd := int(f.Fd())
	saved, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, false
	}
	t = &terminal{fd: fd}
	screen, isFile := out.(*os.File)
	if !isFile || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return t, true
	}
	outFD := int(screen.Fd())
	if _, err := unix.IoctlGetTermios(outFD, getTermios); err != nil {
		return t, true
	}
	keys := *saved
	keys.Lflag &^= unix.ICANON | unix.ECHO // signals and output stay as they are
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setTermios, &keys); err != nil {
		return t, true
	}
	t.saved = saved
	t.size = func() (int, int) {
		w, err := unix.IoctlGetWinsize(outFD, unix.TIOCGWINSZ)
		if err != nil || w.Col == 0 || w.Row == 0 {
			return 80, 24
		}
		return int(w.Col), int(w.Row)
	}
	return t, true
}

// restore gives the terminal back as it was.
func (t *terminal) restore() {
	if t.saved != nil {
		_ = unix.IoctlSetTermios(t.fd, setTermios, t.saved) // there is nothing else to try
	}
}
