// Command bench runs the benchmarks and prints their figures beside the targets.
// Times move with the machine and its load: it prints what it measured, and fails
// only where a benchmark does. The processor time beside some of them moves less.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// group of rows about the benchmarks of one package.
type group struct {
	title string
	pkg   string // folder, from the root of the repository
	bench string // pattern of the benchmarks that are run
	short bool   // each takes microseconds: run for a time, not for a number of times
	rows  []row
	// module is the folder of another module that the package is in, and tags are build
	// tags.
	module, tags string
}

// row is a figure, and what it is to stay below; 0 for nothing.
type row struct {
	name   string // of the benchmark, without the number of processors
	what   string
	metric string // as the testing package names it
	limit  float64
	unit   string
	// least in place of the limit, for what is better when it is more.
	least float64
	// peer is the benchmark of the same group whose figure this one is compared with.
	peer string
}

// scales of units, in what the testing package measures.
var scales = map[string]float64{"s": 1e9, "ms": 1e6, "µs": 1e3}

// in a unit; those that the testing package has are as they are.
func in(v float64, unit string) float64 { return v / max(scales[unit], 1) }

// groups with the targets of the project for 10,000 grants over 1,000 members, 20
// each. Smaller sizes have none, and show how the cost grows.
func groups() []group {
	return []group{
		{title: "compile, 1,000 members, each grant on 20", pkg: "internal/core/compile", bench: "Compile", rows: compiled()},
		{title: "compile and judge 10,000 grants, 1,000 members, each grant on 20", pkg: "test/bench", bench: "Guarded", rows: guarded()},
		{title: "one request, one guardrail of the library (no-exec-without-ticket), refused", pkg: "test/bench", bench: "Request", short: true, rows: []row{
			{"BenchmarkRequest/cel", "CEL: p50", "p50-ns", 0, "µs", 0, "BenchmarkRequest/opa"},
			{"BenchmarkRequest/cel", "CEL: p99", "p99-ns", 0, "µs", 0, "BenchmarkRequest/opa"},
			{"BenchmarkRequest/rego", "Rego: p50", "p50-ns", 15, "µs", 0, "BenchmarkRequest/opa"},
			{"BenchmarkRequest/rego", "Rego: p99", "p99-ns", 0, "µs", 0, "BenchmarkRequest/opa"},
			{"BenchmarkRequest/library", "CEL: 20 of the library, of which 12 judge requests, allowed: p50", "p50-ns", 0, "µs", 0, ""},
			{"BenchmarkRequest/opa", "peer: OPA's documented RBAC example: p50", "p50-ns", 0, "µs", 0, ""},
			{"BenchmarkRequest/opa", "peer: OPA's documented RBAC example: p99", "p99-ns", 0, "µs", 0, ""},
		}},
		{title: "guardrails in CEL, one document", pkg: "internal/policy/cel", bench: "^BenchmarkCheck$", short: true,
			rows: evaluated("request", "BenchmarkCheck/Request/%d/Cold", "grant", "BenchmarkCheck/Grant/%d/Cold")},
		{title: "guardrails in Rego, one document", pkg: "internal/policy/rego", bench: "^BenchmarkCheck$", short: true,
			rows: evaluated("request", "BenchmarkCheck/request/%d/cold", "grant", "BenchmarkCheck/grant/%d/cold")},
		{title: "ceilings, one document", pkg: "internal/policy/ceiling", bench: "^BenchmarkSet$", short: true,
			rows: evaluated("grant that passes", "BenchmarkSet/%d/pass", "grant that is refused", "BenchmarkSet/%d/refuse")},
		{title: "decide on one request for four groups: the index, and Kubernetes' RBAC authorizer", pkg: ".", module: "test/rbac", bench: "^BenchmarkDecide$", short: true, rows: decided()},
		{title: "webhook: a SubjectAccessReview by mutual TLS, 10,000 grants and 20 guardrails", pkg: "test/bench", bench: "^BenchmarkWebhook$", rows: webhook()},
		{title: "gateway: GET of one pod with 20 guardrails and 1,000 grants, a log and watches", pkg: "test/bench", tags: "peers", bench: "^BenchmarkGateway$", rows: gateway()},
	}
}

func compiled() (out []row) {
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
				row{"BenchmarkCompileFull/" + size, fmt.Sprintf("%d grants%s: full", n, path), "ns/op", full, "s", 0, ""},
				row{"BenchmarkCompileOne/" + size, fmt.Sprintf("%d grants%s: one changed", n, path), "ns/op", one, "ms", 0, ""},
				row{"BenchmarkCompileFull/" + size, fmt.Sprintf("%d grants%s: memory held", n, path), "MiB-live", memory, "MiB", 0, ""},
			)
		}
	}
	return out
}

