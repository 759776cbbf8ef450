package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/authn"
	"github.com/sallyport-dev/sallyport/internal/gateway/clusters"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
	"github.com/sallyport-dev/sallyport/internal/gateway/proxy"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
	"github.com/sallyport-dev/sallyport/internal/telemetry"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Gateway is one replica.
type Gateway struct {
	options Options
	metrics *prometheus.Registry

	manager ctrl.Manager
	members *transport.Members
	proxy   *proxy.Handler
	log     *decisionlog.Log
	traces  *telemetry.Traces
	server  *genericapiserver.GenericAPIServer

	// routes reports whether all routes have been seen; nil until they are watched.
	routes atomic.Pointer[func() bool]
}

// New makes a gateway by the options, for as long as the context lasts. It listens, and
// serves nothing before Run.
func New(ctx context.Context, o Options) (_ *Gateway, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{options: o, metrics: prometheus.NewRegistry()}
	if g.traces, err = telemetry.NewTraces(ctx, o.Traces); err != nil {
		return nil, err
	}
	access, err := g.read()
	if err != nil {
		return nil, err
	}
	// The hub bounds what it is asked by its own priority and fairness: a queue here would
	// delay people, and say nothing.
	unbounded := rest.CopyConfig(o.Hub)
	unbounded.QPS, unbounded.Burst = -1, 0
	unbounded.ContentType, unbounded.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	unbounded.Wrap(g.traces.Transport)
	asks, err := kubernetes.NewForConfig(unbounded)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the hub: %w", err)
	}
	if err := g.decide(access, asks); err != nil {
		return nil, err
	}
	if g.server, err = g.serve(ctx, access, asks); err != nil {
		return nil, errors.Join(err, g.log.Close(ctx))
	}
	return g, nil
}

// read makes what knows the guardrails, the grants and the routes.
func (g *Gateway) read() (*snapshot.Access, error) {
	o := &g.options
	manager, access, err := snapshot.NewManager(o.Hub, snapshot.Options{
		Namespace: o.SallyportNamespace, MetricsAddr: "0", ProbeAddr: "0",
		RequireCeiling: o.RequireCeiling, MaxStaleness: o.MaxStaleness, Metrics: g.metrics,
		Cached: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{o.Namespace: {}}},
		},
	})
	if err != nil {
		return nil, err
	}
	g.manager = manager
	m, err := transport.NewMetrics(g.metrics)
	if err != nil {
		return nil, fmt.Errorf("cannot count connections: %w", err)
	}
	members := transport.MembersOptions{HTTP2: o.MemberHTTP2, Metrics: m}
	if o.ClusterProxy.Address != "" {
		members.Tunnel = o.ClusterProxy.Dial
	}
	g.members = transport.NewMembers(o.Namespace, members)
	return access, manager.Add(replica(func(ctx context.Context) error {
		synced, err := g.members.Watch(ctx, manager.GetCache(), func(err error) {
			log.FromContext(ctx).Error(err, "Cannot use a route")
		})
		if err != nil {
			return err
		}
		g.routes.Store(&synced)
		<-ctx.Done()
		return nil
	}))
}

// decide makes what judges requests to members, and forwards them.
func (g *Gateway) decide(access *snapshot.Access, asks kubernetes.Interface) error {
	o := &g.options
	o.Log.Metrics, o.Log.Logger = g.metrics, log.Log.WithName("decisionlog")
	var err error
	if g.log, err = decisionlog.New(o.Log); err != nil {
		return err
	}
	m, err := proxy.NewMetrics(g.metrics)
	if err != nil {
		return fmt.Errorf("cannot count decisions: %w", err)
	}
	g.proxy = proxy.New(proxy.Options{
		Index: access, Members: g.members, Hub: hub.New(asks.AuthorizationV1().SubjectAccessReviews(), o.HubReviews), Log: g.log,
		Lenient: o.Lenient, Exempt: o.Exempt, Extra: o.Extra, Help: o.Help, Limits: o.Limits, Timeout: o.RequestTimeout,
		Metrics: m, Tracer: g.traces.Provider().Tracer("sallyport/gateway"),
	})
	return errors.Join(g.proxy.Sessions(g.metrics), g.manager.Add(replica(g.proxy.Run)))
}

// serve makes the API server.
func (g *Gateway) serve(ctx context.Context, access *snapshot.Access, asks kubernetes.Interface) (*genericapiserver.GenericAPIServer, error) {
	o := &g.options
	who := o.Authentication
	who.Hub = asks
	authentication, err := authn.New(ctx, who)
	if err != nil {
		return nil, err
	}
	authorizer, err := newAuthorizer(asks)
	if err != nil {
		return nil, err
	}
	certificate, err := certificateOf(&o.Serving)
	if err != nil {
		return nil, err
	}
	if o.Serving.Listener == nil {
		if o.Serving.Listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Serving.Addr); err != nil {
			return nil, err
		}
	}
	server, storage, err := newAPIServer(apiConfig{
		listener: o.Serving.Listener, certificate: certificate, authentication: authentication, authorizer: authorizer,
		access: access, routes: g.members, members: g.proxy, traces: g.traces,
		requestTimeout: o.RequestTimeout, shutdownDelay: o.ShutdownDelay, maxInFlight: o.OwnRequests,
		ready: []healthz.HealthChecker{healthz.NamedCheck("access", access.Ready), healthz.NamedCheck("routes", g.routesKnown)},
	})
	if err != nil {
		return nil, err
	}
	return server, server.AddPreShutdownHook("drain", func() error {
		g.drain(storage)
		return nil
	})
}

func (g *Gateway) routesKnown(*http.Request) error {
	if synced := g.routes.Load(); synced == nil || !(*synced)() {
		return errors.New("the routes to members are not known yet")
	}
	return nil
}

// drain is called when the gateway is to end: it is unready from now on. It goes on for as
// long as others may not have noticed, and then lets what is under way end.
func (g *Gateway) drain(storage *clusters.Storage) {
	noticed := time.NewTimer(g.options.ShutdownDelay)
	defer noticed.Stop()
	<-noticed.C
	ctx, cancel := context.WithTimeout(context.Background(), g.options.DrainTimeout)
	defer cancel()
	storage.Drain()
	g.proxy.Drain(ctx)
}

// Addr that it listens on.
func (g *Gateway) Addr() net.Addr { return g.options.Serving.Listener.Addr() }

func certificateOf(s *ServingOptions) (dynamiccertificates.CertKeyContentProvider, error) {
	if !s.SelfSigned {
		pair, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving", s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cannot load the certificate: %w", err)
		}
		return pair, nil
	}
	cert, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	pair, err := dynamiccertificates.NewStaticCertKeyContent("serving", cert, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	return pair, nil
}

// replica is what runs in each of them, and not in a leader.
type replica func(context.Context) error

func (r replica) Start(ctx context.Context) error { return r(ctx) }

func (replica) NeedLeaderElection() bool { return false }
