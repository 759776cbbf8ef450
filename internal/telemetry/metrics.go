package telemetry

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Metrics serves what the gatherers have. Of a family that several of them have, such as
// that of the Go runtime, the first one's is told.
func Metrics(of ...prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(first(of), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

type first []prometheus.Gatherer

// Gather them all.
func (of first) Gather() ([]*dto.MetricFamily, error) {
	var all []*dto.MetricFamily
	var errs []error
	seen := map[string]bool{}
	for _, g := range of {
		families, err := g.Gather()
		errs = append(errs, err)
		for _, f := range families {
			if !seen[f.GetName()] {
				seen[f.GetName()] = true
				all = append(all, f)
			}
		}
	}
	return all, errors.Join(errs...)
}
