package telemetry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// receiver of traces.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	received []*collector.ExportTraceServiceRequest
}

func (r *receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = append(r.received, in)
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestTraces: what comes in and what is asked of others is one trace, and there is nothing
// in it that was secret.
func TestTraces(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	traces, err := NewTraces(t.Context(), TracesOptions{Endpoint: listener.Addr().String(), Insecure: true, Ratio: 1, Service: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var asked http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.Header }))
	defer other.Close()
	own := httptest.NewServer(traces.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, other.URL, nil)
		if resp, err := traces.Transport(http.DefaultTransport).RoundTrip(out); err == nil {
			resp.Body.Close()
		}
		_, _ = io.WriteString(w, "said-in-the-answer")
	}), func(*http.Request) string { return "named" }))
	defer own.Close()
	in, err := http.NewRequestWithContext(t.Context(), http.MethodPost, own.URL+"/path?command=said-in-the-query", strings.NewReader("said-in-the-body"))
	if err != nil {
		t.Fatal(err)
	}
	in.Header.Set("Authorization", "Bearer said-in-a-header")
	in.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	in.Header.Set("Baggage", "said=in-baggage")
	resp, err := http.DefaultClient.Do(in)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	ids, names, all := map[string]bool{}, map[string]bool{}, ""
	for _, one := range r.received {
		all += one.String()
		for _, resource := range one.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					ids[string(span.TraceId)] = true
					names[span.Name] = true
				}
			}
		}
	}
	if len(ids) != 1 || len(names) != 2 || !names["named"] {
		t.Errorf("%d traces of spans %v, want one of two", len(ids), names)
	}
	if strings.Contains(all, "said-in") {
		t.Errorf("what was said is in a trace:\n%s", all)
	}
	if asked.Get("Traceparent") == "" || asked.Get("Baggage") != "" {
		t.Errorf("to others went %v", asked)
	}
	if strings.Contains(asked.Get("Traceparent"), "0af7651916cd43dd8448eb211c80319c") {
		t.Error("a caller's trace was continued")
	}
}

// TestOff: without an endpoint nothing is in the way.
func TestOff(t *testing.T) {
	for name, traces := range map[string]*Traces{"nil": nil, "zero": {}} {
		next := http.NotFoundHandler()
		if traces.On() || traces.Transport(http.DefaultTransport) != http.DefaultTransport || traces.Provider() == nil || traces.Shutdown(t.Context()) != nil {
			t.Errorf("%s: it is not off", name)
		}
		traces.Handler(next, nil).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
}

// TestMetrics: of two that have the same family the first is told.
func TestMetrics(t *testing.T) {
	registries := []prometheus.Gatherer{}
	for i, help := range []string{"first", "second"} {
		r := prometheus.NewRegistry()
		for _, name := range []string{"both", help} {
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
			g.Set(float64(i))
			r.MustRegister(g)
		}
		registries = append(registries, r)
	}
	w := httptest.NewRecorder()
	Metrics(registries...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body := w.Body.String()
	for _, line := range []string{"both 0\n", "first 0\n", "second 1\n"} {
		if !strings.Contains(body, line) {
			t.Errorf("no %q in:\n%s", line, body)
		}
	}
	if strings.Contains(body, "both 1") {
		t.Errorf("a family is told twice:\n%s", body)
	}
}
