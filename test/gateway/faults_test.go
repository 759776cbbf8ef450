package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// TestS16Kill: whatever is killed, restarted or cut off, under a load of both requests
// that must be let through and requests that must not: none of the latter ever is, a
// member that is well answers on, and service returns by itself.
func TestS16Kill(t *testing.T) {
	w := theWorld(t)
	w.create(t, guardrail("no-jo-shell", `!(input.request.user.name == 'jo' && input.request.subresource == 'exec')`, "no shells", v1alpha1.PointRequest),
		grant("faults", "jo", []v1alpha1.ClusterName{east, west}, onPods()...))
	jo, stranger, masters := w.user(t, "jo"), w.user(t, "stranger", "payments-oncall"), w.fleet.Hub.AdminConfig()
	l := &load{}
	const pods = "/api/v1/namespaces/payments/pods"
	for _, way := range ways {
		for _, member := range []string{east, west} {
			l.add(t, true, way, member, way.to(w, jo, member), pods+"/api-0")
			l.add(t, false, way, member, way.to(w, jo, member), pods+"/api-0/exec?command=id&stdout=true", upgrades["WebSocket"]...)
			l.add(t, false, way, member, way.to(w, jo, member), "/api/v1/namespaces/payments/secrets/card-keys")
			l.add(t, false, way, member, way.to(w, stranger, member), pods)
			l.add(t, false, way, member, way.to(w, masters, member), pods)
		}
	}
	l.start(t)
	everything := func(*probe) bool { return true }
	l.settles(t, everything)

	t.Run("gateway killed", func(t *testing.T) {
		for range 3 {
			w.must(t, w.fleet.KillProgram(gates))
			began := time.Now()
			w.must(t, w.startGateway(t.Context()))
			t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
			l.settles(t, everything)
		}
	})
	t.Run("gateway stopped", func(t *testing.T) {
		w.must(t, w.fleet.StopProgram(gates))
		w.must(t, w.startGateway(t.Context()))
		l.settles(t, everything)
	})
	t.Run("hub restarted", func(t *testing.T) {
		// The controller would end when it cannot renew its lease, and a kubelet start it
		// again: here it is stopped before and started after, so that it has no say.
		w.must(t, w.fleet.StopProgram(controls))
		w.must(t, w.fleet.Hub.Stop())
		// The gateway cannot ask the hub about whoever comes directly, and so refuses.
		l.until(t, "nobody is let through", func(p *probe) string {
			if p.last.letThrough() {
				return "an answer"
			}
			return ""
		}, everything)
		w.must(t, w.fleet.Hub.Start(t.Context()))
		l.settles(t, everything)
		w.must(t, w.sallyport.StartController(t.Context()))
	})
	onEast, onWest := of(east), of(west)
	t.Run("member restarted", func(t *testing.T) {
		healthy := l.failures(onEast)
		w.must(t, w.fleet.Member(west).Stop())
		l.unavailable(t, onWest)
		w.must(t, w.fleet.Member(west).Start(t.Context()))
		l.settles(t, everything)
		if n := l.failures(onEast) - healthy; n > 0 {
			t.Errorf("%d requests to the other member failed meanwhile", n)
		}
	})
	t.Run("member partitioned", func(t *testing.T) {
		healthy := l.failures(onEast)
		w.wire.cut()
		l.unavailable(t, onWest)
		w.wire.mend()
		l.settles(t, everything)
		if n := l.failures(onEast) - healthy; n > 0 {
			t.Errorf("%d requests to the other member failed meanwhile", n)
		}
	})
	l.stop()
	asked, refused := l.total()
	t.Logf("%d requests, of which %d had to be refused and were", asked, refused)
}

func (w *world) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// probe is one request, over and over.
type probe struct {
	allowed bool
	way     way
	member  string
	url     string
	client  *http.Client
	headers []string

	mu sync.Mutex
	// n answers, of which failed are of an allowed one that was not, and refused of one
	// that is not allowed.
	n, failed, refused int
	last               answer
	at                 time.Time // when last was asked
}

