package authz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
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
	// vouches for.
	ClientNames []string
	// HealthAddr and MetricsAddr are without authentication; "0" for none.
	HealthAddr, MetricsAddr string
	// Cluster, AllowFromGrants and Exempt are as HandlerOptions has them.
	Cluster         string
	AllowFromGrants bool
	Exempt          []string
	// RequireCeiling is to be as the controller has it.
	RequireCeiling bool
	// MaxStaleness is for how long the index is used while the hub does not confirm it.
	MaxStaleness time.Duration
	// DrainTimeout is how long what is under way may take when it is to end.
	DrainTimeout time.Duration
	Log          decisionlog.Options
	Traces       telemetry.TracesOptions
}

// NewOptions has the defaults.
func NewOptions() *Options {
	return &Options{
		SallyportNamespace: "sallyport-system", Addr: ":8443", HealthAddr: ":8081", MetricsAddr: ":8080",
		MaxStaleness: 10 * time.Minute, DrainTimeout: 10 * time.Second, Log: *decisionlog.NewOptions(),
		Traces: telemetry.TracesOptions{Service: "sallyport-authorizer", Ratio: 1},
	}
}

// Validate says what cannot be.
func (o *Options) Validate() error {
	if o.CertFile == "" || o.KeyFile == "" {
		return errors.New("--tls-cert-file and --tls-private-key-file are needed: API servers have to know whom they ask")
	}
	if o.ClientCAFile == "" {
		return errors.New("--client-ca-file is needed: a review tells who may do what, and is for API servers only")
	}
	return nil
}

// Server is one replica.
type Server struct {
	manager ctrl.Manager
	log     *decisionlog.Log
	traces  *telemetry.Traces
	serving *genericapiserver.SecureServingInfo
	handler http.Handler
	drain   time.Duration
}

// New makes a server. It listens, and answers nothing before Run.
func New(ctx context.Context, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	metrics := prometheus.NewRegistry()
	mgr, access, err := snapshot.NewManager(o.Hub, snapshot.Options{
		Namespace: o.SallyportNamespace, MetricsAddr: "0", ProbeAddr: o.HealthAddr,
		RequireCeiling: o.RequireCeiling, MaxStaleness: o.MaxStaleness, Metrics: metrics,
	})
	if err != nil {
		return nil, err
	}
	s := &Server{manager: mgr, drain: o.DrainTimeout}
	if s.traces, err = telemetry.NewTraces(ctx, o.Traces); err != nil {
		return nil, err
	}
	o.Log.Metrics, o.Log.Logger = metrics, log.Log.WithName("decisionlog")
	if s.log, err = decisionlog.New(o.Log); err != nil {
		return nil, err
	}
	counted, err := NewMetrics(metrics)
	if err != nil {
		return nil, fmt.Errorf("cannot count reviews: %w", err)
	}
	decides := NewHandler(HandlerOptions{
		Index: access, Cluster: o.Cluster, AllowFromGrants: o.AllowFromGrants, Exempt: o.Exempt,
		Log: s.log, Metrics: counted, Tracer: s.traces.Provider().Tracer("sallyport/authorizer"),
	})
	if s.serving, s.handler, err = serve(ctx, &o, decides); err != nil {
		return nil, errors.Join(err, s.log.Close(ctx))
	}
	if o.MetricsAddr != "0" {
		if err := mgr.Add(&manager.Server{Name: "metrics", Server: &http.Server{
			Addr: o.MetricsAddr, Handler: telemetry.Metrics(metrics, prometheus.DefaultGatherer), ReadHeaderTimeout: 10 * time.Second,
		}}); err != nil {
			return nil, err
		}
	}
	return s, mgr.Add(replica(s.listen))
}

// serve by mutual TLS.
func serve(ctx context.Context, o *Options, decides http.Handler) (*genericapiserver.SecureServingInfo, http.Handler, error) {
	cert, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving", o.CertFile, o.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use the serving certificate: %w", err)
	}
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("clients", o.ClientCAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use the clients' CA: %w", err)
	}
	if o.Listener == nil {
		if o.Listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr); err != nil {
			return nil, nil, err
		}
	}
	return &genericapiserver.SecureServingInfo{Listener: o.Listener, Cert: cert, ClientCA: ca}, onlyClients(paths(decides), ca, o.ClientNames), nil
}

func paths(decides http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{Path, Path + "/{$}", Path + "/{cluster}", Path + "/{cluster}/{$}"} {
		mux.Handle(path, decides)
	}
	return mux
}

// onlyClients lets in whom the CA vouches for, by name if there are names.
func onlyClients(next http.Handler, ca *dynamiccertificates.DynamicFileCAContent, names []string) http.Handler {
	verify := x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok, err := verify.AuthenticateRequest(r)
		switch {
		case err != nil || !ok:
			http.Error(w, "a client certificate is needed", http.StatusUnauthorized)
		case len(names) > 0 && !slices.Contains(names, who.User.GetName()):
			http.Error(w, "the client certificate is of nobody who may ask", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// replica runs on every replica.
type replica func(context.Context) error

// Start runs it.
func (f replica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection is false.
func (f replica) NeedLeaderElection() bool { return false }

// listen until the context is done, and for as long as it takes to answer what is under
// way.
func (s *Server) listen(ctx context.Context) error {
	stop := make(chan struct{})
	stopped, _, err := s.serving.Serve(s.handler, s.drain, stop)
	if err != nil {
		return fmt.Errorf("cannot serve: %w", err)
	}
	<-ctx.Done()
	close(stop)
	<-stopped
	return nil
}

// Run until the context is done.
func (s *Server) Run(ctx context.Context) error {
	err := s.manager.Start(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	return errors.Join(err, s.log.Close(closing), s.traces.Shutdown(closing))
}
