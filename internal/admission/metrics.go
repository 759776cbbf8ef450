package admission

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	decisions *prometheus.CounterVec
	duration  *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_admission_decisions_total",
			Help: "Answers of the admission webhook, by kind of the object and by verdict.",
		}, []string{"kind", "verdict"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_admission_duration_seconds",
			Help:    "How long the admission webhook took to answer, by kind of the object.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"kind"}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.decisions), r.Register(m.duration))
}

func (m *metrics) record(kind string, v verdict, took time.Duration) {
	m.decisions.WithLabelValues(kind, string(v)).Inc()
	m.duration.WithLabelValues(kind).Observe(took.Seconds())
}
