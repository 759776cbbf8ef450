package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// flushTimeout is for what has to be written at the end: log and traces.
const flushTimeout = 5 * time.Second

// Run serves until the context is done, and then ends in order: unready first, then no
// more requests, then without sessions. What decides goes on until the last has gone.
func (g *Gateway) Run(ctx context.Context) error {
	behind, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	ctx, end := context.WithCancel(ctx)
	defer end()

	failed := make(chan error, 3)
	background := func(what string, run func(context.Context) error) {
		go func() {
			if err := run(behind); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
				end() // no replica goes on without a part of it
				return
			}
			failed <- nil
		}()
	}
	background("cannot read the hub", g.manager.Start)
	prepared := g.server.PrepareRun()
	health := http.NewServeMux()
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		// Past authentication: a kubelet has no name here. There is no detail for it
		// beyond which check failed.
		health.Handle(path, g.server.UnprotectedHandler())
	}
	background("cannot serve health", plainServer(g.options.HealthAddr, health))
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", telemetry.Metrics(g.metrics, ctrlmetrics.Registry, legacyregistry.DefaultGatherer))
	background("cannot serve metrics", plainServer(g.options.MetricsAddr, metrics))

	err := prepared.RunWithContext(ctx)
	stop(nil)
	errs := []error{err}
	for range 3 {
		errs = append(errs, <-failed)
	}
	flush, done := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer done()
	errs = append(errs, g.log.Close(flush), g.traces.Shutdown(flush))
	return errors.Join(errs...)
}

// plainServer serves on an address until the context is done; "0" and "" are none.
func plainServer(addr string, h http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		if addr == "0" || addr == "" {
			<-ctx.Done()
			return nil
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
		ended := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer ended()
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
