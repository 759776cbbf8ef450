// Command bench runs the benchmarks and prints their figures beside the targets.
// Times move with the machine and its load: it prints what it measured, and fails
// only where a benchmark does.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// target is a figure that a benchmark is to stay below.
type target struct {
	name   string // of the benchmark, without the number of processors
	what   string
	metric string // as the testing package names it
	limit  float64
	unit   string
	scale  float64
}

// targets of the project for 10,000 grants over 1,000 members, 20 each. Smaller
// sizes have none, and show how the cost grows.
func targets() []target {
	var out []target
	for _, karmada := range []bool{false, true} {
		path := ""
		if karmada {
			path = ", Karmada"
		}
		for _, n := range []int{100, 1_000, 10_000} {
			full, one, memory := 0.0, 0.0, 0.0
			if n == 10_000 {
				full, one, memory = 2, 5, 1024
			}
			size := fmt.Sprintf("grants=%d/karmada=%t", n, karmada)
			out = append(out,
				target{"BenchmarkCompileFull/" + size, fmt.Sprintf("%d grants%s: full", n, path), "ns/op", full, "s", 1e9},
				target{"BenchmarkCompileOne/" + size, fmt.Sprintf("%d grants%s: one changed", n, path), "ns/op", one, "ms", 1e6},
				target{"BenchmarkCompileFull/" + size, fmt.Sprintf("%d grants%s: memory held", n, path), "MiB-live", memory, "MiB", 1},
			)
		}
	}
	return out
}

func main() {
	benchtime := flag.String("benchtime", "5x", "as of go test")
	flag.Parse()
	figures, err := run(*benchtime)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
	if err := table(os.Stdout, figures); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

// run the benchmarks: figures by benchmark and metric.
func run(benchtime string) (map[string]map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "Compile", "-benchmem", "-benchtime", benchtime, "-timeout", "60m", "./internal/core/compile/")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	figures := read(io.TeeReader(out, os.Stderr))
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("cannot run the benchmarks: %w", err)
	}
	return figures, nil
}

var processors = regexp.MustCompile(`-\d+$`)

// read the lines of go test -bench: name, runs, then pairs of figure and metric.
func read(from io.Reader) map[string]map[string]float64 {
	figures := map[string]map[string]float64{}
	for lines := bufio.NewScanner(from); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				metrics[f[i+1]] = v
			}
		}
		figures[processors.ReplaceAllString(f[0], "")] = metrics
	}
	return figures
}

func table(to io.Writer, figures map[string]map[string]float64) error {
	fmt.Fprintf(to, "\ncompile, 1,000 members, each grant on 20; %d processors, load %s\n\n", runtime.NumCPU(), load())
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\ttarget\t")
	for _, t := range targets() {
		v, ok := figures[t.name][t.metric]
		if !ok {
			return fmt.Errorf("there is no figure %s of %s", t.metric, t.name)
		}
		v /= t.scale
		wanted, verdict := "", ""
		if t.limit > 0 {
			wanted, verdict = fmt.Sprintf("≤ %g %s", t.limit, t.unit), "met"
			if v > t.limit {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(w, "%s\t%.3g %s\t%s\t%s\n", t.what, v, t.unit, wanted, verdict)
	}
	return w.Flush()
}

// load of the machine over the last minute, where it can be told.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(raw), " ")
	return first
}
