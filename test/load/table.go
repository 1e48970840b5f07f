//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// scenario is one thing to measure.
type scenario struct {
	name    string
	once    bool // memory: more runs say nothing more
	tuned   bool // mosquitto would drop what is measured, or hold it back, as it is shipped
	measure func(*run) (figures, error)
	rows    []row
}

func (s scenario) runs(wanted int) int {
	if s.once {
		return 1
	}
	return wanted
}

// row is one figure of a scenario in the table.
type row struct {
	figure string
	what   string
	unit   unit
	target string
	// met compares the median of ours with the target; theirs is 0 when unknown.
	// nil when there is no target.
	met func(ours, theirs float64) bool
}

type unit int

const (
	perSecond unit = iota
	cpuSeconds
	millis
	seconds
	kilobytes
	megabytes
	plainBytes
)

func (u unit) format(v float64) string {
	switch u {
	case perSecond:
		return fmt.Sprintf("%.1f k/s", v/1000)
	case cpuSeconds:
		return fmt.Sprintf("%.1f CPU-s", v)
	case millis:
		return fmt.Sprintf("%.2f ms", v)
	case seconds:
		return fmt.Sprintf("%.2f s", v)
	case kilobytes:
		return fmt.Sprintf("%.1f kB", v/1000)
	case megabytes:
		return fmt.Sprintf("%.0f MB", v/1e6)
	}
	return fmt.Sprintf("%.0f B", v)
}

func atMost(limit float64) func(ours, theirs float64) bool {
	return func(ours, _ float64) bool { return ours <= limit }
}

func atLeast(limit float64) func(ours, theirs float64) bool {
	return func(ours, _ float64) bool { return ours >= limit }
}

func timesTheirs(factor float64) func(ours, theirs float64) bool {
	return func(ours, theirs float64) bool { return ours >= factor*theirs }
}

// scenarios are the rows of the table that a short run can measure.
var scenarios = []scenario{
	{name: "pairs", measure: throughput(100, 100), rows: []row{
		{"rate", "1:1, 100 pairs, QoS 1, 256 B, window 16", perSecond, "≥ 1.5×, aim 3×", timesTheirs(1.5)},
		{"cpu", "… CPU of the broker per million", cpuSeconds, "≤ theirs", func(ours, theirs float64) bool { return ours <= theirs }},
	}},
	{name: "latency", measure: latency, rows: []row{
		{"p50", "latency end to end at 2,000/s, p50", millis, "≤ 0.6 ms", atMost(0.6)},
		{"p99", "… p99", millis, "≤ 4.5 ms", atMost(4.5)},
		{"late", "… of that the machine: how late the generator was, p99", millis, "", nil},
		{"disk", "… and the disk: one write with fdatasync before it, p99", millis, "", nil},
	}},
	{name: "fan-in", tuned: true, measure: throughput(200, 1), rows: []row{
		{"rate", "fan-in 200 → 1 (theirs tuned: unbounded queue)", perSecond, "≥ 1.5×", timesTheirs(1.5)},
		{"memory", "… memory of the broker after it", megabytes, "", nil},
	}},
	{name: "fan-out", measure: fanOut, rows: []row{
		{"rate", "fan-out 1 → 1000, deliveries", perSecond, "≥ 2×", timesTheirs(2)},
		{"cpu", "… CPU of the broker per million", cpuSeconds, "", nil},
	}},
	{name: "storm", measure: storm, rows: []row{
		{"time", "storm: 1000 sessions × 100 queued, in order", seconds, "≤ 0.9 s", atMost(0.9)},
	}},
	{name: "idle", once: true, measure: idle, rows: []row{
		{"bytes", "memory per idle connection, one subscription each", kilobytes, "≤ 12 kB", atMost(12_000)},
	}},
	{name: "offline", once: true, measure: offline, rows: []row{
		{"bytes", "offline session, one subscription each (ours heap, theirs memory)", plainBytes, "≤ 600 B", atMost(600)},
		{"ready", "… restart until ready (ours killed, theirs stopped)", seconds, "≤ 3 s", atMost(3)},
	}},
	{name: "connects", measure: connects, rows: []row{
		{"rate", "connects (ours with --accept-rate off)", perSecond, "≥ 8 k/s", atLeast(8000)},
	}},
	{name: "takeover", measure: takeover, rows: []row{
		{"p50", "takeover with a jammed old socket, p50", millis, "", nil},
		{"p99", "… p99", millis, "≤ 10 ms", atMost(10)},
	}},
	{name: "stalled", measure: stalled, rows: []row{
		{"p50", "publisher with 1,000 stalled subscribers, p50", millis, "", nil},
		{"p99", "… p99", millis, "≤ 20 ms", atMost(20)},
	}},
}

func names() []string {
	var n []string
	for _, s := range scenarios {
		n = append(n, s.name)
	}
	return n
}

// table is the result, as Markdown.
type table struct {
	lines []string
	load  string // of the machine, when it began
}

func newTable() *table { return &table{load: loadAverage()} }

func (t *table) add(s scenario, ours, theirs []figures) {
	for _, r := range s.rows {
		o, okOurs := median(ours, r.figure)
		p, okTheirs := median(theirs, r.figure)
		cells := []string{r.what, "failed", "–", "–", r.target, ""}
		if okOurs {
			cells[1] = r.unit.format(o)
		}
		if okTheirs {
			cells[2] = r.unit.format(p)
		}
		if okOurs && okTheirs && p > 0 {
			cells[3] = fmt.Sprintf("%.2f×", o/p)
		}
		if r.met != nil && okOurs {
			cells[5] = "missed"
			if r.met(o, p) {
				cells[5] = "met"
			}
		}
		t.lines = append(t.lines, "| "+strings.Join(cells, " | ")+" |")
	}
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d cores, load average %s before and %s after; medians of runs that take turns.\n\n", runtime.NumCPU(), t.load, loadAverage())
	fmt.Fprintln(w, "| what | ours | mosquitto | ratio | target | |\n|---|---|---|---|---|---|")
	for _, l := range t.lines {
		fmt.Fprintln(w, l)
	}
}

// median of one figure over the runs; false without runs.
func median(runs []figures, name string) (float64, bool) {
	var v []float64
	for _, f := range runs {
		v = append(v, f[name])
	}
	if len(v) == 0 {
		return 0, false
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2, true
}

// percentile is the smallest value that p percent of them do not exceed.
func percentile(v []time.Duration, p int) time.Duration {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[max(0, (len(v)*p+99)/100-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
