package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	if got := gather(t, registry); len(got) > 0 {
		t.Errorf("got %v before there is an audit, want nothing claimed", got)
	}
	a := first()
	a.Grants = append(a.Grants, judged("b", "five", guardrail.Reason{Guardrail: "ceiling", Enforcement: v1alpha1.EnforcementDeny, Failed: true}))
	a.Guardrails = append(a.Guardrails, &guardrail.Guardrail{Name: "broken", Enforcement: v1alpha1.EnforcementAudit})
	a.Bundles = []Bundle{{Name: "late", Err: errEvil("late")}}
	m.record(&a, tallies(&a))
	m.wrote("Report", nil)
	m.wrote("Report", errEvil("refused"))
	want := []string{
		`sallyport_grants{compliant=False} 1`,
		`sallyport_grants{compliant=True} 3`,
		`sallyport_grants{compliant=Unknown} 1`,
		`sallyport_guardrail_errors{guardrail=broken} 0`,
		`sallyport_guardrail_errors{guardrail=ceiling} 1`,
		`sallyport_guardrail_errors{guardrail=tickets} 0`,
		`sallyport_guardrail_violations{enforcement=Audit,guardrail=broken} 0`,
		`sallyport_guardrail_violations{enforcement=Deny,guardrail=ceiling} 1`,
		`sallyport_guardrail_violations{enforcement=Warn,guardrail=tickets} 1`,
		`sallyport_guardrails{state=InForce} 2`,
		`sallyport_guardrails{state=Stalled} 1`,
		`sallyport_report_writes_total{kind=Report,outcome=failed} 1`,
		`sallyport_report_writes_total{kind=Report,outcome=ok} 1`,
	}
	if d := cmp.Diff(want, gather(t, registry)); d != "" {
		t.Error(d)
	}
	if _, err := New(Config{Metrics: registry}); err == nil {
		t.Error("two auditors with one registry: want an error")
	}
}

// gather what a scrape would, as text.
func gather(t *testing.T, from prometheus.Gatherer) []string {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			out = append(out, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), value))
		}
	}
	slices.Sort(out)
	return out
}

// Of the labels none grows with the fleet.
func TestMetricsAreBounded(t *testing.T) {
	count := func(grants int) int {
		registry := prometheus.NewPedanticRegistry()
		m, err := newMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		a := fleetOf(grants, 4)
		m.record(a, tallies(a))
		return len(gather(t, registry))
	}
	if few, many := count(1), count(3000); few != many {
		t.Errorf("%d series with one grant and %d with 3000", few, many)
	}
}
