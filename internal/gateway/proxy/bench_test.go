package proxy

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// benchIndex is one index for ever.
type benchIndex struct{ *effective.Index }

func (b benchIndex) Current() *effective.Index                    { return b.Index }
func (benchIndex) Subscribe(func(*effective.Index)) (stop func()) { return func() {} }
func (benchIndex) Review(context.Context, *hub.Question) (hub.Answer, error) {
	return hub.Answer{Allowed: true}, nil
}

// bench is a member behind the handler and behind a bare reverse proxy, which says who
// alice is and does nothing else. Both have the transport of the same route.
type bench struct {
	member, handler, floor *httptest.Server
}

func newBench(b *testing.B, answer http.HandlerFunc) *bench {
	b.Helper()
	serve := func(h http.Handler) *httptest.Server {
		s := httptest.NewTLSServer(h)
		s.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 2048
		b.Cleanup(s.Close)
		return s
	}
	out := &bench{member: serve(answer)}
	members := transport.NewMembers("sallyport-gateway", transport.MembersOptions{})
	if err := members.Set(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "sallyport-gateway", Name: v1alpha1.RouteNamePrefix + "prod",
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: "prod"},
		},
		Type: v1alpha1.RouteSecretType,
		Data: map[string][]byte{
			v1alpha1.RouteServer: []byte(out.member.URL), v1alpha1.RouteToken: []byte("impersonator"),
			v1alpha1.RouteCA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out.member.Certificate().Raw}),
		},
	}); err != nil {
		b.Fatal(err)
	}
	g, errs := policy.Compile("no-exec", &v1alpha1.GuardrailSpec{
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
		CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "input.request.subresource != 'exec'", Message: "no"}}},
	}, policy.Options{})
	if len(errs) > 0 {
		b.Fatal(errs.ToAggregate())
	}
	ix := benchIndex{new(effective.Builder).Build(compile.Snapshot{
		Now: time.Now(), Point: guardrail.Compile, Guardrails: guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{}),
		Fleet: fleet.New([]fleet.Member{{Name: "prod", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}}),
		Grants: []compile.Grant{{Namespace: "payments", Name: "oncall", Spec: &v1alpha1.AccessGrantSpec{
			Reason: "bench", Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "devs"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod"}},
			Access: []v1alpha1.AccessEntry{{
				Rules:      []v1alpha1.PolicyRule{{Verbs: []string{"get", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}}},
				Namespaces: []v1alpha1.NamespaceName{"payments"},
			}},
		}}},
	})}
	h := New(Options{Index: ix, Members: members, Hub: ix})
	alice := &user.DefaultInfo{Name: "alice", UID: "6f8c", Groups: []string{"devs", "staff", "system:authenticated"}}
	out.handler = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), alice)))
	}))
	route, err := members.Route("prod")
	if err != nil {
		b.Fatal(err)
	}
	out.floor = serve(&httputil.ReverseProxy{
		Transport: route.Transport, BufferPool: &buffers{},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = &url.URL{Scheme: route.URL.Scheme, Host: route.URL.Host, Path: strings.TrimPrefix(r.In.URL.Path, Prefix+"prod/proxy")}
			r.Out.Header["Impersonate-User"], r.Out.Header["Impersonate-Group"] = []string{"alice"}, []string{"devs"}
		},
	})
	return out
}

const benchPod = "/api/v1/namespaces/payments/pods/api-0"

// each way to the member, by its URL for a path on it.
func (s *bench) each(path string, f func(name, url string, client *http.Client)) {
	f("member", s.member.URL+path, s.member.Client())
	f("floor", s.floor.URL+Prefix+"prod/proxy"+path, s.floor.Client())
	f("sallyport", s.handler.URL+Prefix+"prod/proxy"+path, s.handler.Client())
}

// BenchmarkProxy gets a small object from a member: straight, by a bare reverse proxy
// (the floor), and by the handler with a guardrail.
func BenchmarkProxy(b *testing.B) {
	object := []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"api-0"},"spec":{"pad":"` + strings.Repeat("x", 2048) + `"}}`)
	s := newBench(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(object)
	})
	for _, clients := range []int{1, 8, 64} {
		s.each(benchPod, func(name, url string, client *http.Client) {
			b.Run(fmt.Sprintf("clients=%d/%s", clients, name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism((clients + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						drop(b, client, url)
					}
				})
			})
		})
	}
}

// BenchmarkStream passes a log of 64 MiB on.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	chunk := []byte(strings.Repeat("0123456789abcde\n", 1024))
	s := newBench(b, func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	s.each(benchPod+"/log", func(name, url string, client *http.Client) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if n := drop(b, client, url); n != size {
					b.Fatalf("%d bytes", n)
				}
			}
		})
	})
}

func drop(b *testing.B, client *http.Client, url string) int64 {
	resp, err := client.Get(url)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Errorf("status %d, %v", resp.StatusCode, err)
	}
	return n
}

// BenchmarkWatches has 1,000 watches open at once, and says what each takes in memory,
// both ends of the test included.
func BenchmarkWatches(b *testing.B) {
	const watches = 1000
	s := newBench(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json;stream=watch")
		_, _ = io.WriteString(w, "{}\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s.each("/api/v1/namespaces/payments/pods?watch=true", func(name, url string, client *http.Client) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				before := inUse()
				ctx, cancel := context.WithCancel(context.Background())
				var ended sync.WaitGroup
				for range watches {
					r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
					resp, err := client.Do(r)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(resp.Body, make([]byte, 3)); err != nil {
						b.Fatal(err)
					}
					ended.Go(func() { <-ctx.Done(); resp.Body.Close() })
				}
				b.ReportMetric(float64(inUse()-before)/watches, "B/watch")
				cancel()
				ended.Wait()
				s.handler.CloseClientConnections()
				s.floor.CloseClientConnections()
				s.member.CloseClientConnections()
			}
		})
	})
}

func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
