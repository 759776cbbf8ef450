package authz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// Path at which reviews are answered: of the default cluster, and below it of others by
// name. kube-apiserver adds a slash to what its kubeconfig says and takes off a query
// (client-go's rest.NewRESTClient), so that a name in the path is what it can send.
const Path = "/authorize"

// Options of New. NewOptions has the defaults.
type Options struct {
	// Hub that grants and guardrails are read from.
	Hub *rest.Config
	// SallyportNamespace is the controller's, with what was made of bundles.
	SallyportNamespace string
	// Addr to listen on, unless there is a Listener.
	Addr     string
	Listener net.Listener
	// CertFile and KeyFile serve; ClientCAFile verifies who asks. All are read again when
	// they change.
	CertFile, KeyFile, ClientCAFile string
	// ClientNames are the common names of those who may ask; empty for all whom the CA
	// vouches for. One of the form NAME=CLUSTER may ask about that cluster only.
	ClientNames []string
	// HealthAddr and MetricsAddr are without authentication; "0" for none.
	HealthAddr, MetricsAddr string
	// Cluster, HubCluster, AllowFromGrants, Exempt, Help and MaxRequests are as
	// HandlerOptions has them.
	Cluster, HubCluster string
	AllowFromGrants     bool
	Exempt              []string
	Help                string
	MaxRequests         int
	// RequireCeiling is to be as the controller has it.
	RequireCeiling bool
	// MaxStaleness is for how long the index is used while the hub does not confirm it.
	MaxStaleness time.Duration
	// ShutdownDelay is from turning unready to taking no more requests, DrainTimeout from
	// then to cutting what is still under way.
	ShutdownDelay, DrainTimeout time.Duration
	Log                         decisionlog.Options
	Traces                      telemetry.TracesOptions
}

// NewOptions has the defaults.
func NewOptions() *Options {
	return &Options{
		SallyportNamespace: "sallyport-system", Addr: ":8443", HealthAddr: ":8081", MetricsAddr: ":8080", MaxRequests: 1000,
		MaxStaleness: 10 * time.Minute, ShutdownDelay: 10 * time.Second, DrainTimeout: 10 * time.Second, Log: *decisionlog.NewOptions(),
		Traces: telemetry.TracesOptions{Service: "sallyport-authorizer", Ratio: 1},
	}
}

// Validate says what cannot be.
func (o *Options) Validate() error {
	var errs []error
	if o.CertFile == "" || o.KeyFile == "" {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file are needed: API servers have to know whom they ask"))
	}
	if o.ClientCAFile == "" {
		errs = append(errs, errors.New("--client-ca-file is needed: a review tells who may do what, and is for API servers only"))
	}
	if o.ShutdownDelay < 0 || o.DrainTimeout < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	for _, name := range []string{o.Cluster, o.HubCluster} {
		if name != "" && !isName(name) {
			errs = append(errs, fmt.Errorf("%q is no name of a cluster", name))
		}
	}
	return errors.Join(errs...)
}

// Server is one replica.
type Server struct {
	options  Options
	manager  ctrl.Manager
	log      *decisionlog.Log
	traces   *telemetry.Traces
	serving  *serving
	draining atomic.Bool
}

// New makes a server. It listens, and answers nothing before Run.
func New(ctx context.Context, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{options: o}
	metrics := prometheus.NewRegistry()
	var access *snapshot.Access
	var err error
	s.manager, access, err = snapshot.NewManager(o.Hub, snapshot.Options{
		Namespace: o.SallyportNamespace, MetricsAddr: "0", ProbeAddr: o.HealthAddr,
		RequireCeiling: o.RequireCeiling, MaxStaleness: o.MaxStaleness, Metrics: metrics,
	})
	if err != nil {
		return nil, err
	}
	if err := s.manager.AddReadyzCheck("serving", s.ready); err != nil {
		return nil, err
	}
	if o.MetricsAddr != "0" {
		if err := s.manager.Add(&manager.Server{Name: "metrics", Server: &http.Server{
			Addr: o.MetricsAddr, Handler: telemetry.Metrics(metrics, prometheus.DefaultGatherer), ReadHeaderTimeout: readTimeout,
		}}); err != nil {
			return nil, err
		}
	}
	if s.traces, err = telemetry.NewTraces(ctx, o.Traces); err != nil {
		return nil, err
	}
	o.Log.Metrics, o.Log.Logger = metrics, log.Log.WithName("decisionlog")
	if s.log, err = decisionlog.New(o.Log); err != nil {
		return nil, err
	}
	counted, err := NewMetrics(metrics)
	if err == nil {
		decides := NewHandler(HandlerOptions{
			Index: access, Ready: access.Ready, Cluster: o.Cluster, Hub: o.HubCluster, AllowFromGrants: o.AllowFromGrants, Exempt: o.Exempt,
			Help: o.Help, MaxRequests: o.MaxRequests, Log: s.log, Metrics: counted, Tracer: s.traces.Provider().Tracer("sallyport/authorizer"),
		})
		if err = decides.UnderWay(metrics); err == nil {
			s.serving, err = newServing(ctx, &o, decides, s.traces)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.log.Close(ctx))
	}
	return s, nil
}

// ready to be sent reviews.
func (s *Server) ready(*http.Request) error {
	if s.draining.Load() {
		return errors.New("this replica is ending")
	}
	return nil
}

// Addr that it listens on.
func (s *Server) Addr() net.Addr { return s.serving.listener.Addr() }

// Run serves until the context is done, and then ends in order: unready first, then no
// more reviews. What decides goes on until the last is answered.
func (s *Server) Run(ctx context.Context) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, end := context.WithCancel(ctx)
	defer end()
	failed := make(chan error, 1)
	go func() {
		defer end() // no replica goes on without what it decides by
		failed <- s.manager.Start(behind)
	}()
	err := s.serving.run(ctx, func() {
		s.draining.Store(true)
		noticed := time.NewTimer(s.options.ShutdownDelay)
		defer noticed.Stop()
		select {
		case <-noticed.C:
		case e := <-failed:
			failed <- e
		}
	}, s.options.DrainTimeout)
	stop()
	err = errors.Join(err, <-failed)
	flush, done := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer done()
	return errors.Join(err, s.log.Close(flush), s.traces.Shutdown(flush))
}

// flushTimeout is for what has to be written at the end: log and traces.
const flushTimeout = 5 * time.Second
