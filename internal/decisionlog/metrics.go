package decisionlog

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// register the metrics of a sink.
func (s *sink) register(in prometheus.Registerer) error {
	if in == nil {
		return nil
	}
	counter := func(name, help string, of func() uint64, labels prometheus.Labels) prometheus.Collector {
		labels["sink"] = s.to.name()
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(of()) })
	}
	gauge := func(name, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"sink": s.to.name()}}, func() float64 { return float64(of()) })
	}
	all := []prometheus.Collector{
		counter("sallyport_decision_log_entries_total", "Entries that were written to the decision log.", s.written.Load, prometheus.Labels{}),
		gauge("sallyport_decision_log_queue_entries", "Entries that wait to be written to the decision log.", func() int { n, _ := s.queue.length(); return n }),
		gauge("sallyport_decision_log_queue_bytes", "Memory that they take, about.", func() int { _, n := s.queue.length(); return n }),
	}
	for r, name := range reasonNames {
		all = append(all, counter("sallyport_decision_log_dropped_total", "Entries that did not get into the decision log, by reason.", s.dropped[r].Load, prometheus.Labels{"reason": name}))
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, in.Register(c))
	}
	return errors.Join(errs...)
}
