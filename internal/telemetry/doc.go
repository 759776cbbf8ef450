// Package telemetry is what the servers that decide tell about themselves to operators:
// metrics for Prometheus and traces for OpenTelemetry. Traces are off unless an endpoint
// is named, and cost nothing then. No trace has a body, a query or a credential in it.
package telemetry
