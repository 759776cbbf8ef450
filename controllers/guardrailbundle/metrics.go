package guardrailbundle

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

// metrics of bundles. Activations are counted by outcome, so that an alert can tell
// a bundle that is refused from a source that cannot be read.
type metrics struct {
	activations *prometheus.CounterVec
	revision    *prometheus.GaugeVec
	success     *prometheus.GaugeVec
}

func (r *Reconciler) instruments() *metrics {
	r.once.Do(func() {
		r.metrics = &metrics{
			activations: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "sallyport_guardrail_bundle_activations_total",
				Help: "Bundles put in force, and looks at a source that ended otherwise, by outcome.",
			}, []string{"bundle", "outcome"}),
			revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: "sallyport_guardrail_bundle_active_revision",
				Help: "The number of the revision in force.",
			}, []string{"bundle"}),
			success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
				Name: "sallyport_guardrail_bundle_last_success_timestamp_seconds",
				Help: "Unix time at which the source was last found to have the bundle that is in force.",
			}, []string{"bundle"}),
		}
	})
	return r.metrics
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.activations), with.Register(m.revision), with.Register(m.success))
}

func (m *metrics) record(before *v1alpha1.GuardrailBundle, d decision, now time.Time) {
	name := before.Name
	if d.active != nil {
		if r, err := bundle.ParseRevision(d.active.Revision); err == nil {
			m.revision.WithLabelValues(name).Set(float64(r.Number))
		}
	}
	switch d.reason {
	case v1alpha1.ReasonSuspended:
	case v1alpha1.ReasonInForce:
		m.success.WithLabelValues(name).Set(float64(now.Unix()))
		if was := before.Status.Active; was == nil || was.Digest != d.active.Digest {
			m.activations.WithLabelValues(name, d.reason).Inc()
		}
	default:
		m.activations.WithLabelValues(name, d.reason).Inc()
	}
}

// forget a bundle that is gone.
func (m *metrics) forget(name string) {
	m.activations.DeletePartialMatch(prometheus.Labels{"bundle": name})
	m.revision.DeleteLabelValues(name)
	m.success.DeleteLabelValues(name)
}
