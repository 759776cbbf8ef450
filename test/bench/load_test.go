package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// turns that each entrant of a race has, one after the other and over again.
	turns = 7
	// turn of one entrant.
	turn = 600 * time.Millisecond
)

// entrant of a race: a server, and what it is asked.
type entrant struct {
	name   string
	config *rest.Config
	// ask makes the request; a GET of path if nil.
	ask  func(ctx context.Context) (*http.Request, error)
	path string
	// pid of the process, whose processor time is looked at; 0 for none of its own.
	pid int
	// beside are other processes that have to do with a request, by what they are.
	beside map[string]int
}

func (e *entrant) request(ctx context.Context) (*http.Request, error) {
	if e.ask != nil {
		return e.ask(ctx)
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, e.config.Host+e.path, http.NoBody)
}

// laps of one entrant, a figure for each turn. Processor time is that of its process for
// one request: it moves less with the load of the machine.
type laps struct {
	perSecond, p50, p99, processor []float64
	// beside: the processor time of others.
	beside map[string][]float64
}

// race the entrants, each with so many clients in a closed loop: a client sends its next
// request when the last was answered. They take short turns, so that whatever else the
// machine does meets all of them alike, and each turn begins with another.
func race(b *testing.B, clients int, entrants []*entrant) map[string]*laps {
	b.Helper()
	all, out := map[string][]*http.Client{}, map[string]*laps{}
	for _, e := range entrants {
		out[e.name] = &laps{beside: map[string][]float64{}}
		for range clients {
			c := clientOf(b, e.config)
			defer c.CloseIdleConnections()
			if err := e.once(b.Context(), c); err != nil { // and the connection is there
				b.Fatalf("%s: %v", e.name, err)
			}
			all[e.name] = append(all[e.name], c)
		}
	}
	for i := range turns {
		for k := range entrants {
			e := entrants[(i+k)%len(entrants)]
			before, beside := processorTimeOf(e.pid), map[string]time.Duration{}
			for what, pid := range e.beside {
				beside[what] = processorTimeOf(pid)
			}
			took, elapsed, err := e.run(b.Context(), all[e.name])
			if err != nil {
				b.Fatalf("%s: %v", e.name, err)
			}
			l := out[e.name]
			l.processor = append(l.processor, float64(processorTimeOf(e.pid)-before)/float64(len(took)))
			for what, pid := range e.beside {
				l.beside[what] = append(l.beside[what], float64(processorTimeOf(pid)-beside[what])/float64(len(took)))
			}
			l.perSecond = append(l.perSecond, float64(len(took))/elapsed.Seconds())
			l.p50, l.p99 = append(l.p50, percentile(took, 50)), append(l.p99, percentile(took, 99))
		}
	}
	return out
}

// run one turn. What is under way when it ends counts: its time is part of it.
func (e *entrant) run(ctx context.Context, clients []*http.Client) (took []time.Duration, elapsed time.Duration, err error) {
	each, errs := make([][]time.Duration, len(clients)), make([]error, len(clients))
	var group sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		group.Go(func() {
			for time.Since(began) < turn && errs[i] == nil {
				asked := time.Now()
				errs[i] = e.once(ctx, c)
				each[i] = append(each[i], time.Since(asked))
			}
		})
	}
	group.Wait()
	elapsed = time.Since(began)
	for _, err := range errs { // an answer that is not 200 is no figure
		if err != nil {
			return nil, 0, err
		}
	}
	took = slices.Concat(each...)
	slices.Sort(took)
	return took, elapsed, nil
}

// once asks and reads the answer whole.
func (e *entrant) once(ctx context.Context, c *http.Client) error {
	r, err := e.request(ctx)
	if err != nil {
		return err
	}
	body, err := open(c, r)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

// open is the body of an answer that is 200.
func open(c *http.Client, r *http.Request) (io.ReadCloser, error) {
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // of what is an error anyway
		return nil, fmt.Errorf("%s: %s", resp.Status, said)
	}
	return resp.Body, nil
}

// clientOf has connections of its own, as another kubectl has, and negotiates HTTP/2
// as client-go does.
func clientOf(tb testing.TB, config *rest.Config) *http.Client {
	tb.Helper()
	own := rest.CopyConfig(config)
	// One transport for each: client-go's cache would share one.
	own.Proxy = http.ProxyFromEnvironment
	c, err := rest.HTTPClientFor(own)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// report the medians of all turns as benchmarks below a name, and the share that each has
// of what each of the others does, turn by turn.
func report(b *testing.B, name string, entrants []*entrant, of map[string]*laps) {
	for _, e := range entrants {
		l := of[e.name]
		figures := map[string]float64{"req/s": median(l.perSecond), "p50-ns": median(l.p50), "p99-ns": median(l.p99)}
		if e.pid != 0 {
			figures["cpu-ns/req"] = mean(l.processor)
		}
		for what, used := range l.beside {
			figures[what+"-cpu-ns/req"] = mean(used)
		}
		for other, o := range of {
			if other != e.name {
				figures["of-"+other] = median(quotients(l.perSecond, o.perSecond))
				figures["p99-of-"+other] = median(quotients(l.p99, o.p99))
			}
		}
		figured(b, name+"/"+e.name, figures)
	}
}

// figured reports figures that were taken before, as those of a benchmark.
func figured(b *testing.B, name string, figures map[string]float64) {
	b.Run(name, func(b *testing.B) {
		for metric, v := range figures {
			b.ReportMetric(v, metric)
		}
		b.ReportMetric(0, "ns/op") // there is none: it is left out
	})
}

// processorTimeOf a process so far, in steps of 10 ms; 0 where it cannot be told.
func processorTimeOf(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(raw), ") ") // past the name
	var used time.Duration
	if f := strings.Fields(after); len(f) > 12 {
		for _, ticks := range f[11:13] { // as user and as system: see proc(5)
			n, err := strconv.Atoi(ticks)
			if err != nil {
				return 0
			}
			used += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}

func quotients(a, b []float64) (out []float64) {
	for i := range a {
		out = append(out, a[i]/b[i])
	}
	return out
}

// percentile of what is sorted.
func percentile(sorted []time.Duration, p int) float64 {
	return float64(sorted[min(len(sorted)*p/100, len(sorted)-1)])
}

// mean is for what is counted in steps that are long beside a turn.
func mean(v []float64) (sum float64) {
	for _, f := range v {
		sum += f / float64(len(v))
	}
	return sum
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}
