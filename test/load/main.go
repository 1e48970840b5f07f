//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	holdline, mosquitto   string
	dir                   string
	only                  string
	runs                  int
	duration              time.Duration
	connections, sessions int
}

// run is one measurement of one broker.
type run struct {
	settings
	ctx context.Context
	b   *child
}

// figures are what a run measured, by name.
type figures map[string]float64

func init() { runtime.LockOSThread() } // children die with the thread that started them

func main() {
	var s settings
	flag.StringVar(&s.holdline, "holdline", "./holdline", "the program to measure")
	flag.StringVar(&s.mosquitto, "mosquitto", "/usr/sbin/mosquitto", "the peer")
	flag.StringVar(&s.dir, "dir", "", "where the brokers' directories are made: on the disk that is to be measured (default: the directory for temporary files)")
	flag.StringVar(&s.only, "only", "", "measure only these, comma-separated: "+strings.Join(names(), ", "))
	flag.IntVar(&s.runs, "runs", 3, "runs of each broker; what is printed is the median")
	seconds := flag.Float64("seconds", 2, "how long messages flow in a run")
	flag.IntVar(&s.connections, "connections", 15_000, "idle connections")
	flag.IntVar(&s.sessions, "sessions", 200_000, "offline sessions; with fewer, buffers of the journal outweigh them")
	flag.Parse()
	s.duration = time.Duration(*seconds * float64(time.Second))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, s, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// measure runs the scenarios and prints the table. The error says what is wrong
// with the brokers or the measuring; a missed target is no error.
func measure(ctx context.Context, s settings, out, progress io.Writer) error {
	chosen := scenarios
	if s.only != "" {
		wanted := strings.Split(s.only, ",")
		for _, w := range wanted {
			if !slices.Contains(names(), w) {
				return fmt.Errorf("-only: %q is none of %s", w, strings.Join(names(), ", "))
			}
		}
		chosen = slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !slices.Contains(wanted, s.name) })
	}
	var err error
	if s.holdline, err = filepath.Abs(s.holdline); err != nil {
		return err
	}
	if _, err := exec.LookPath(s.holdline); err != nil {
		return fmt.Errorf("our program: %w; go build -o holdline . makes it", err)
	}
	kinds := []kind{{name: "holdline", ours: true, path: s.holdline}, {name: "mosquitto", path: s.mosquitto}}
	if _, err := exec.LookPath(s.mosquitto); err != nil {
		fmt.Fprintln(progress, "load: mosquitto is not there, so its column stays empty: apt-get install mosquitto, or -mosquitto PATH")
		kinds = kinds[:1]
	}
	table := newTable()
	var faults int
	for _, sc := range chosen {
		results := make([][]figures, 2)
		for i := range sc.runs(s.runs) {
			for k, kind := range kinds {
				kind.tuned = sc.tuned
				began := time.Now()
				f, err := s.once(ctx, sc, kind)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					faults++
					fmt.Fprintf(progress, "FAULT  %s, %s, run %d: %v\n", sc.name, kind.name, i+1, err)
					continue
				}
				fmt.Fprintf(progress, "%-10s %-10s %d  %s  (%.1f s)\n", sc.name, kind.name, i+1, f, time.Since(began).Seconds())
				results[k] = append(results[k], f)
			}
		}
		table.add(sc, results[0], results[1])
	}
	table.print(out)
	if faults > 0 {
		return fmt.Errorf("%d runs failed", faults)
	}
	return nil
}

// once measures one scenario with one broker, on a directory that is gone afterwards.
func (s settings) once(ctx context.Context, sc scenario, k kind) (f figures, err error) {
	dir, err := os.MkdirTemp(s.dir, "holdline-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	runtime.GC() // of the run before, not during this one
	r := &run{settings: s, ctx: ctx}
	if r.b, err = k.start(ctx, dir); err != nil {
		return nil, err
	}
	defer func() { r.b.kill() }()
	f, err = sc.measure(r)
	if err != nil && r.b.ended() {
		err = fmt.Errorf("%w; the broker ended:\n%s", err, r.b.log.Bytes())
	}
	return f, err
}

func (f figures) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(&b, "%s %.4g  ", name, f[name])
	}
	return strings.TrimSpace(b.String())
}