func guarded() (out []row) {
	for _, p := range []struct{ name, what string }{
		{"none", "no guardrails"}, {"library", "20 of the library, CEL and a ceiling"}, {"rego", "20 in Rego"},
	} {
		full, one := "BenchmarkGuardedFull/"+p.name, "BenchmarkGuardedOne/"+p.name
		out = append(out,
			row{full, p.what + ": full", "ns/op", 0, "s", 0, ""},
			row{full, p.what + ": full, processor time", "cpu-ns/op", 0, "s", 0, ""},
			row{full, p.what + ": memory held", "MiB-live", 0, "MiB", 0, ""},
			row{one, p.what + ": one grant changed", "ns/op", 0, "ms", 0, ""},
			row{one, p.what + ": one grant changed, processor time", "cpu-ns/op", 0, "ms", 0, ""},
		)
	}
	return append(out,
		row{"BenchmarkGuardedFull/rego", "20 in Rego: grants that could not be judged in time", "undecided", 0, "", 0, ""},
		row{"BenchmarkGuardedMore", "one more guardrail than 20", "ns/op", 0, "ms", 0, ""},
		row{"BenchmarkGuardedMore", "one more guardrail than 20, processor time", "cpu-ns/op", 0, "ms", 0, ""},
		row{"BenchmarkGuardedLater", "a minute later: 2 of 20 depend on the time", "ns/op", 0, "ms", 0, ""},
		row{"BenchmarkGuardedLater", "a minute later, processor time", "cpu-ns/op", 0, "ms", 0, ""},
	)
}

// evaluated are rows of pairs of what is judged and the pattern of its benchmark.
func evaluated(pairs ...string) (out []row) {
	for i := 0; i < len(pairs); i += 2 {
		for _, n := range []int{1, 20, 100} {
			name := fmt.Sprintf(pairs[i+1], n)
			out = append(out, row{name, fmt.Sprintf("%s, by %d", pairs[i], n), "ns/op", 0, "µs", 0, ""})
		}
	}
	return out
}

func main() {
	benchtime := flag.String("benchtime", "5x", "as of go test, where one run takes long")
	shorttime := flag.String("shorttime", "500ms", "as of go test, where one run takes microseconds")
	only := flag.String("only", "", "part of the titles of the groups that are run")
	flag.Parse()
	if err := run(*benchtime, *shorttime, *only); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

// run the groups, then print them all.
func run(benchtime, shorttime, only string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, g := range groups() {
		if !strings.Contains(g.title, only) {
			continue
		}
		times, before := benchtime, load()
		if g.short {
			times = shorttime
		}
		figures, err := g.run(times)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s (load %s to %s)\tmeasured\ttarget\t\tpeer\n", g.title, before, load())
		if err := g.print(w, figures); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%d processors, %s\n", runtime.NumCPU(), runtime.Version())
	return w.Flush()
}

// run the benchmarks: figures by benchmark and metric.
func (g *group) run(benchtime string) (map[string]map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", g.bench, "-benchmem", "-benchtime", benchtime, "-timeout", "60m", "-tags", g.tags, "./"+path.Clean(g.pkg)+"/")
	cmd.Dir = g.module
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
		return nil, fmt.Errorf("cannot run the benchmarks of %s: %w", g.pkg, err)
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

func (g *group) print(to io.Writer, figures map[string]map[string]float64) error {
	for _, r := range g.rows {
		v, ok := figures[r.name][r.metric]
		if !ok {
			return fmt.Errorf("there is no figure %s of %s in %s", r.metric, r.name, g.pkg)
		}
		wanted, verdict, beside := "", "", ""
		switch got := in(v, r.unit); {
		case r.limit > 0 && got <= r.limit, r.least > 0 && got >= r.least:
			verdict = "met"
		case r.limit > 0 || r.least > 0:
			verdict = "MISSED"
		}
		if r.limit > 0 {
			wanted = fmt.Sprintf("≤ %g %s", r.limit, r.unit)
		} else if r.least > 0 {
			wanted = fmt.Sprintf("≥ %g %s", r.least, r.unit)
		}
		if peer := figures[r.peer][r.metric]; peer > 0 {
			beside = fmt.Sprintf("%s of its %s %s", brief(v/peer), brief(in(peer, r.unit)), r.unit)
		}
		fmt.Fprintf(to, "  %s\t%s %s\t%s\t%s\t%s\n", r.what, brief(in(v, r.unit)), r.unit, wanted, verdict, beside)
	}
	return nil
}

// brief is a figure with three digits that count, and without an exponent.
func brief(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
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
