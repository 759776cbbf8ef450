package authz

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// discarded is an answer that nobody reads.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header       { return d.header }
func (*discarded) WriteHeader(int)             {}
func (*discarded) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkAuthorize answers reviews without a network: this package's handler, with
// metrics and a log that goes nowhere, beside one that only parses and answers with
// encoding/json. test/bench has the same by mutual TLS, with 10,000 grants, twenty
// guardrails, and OPA.
func BenchmarkAuthorize(b *testing.B) {
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	h := NewHandler(HandlerOptions{
		Index: fixed{index(b)}, Cluster: "prod", AllowFromGrants: true, Clock: testclock.NewFakePassiveClock(noon), Metrics: metrics, Log: nowhere{},
	})
	floor := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&authorizationv1.SubjectAccessReview{TypeMeta: review.TypeMeta})
	})
	for name, spec := range map[string]authorizationv1.SubjectAccessReviewSpec{
		"Allowed": ask("list", "payments", "pods"), "NoOpinion": ask("list", "elsewhere", "pods"), "Denied": ask("create", "payments", "pods", "exec", "api-0"),
	} {
		spec.User, spec.UID = "alice@example.org", "6f8c"
		spec.Groups = []string{"devs", "staff", "payments", "system:authenticated"}
		spec.Extra = map[string]authorizationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"X509SHA256=0011223344556677"}}
		body := reviews(b, spec)["v1"]
		for _, by := range []struct {
			name    string
			handler http.Handler
		}{{"authorizer", h}, {"floor", floor}} {
			b.Run(name+"/"+by.name, func(b *testing.B) {
				b.ReportAllocs()
				w := &discarded{http.Header{}}
				for b.Loop() {
					r, err := http.NewRequest(http.MethodPost, "https://authorizer"+Path, bytes.NewReader(body))
					if err != nil {
						b.Fatal(err)
					}
					by.handler.ServeHTTP(w, r)
				}
			})
		}
		b.Run(name+"/decode", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(string(body), &effective.Request{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// nowhere is where a log goes that is made and not written.
type nowhere struct{}

func (nowhere) Log(*decisionlog.Entry) {}
