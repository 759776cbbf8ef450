package route

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/internal/identity"
)

// metrics of routes, by which an alert can tell a member that will soon be out of
// reach from one that is.
type metrics struct {
	ready  *prometheus.GaugeVec
	expiry *prometheus.GaugeVec
	tokens *prometheus.CounterVec
}

func (r *Reconciler) instruments() *metrics {
	r.once.Do(func() {
		r.metrics = &metrics{
			ready: prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: "sallyport_route_ready",
				Help: "1 where the last look at a member found its route in order, 0 where something was wrong.",
			}, []string{"cluster"}),
			expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: "sallyport_route_token_expiry_timestamp_seconds",
				Help: "Unix time at which the token that the gateway has for a member expires. Absent for one that does not.",
			}, []string{"cluster"}),
			tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "sallyport_route_tokens_total",
				Help: "Tokens handed to the gateway, by where they are from.",
			}, []string{"issuer"}),
		}
	})
	return r.metrics
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.ready), with.Register(m.expiry), with.Register(m.tokens))
}

func (m *metrics) record(s *seen, route *identity.Route, o outcome) {
	if s.member == nil {
		m.ready.DeleteLabelValues(s.cluster)
		m.expiry.DeleteLabelValues(s.cluster)
		return
	}
	ready := 0.0
	if o.reason == reasonReady {
		ready = 1
	}
	m.ready.WithLabelValues(s.cluster).Set(ready)
	switch {
	case route != nil && !route.Expires.IsZero():
		m.expiry.WithLabelValues(s.cluster).Set(float64(route.Expires.Unix()))
	case route != nil || o.gone:
		m.expiry.DeleteLabelValues(s.cluster)
	}
}
