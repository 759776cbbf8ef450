package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the handler. Nil Metrics count nothing.
type Metrics struct {
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	answers   *prometheus.CounterVec
	cuts      *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(in prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_gateway_decisions_total", Help: "Decisions on requests, by verdict and by the layer that refused.",
		}, []string{"verdict", "layer"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_gateway_decision_seconds", Help: "Time from a request's coming to its decision, the hub's answer included.",
			Buckets: []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1, 5},
		}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_gateway_answers_total", Help: "Answers of members, by cluster, verb and HTTP status.",
		}, []string{"cluster", "verb", "code"}),
		cuts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_gateway_sessions_cut_total", Help: "Sessions that were open and have been cut, by the layer that refused.",
		}, []string{"layer"}),
	}
	for _, c := range []prometheus.Collector{m.decisions, m.latency, m.answers, m.cuts} {
		if err := in.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Sessions counts what is under way.
func (h *Handler) Sessions(in prometheus.Registerer) error {
	return in.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_gateway_sessions", Help: "Requests to members that are under way.",
	}, func() float64 { return float64(h.Open()) }))
}

func (m *Metrics) decided(verdict, layer string, took time.Duration) {
	if m != nil {
		m.decisions.WithLabelValues(verdict, layer).Inc()
		m.latency.Observe(took.Seconds())
	}
}

// answered by a member that is in the fleet, so that there are no more labels than
// clusters; verbs are those that an API server knows.
func (m *Metrics) answered(cluster, verb string, code int) {
	if m != nil {
		m.answers.WithLabelValues(cluster, verb, strconv.Itoa(code)).Inc()
	}
}

func (m *Metrics) cut(layer string) {
	if m != nil {
		m.cuts.WithLabelValues(layer).Inc()
	}
}
