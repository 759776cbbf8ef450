package telemetry

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// TracesOptions of NewTraces.
type TracesOptions struct {
	// Endpoint is host:port of an OTLP receiver over gRPC; "" for no traces.
	Endpoint string
	// Insecure is without TLS.
	Insecure bool
	// Ratio of requests that are traced, from 0 to 1.
	Ratio float64
	// Service and Version name the server.
	Service, Version string
}

// Traces of one server. The zero Traces are off.
type Traces struct {
	provider *sdktrace.TracerProvider
}

// NewTraces sends traces to the endpoint in the background. What cannot be sent is dropped.
func NewTraces(ctx context.Context, o TracesOptions) (*Traces, error) {
	if o.Endpoint == "" {
		return &Traces{}, nil
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(o.Endpoint)}
	if o.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot send traces to %q: %w", o.Endpoint, err)
	}
	return &Traces{provider: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version))),
	)}, nil
}

// On is whether anything is traced.
func (t *Traces) On() bool { return t != nil && t.provider != nil }

// Provider of tracers. It is never nil.
func (t *Traces) Provider() trace.TracerProvider {
	if !t.On() {
		return noop.NewTracerProvider()
	}
	return t.provider
}

// Shutdown sends what has not been sent.
func (t *Traces) Shutdown(ctx context.Context) error {
	if !t.On() {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// propagator is W3C's. Baggage is not passed on: it is the caller's, and not for members.
var propagator = propagation.TraceContext{}

// Handler traces what next is asked. A caller's own trace is linked to and not
// continued: they do not decide what is traced here.
func (t *Traces) Handler(next http.Handler, name func(*http.Request) string) http.Handler {
	if !t.On() {
		return next
	}
	return otelhttp.NewHandler(next, "request",
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagator),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return name(r) }),
	)
}

// Transport traces what is asked of others through next.
func (t *Traces) Transport(next http.RoundTripper) http.RoundTripper {
	if !t.On() {
		return next
	}
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagator))
}
