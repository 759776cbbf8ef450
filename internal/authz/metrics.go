package authz

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of reviews. Nil Metrics count nothing.
type Metrics struct {
	reviews *prometheus.CounterVec
	latency prometheus.Histogram
}

// NewMetrics registers them.
func NewMetrics(in prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_authorizer_reviews_total", Help: "SubjectAccessReviews, by verdict: allow, deny, no-opinion, not-ready.",
		}, []string{"verdict"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_authorizer_decision_seconds", Help: "Time to decide on a SubjectAccessReview.",
			Buckets: []float64{1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 500e-6, 1e-3, 10e-3, 100e-3, 1},
		}),
	}
	for _, c := range []prometheus.Collector{m.reviews, m.latency} {
		if err := in.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) decided(verdict string, took time.Duration) {
	if m != nil {
		m.reviews.WithLabelValues(verdict).Inc()
		m.latency.Observe(took.Seconds())
	}
}
