package guardrailbundle

import "github.com/prometheus/client_golang/prometheus"

// Register the metrics of a reconciler that no manager runs.
func Register(r *Reconciler, with prometheus.Registerer) error { return r.instruments().register(with) }