func (p *probe) String() string {
	return fmt.Sprintf("%s to %s: %s", p.way.name, p.member, p.url[strings.LastIndex(p.url, "/")+1:])
}

func of(member string) func(*probe) bool { return func(p *probe) bool { return p.member == member } }

// load of probes, until it is stopped.
type load struct {
	probes []*probe
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (l *load) add(t *testing.T, allowed bool, way way, member string, config *rest.Config, path string, headers ...string) {
	t.Helper()
	l.probes = append(l.probes, &probe{allowed: allowed, way: way, member: member, url: config.Host + path, client: clientOf(t, config, "http/1.1"), headers: headers})
}

func (l *load) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	t.Cleanup(l.stop)
	for _, p := range l.probes {
		l.done.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				p.once(ctx, t)
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
}

func (p *probe) once(ctx context.Context, t *testing.T) {
	at := time.Now()
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	a := ask(limited, p.client, "GET", p.url, p.headers...)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	p.last, p.at = *a, at
	switch {
	case p.allowed && a.code != 200:
		p.failed++
	case !p.allowed && a.err == nil && (a.letThrough() || a.code == 101):
		t.Errorf("%s was let through: %d: %.200s", p, a.code, a.body)
	case !p.allowed && (a.code == 401 || a.code == 403):
		p.refused++
	}
}

func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// until all probes of some kind were asked after now, and have nothing missing.
func (l *load) until(t *testing.T, what string, missing func(*probe) string, which func(*probe) bool) {
	t.Helper()
	since := time.Now()
	until(t, what, func(context.Context) string {
		for _, p := range l.probes {
			if !which(p) {
				continue
			}
			p.mu.Lock()
			said := missing(p)
			switch {
			case !p.at.After(since):
				said = "not asked"
			case said != "":
				said += fmt.Sprintf(": %d %v %.200s", p.last.code, p.last.err, p.last.body)
			}
			p.mu.Unlock()
			if said != "" {
				return p.String() + ": " + said
			}
		}
		return ""
	})
	t.Logf("%s: within %s", what, time.Since(since).Round(time.Millisecond))
}

// settles when each is answered as it should be: it would not do to be refused for want of
// a gateway.
func (l *load) settles(t *testing.T, which func(*probe) bool) {
	t.Helper()
	l.until(t, "all are answered as they should be", func(p *probe) string {
		if want := map[bool]int{true: 200, false: 403}[p.allowed]; p.last.code != want {
			return fmt.Sprintf("not %d", want)
		}
		return ""
	}, which)
}

// unavailable: whoever may reach a member that is down is told so, and when to come back.
func (l *load) unavailable(t *testing.T, which func(*probe) bool) {
	t.Helper()
	var took []time.Duration
	down := func(p *probe) bool { return which(p) && p.allowed }
	l.until(t, "503", func(p *probe) string {
		if p.last.code != 503 || p.last.header.Get("Retry-After") == "" || p.last.layer() != "member" {
			return "not 503 with Retry-After"
		}
		took = append(took, p.last.took)
		return ""
	}, down)
	// From then on.
	took = nil
	l.until(t, "503 again", func(p *probe) string {
		took = append(took, p.last.took)
		return ""
	}, down)
	t.Logf("503 took %s at most", slices.Max(took).Round(100*time.Microsecond))
}

func (l *load) failures(which func(*probe) bool) (n int) {
	for _, p := range l.probes {
		if which(p) && p.allowed {
			p.mu.Lock()
			n += p.failed
			p.mu.Unlock()
		}
	}
	return n
}

func (l *load) total() (asked, refused int) {
	for _, p := range l.probes {
		p.mu.Lock()
		asked, refused = asked+p.n, refused+p.refused
		p.mu.Unlock()
	}
	return asked, refused
}
