package source

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one sync. Failures are counted by reason, so that an alert can tell
// a broken commit from a broken network.
type metrics struct {
	success  prometheus.Gauge
	revision *prometheus.GaugeVec
	failures *prometheus.CounterVec
	objects  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, sync string) (*metrics, error) {
	labels := prometheus.Labels{"sync": sync}
	m := &metrics{
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "sallyport_sync_last_success_timestamp_seconds",
			Help:        "Unix time at which the cluster was last found or made equal to the branch.",
			ConstLabels: labels,
		}),
		revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name:        "sallyport_sync_revision_info",
			Help:        "1 for the revision that is applied.",
			ConstLabels: labels,
		}, []string{"revision"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "sallyport_sync_failures_total",
			Help:        "Passes that failed, by reason.",
			ConstLabels: labels,
		}, []string{"reason"}),
		objects: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "sallyport_sync_objects",
			Help:        "Objects in the inventory.",
			ConstLabels: labels,
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.success), r.Register(m.revision), r.Register(m.failures), r.Register(m.objects))
}

func (m *metrics) record(st status, inv Inventory, now float64) {
	m.objects.Set(float64(len(inv)))
	m.revision.Reset()
	if st.applied != "" {
		m.revision.WithLabelValues(st.applied).Set(1)
	}
	switch st.reason {
	case ReasonApplied, ReasonWaiting:
		m.success.Set(now)
	default:
		m.failures.WithLabelValues(string(st.reason)).Inc()
	}
}
