package transport

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// BenchmarkRoute is what a request pays to find its way, among 1,000 members.
func BenchmarkRoute(b *testing.B) {
	ca, _ := keyPair(b)
	m := NewMembers("sallyport-gateway", MembersOptions{})
	for i := range 1000 {
		set(b, m, routeSecret(fmt.Sprintf("member-%d", i), "https://127.0.0.1:1", "token", ca))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Route("member-500"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkMember is a GET of a small object of a real API server, impersonated, by
// HTTP/1.1 and HTTP/2, for 1, 8 and 64 clients.
func BenchmarkMember(b *testing.B) {
	f := controlplane.ForTest(b, controlplane.Options{Members: []string{"eu-1"}})
	secret := impersonated(b, f.Member("eu-1"))
	for _, clients := range []int{1, 8, 64} {
		for _, http2 := range []bool{false, true} {
			m := NewMembers("sallyport-gateway", MembersOptions{HTTP2: http2})
			set(b, m, secret)
			b.Run(fmt.Sprintf("http2=%t/clients=%d", http2, clients), func(b *testing.B) { benchmarkGets(b, m, "eu-1", clients) })
		}
	}
}

// benchmarkGets of a small object by that many clients at once.
func benchmarkGets(b *testing.B, m *Members, cluster string, clients int) {
	b.Helper()
	all := func(requests int) {
		var left atomic.Int64
		var done sync.WaitGroup
		left.Store(int64(requests))
		for range clients {
			done.Go(func() {
				for left.Add(-1) >= 0 {
					if err := getAs(b, m, cluster); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		done.Wait()
	}
	all(4 * clients) // so that there are connections
	b.ReportAllocs()
	b.ResetTimer()
	all(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// getAs alice a small object of a member.
func getAs(b *testing.B, m *Members, cluster string) error {
	r, err := m.Route(cluster)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, r.URL.String()+"/api/v1/namespaces/kube-system", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Impersonate-User", "alice")
	resp, err := r.Transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("got %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
