package snapshot

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// metrics of an Access.
type metrics struct {
	snapshot, grants, confirmed prometheus.Gauge
	duration                    prometheus.Histogram
	failures                    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		snapshot: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_access_snapshot",
			Help: "Number of the snapshot that requests are decided by.",
		}),
		grants: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_access_grants",
			Help: "Grants that the snapshot was made of.",
		}),
		confirmed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_access_confirmed_timestamp_seconds",
			Help: "When the caches are last known to have had all that the hub had. An old instant means that revocations may not be seen.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sallyport_access_build_duration_seconds",
			Help:    "How long it took to make a snapshot of what had been read.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_access_failures_total",
			Help: "Times that what decides could not be read. Nothing widens meanwhile.",
		}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.snapshot, m.grants, m.confirmed, m.duration, m.failures} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) build(ix *effective.Index, grants int, took time.Duration) {
	m.snapshot.Set(float64(ix.Number()))
	m.grants.Set(float64(grants))
	m.duration.Observe(took.Seconds())
}

func (m *metrics) confirm(at time.Time) { m.confirmed.Set(float64(at.UnixNano()) / 1e9) }

func (m *metrics) fail() { m.failures.Inc() }
