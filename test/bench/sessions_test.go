//go:build peers

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/install"
)

const (
	gib = 1 << 30
	// openWatches at once.
	openWatches = 1_000
)

// program of the fleet whose memory is looked at, and the way to the member by it.
type program struct {
	name, process string
	config        *rest.Config
}

func (s *stand) programs() []program {
	return []program{
		{"gateway", "sallyport-gateway", s.gates.Directly(s.alice, only)},
		{"floor", "floor", s.at(s.floor, floorGroup.Group)},
	}
}

// streams reads a log of 1 GiB, and looks at the most memory that it took meanwhile.
func (s *stand) streams() {
	entrants := s.straight()
	for _, p := range s.programs() {
		pid := s.pid(p.process)
		// So that the peak is that of now: see proc(5).
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			s.Logf("the peak of %s is since its start: %v", p.name, err)
		}
		before := s.memory(pid, "VmRSS")
		figures := s.stream(p.config)
		figures["peak-MiB"], figures["before-MiB"] = s.memory(pid, "VmHWM")/1024, before/1024
		figured(s.B, "log/"+p.name, figures)
	}
	figured(s.B, "log/member", s.stream(entrants[len(entrants)-1].config))
}

func (s *stand) stream(config *rest.Config) map[string]float64 {
	s.Helper()
	e := &entrant{config: config, path: fmt.Sprintf("%s/log?limitBytes=%d", pod, gib)}
	c := clientOf(s, config)
	defer c.CloseIdleConnections()
	r, err := e.request(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	began := time.Now()
	body, err := open(c, r)
	if err != nil {
		s.Fatal(err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	if err != nil || n != gib {
		s.Fatalf("the log ended after %d bytes: %v", n, err)
	}
	return map[string]float64{"MB/s": float64(n) / 1e6 / time.Since(began).Seconds()}
}

// watches are opened each by a connection of its own, as by so many kubectl.
func (s *stand) watches() {
	for _, p := range s.programs() {
		pid := s.pid(p.process)
		before, began := s.memory(pid, "VmRSS"), time.Now()
		ctx, stop := context.WithCancel(s.ctx)
		var clients []*http.Client
		group, opening := errgroup.WithContext(ctx)
		group.SetLimit(8)
		for range openWatches {
			c := clientOf(s, p.config)
			clients = append(clients, c)
			group.Go(func() error {
				if err := opening.Err(); err != nil {
					return err
				}
				_, err := s.watch(ctx, c, p.config)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			s.Fatal(err)
		}
		figured(s.B, "watches/"+p.name, map[string]float64{
			"KiB/watch": (s.memory(pid, "VmRSS") - before) / openWatches, "open-ns": float64(time.Since(began)) / openWatches,
		})
		stop()
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	}
}

// watch the pod, and return when it has been seen; what follows is in the reader.
func (s *stand) watch(ctx context.Context, c *http.Client, config *rest.Config) (*bufio.Reader, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/api/v1/namespaces/team-0/pods?watch=true", http.NoBody)
	if err != nil {
		return nil, err
	}
	body, err := open(c, r)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(body)
	first, err := lines.ReadString('\n')
	if err == nil && !strings.Contains(first, "ADDED") {
		err = fmt.Errorf("the watch begins with %s", first)
	}
	return lines, err
}

// revocations are timed from before a grant is deleted to the end of a watch that it
// alone carried.
func (s *stand) revocations() {
	var took []time.Duration
	for i := range cuts {
		name := fmt.Sprintf("cut-%d", i)
		person, err := s.fleet.Hub.User(name, name)
		if err != nil {
			s.Fatal(err)
		}
		config := s.gates.Directly(person, only)
		c := clientOf(s, config)
		defer c.CloseIdleConnections()
		var lines *bufio.Reader
		err = install.Until(s.ctx, time.Minute, func(context.Context) string {
			if lines, err = s.watch(s.ctx, c, config); err != nil {
				return err.Error()
			}
			return ""
		})
		if err != nil {
			s.Fatal(err)
		}
		g := &v1alpha1.AccessGrant{}
		g.Namespace, g.Name = "team-0", name
		began := time.Now()
		if err := s.hub.Delete(s.ctx, g, client.GracePeriodSeconds(0)); err != nil {
			s.Fatal(err)
		}
		// The last that is said is why; then there is no more.
		if _, err := io.Copy(io.Discard, lines); err != nil {
			s.Logf("watch %d ended with: %v", i, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	figured(s.B, "cut", map[string]float64{"p50-ns": percentile(took, 50), "max-ns": float64(took[len(took)-1])})
}

// memory of a process in KiB, by the name that it has in /proc.
func (s *stand) memory(pid int, of string) float64 {
	s.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == of+":" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				s.Fatal(err)
			}
			return kib
		}
	}
	s.Fatalf("process %d has no %s", pid, of)
	return 0
}
