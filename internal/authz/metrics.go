package authz

import (
	"errors"
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
			Name: "sallyport_authorizer_reviews_total",
			Help: "SubjectAccessReviews by what came of them: allow, deny, no-opinion; and, without an answer, malformed, not-ready, overload, refused.",
		}, []string{"verdict"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_authorizer_decision_seconds", Help: "Time to read a SubjectAccessReview and to decide on it.",
			Buckets: []float64{1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 500e-6, 1e-3, 10e-3, 100e-3, 1},
		}),
	}
	return m, errors.Join(in.Register(m.reviews), in.Register(m.latency))
}

// UnderWay counts the reviews that are.
func (h *Handler) UnderWay(in prometheus.Registerer) error {
	return in.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_authorizer_reviews_under_way", Help: "SubjectAccessReviews that are under way.",
	}, func() float64 { return float64(h.underWay.Load()) }))
}

func (m *Metrics) decided(verdict string, took time.Duration) {
	if m != nil {
		m.reviews.WithLabelValues(verdict).Inc()
		m.latency.Observe(took.Seconds())
	}
}

func (m *Metrics) failed(why string) {
	if m != nil {
		m.reviews.WithLabelValues(why).Inc()
	}
}
