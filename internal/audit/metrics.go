package audit

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// metrics are those of the newest audit, and none before there is one. Labels are
// names of guardrails, which administrators choose, and never of namespaces,
// grants or people.
type metrics struct {
	now atomic.Pointer[figures]

	grants, violations, errors, guardrails *prometheus.Desc
	writes                                 *prometheus.CounterVec
}

// figures of one audit. Immutable.
type figures struct {
	verdicts map[guardrail.Verdict]int
	tallies  []*tally
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		grants: prometheus.NewDesc("sallyport_grants",
			"Grants that stand, by whether they comply with the guardrails, as their condition Compliant says.", []string{"compliant"}, nil),
		violations: prometheus.NewDesc("sallyport_guardrail_violations",
			"Grants that violate the guardrail and are not excused.", []string{"guardrail", "enforcement"}, nil),
		errors: prometheus.NewDesc("sallyport_guardrail_errors",
			"Grants on which the guardrail could not be evaluated.", []string{"guardrail"}, nil),
		guardrails: prometheus.NewDesc("sallyport_guardrails",
			"Guardrails that are asked: InForce, or Stalled if they cannot be evaluated on anything.", []string{"state"}, nil),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_report_writes_total",
			Help: "Policy reports created, changed or deleted, by kind and by whether the hub took it.",
		}, []string{"kind", "outcome"}),
	}
	if r == nil {
		return m, nil
	}
	return m, r.Register(m)
}

func (m *metrics) record(a *Audit, guardrails []*tally) {
	f := &figures{verdicts: map[guardrail.Verdict]int{}, tallies: guardrails}
	for i := range a.Grants {
		f.verdicts[a.Grants[i].Judgement.Verdict]++
	}
	m.now.Store(f)
}

func (m *metrics) wrote(kind string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.writes.WithLabelValues(kind, outcome).Inc()
}

// Describe is prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.grants, m.violations, m.errors, m.guardrails} {
		to <- d
	}
	m.writes.Describe(to)
}

// Collect is prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.writes.Collect(to)
	f := m.now.Load()
	if f == nil {
		return
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(m.grants, f.verdicts[guardrail.Allowed], "True")
	gauge(m.grants, f.verdicts[guardrail.Denied], "False")
	gauge(m.grants, f.verdicts[guardrail.Undecided], "Unknown")
	stalled, inForce := 0, 0
	for _, t := range f.tallies {
		if t.bundle() {
			continue
		}
		gauge(m.violations, t.violated, t.policy, enforcementOf(t.enforcement))
		gauge(m.errors, t.failed, t.policy)
		switch {
		case t.of.Kind == "": // not a guardrail of anyone's
		case t.err != nil:
			stalled++
		default:
			inForce++
		}
	}
	gauge(m.guardrails, inForce, "InForce")
	gauge(m.guardrails, stalled, "Stalled")
}
