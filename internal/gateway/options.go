package gateway

import (
	"errors"
	"net"
	"os"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/authn"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
	"github.com/sallyport-dev/sallyport/internal/gateway/proxy"
	"github.com/sallyport-dev/sallyport/internal/telemetry"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Options of New. NewOptions has the defaults.
type Options struct {
	// Hub by which everything is read and asked.
	Hub *rest.Config
	// Namespace is the gateway's own, whose Secrets are the routes.
	Namespace string
	// SallyportNamespace is the controller's, with what was made of bundles.
	SallyportNamespace string
	// Version of the program, for traces.
	Version string

	Serving ServingOptions
	// HealthAddr and MetricsAddr serve /livez and /readyz, and /metrics, without
	// authentication; "0" for none.
	HealthAddr, MetricsAddr string

	// Authentication but for the client of the hub, which New makes.
	Authentication authn.Options
	// HubReviews are how long the hub's answers are kept.
	HubReviews hub.Options

	// Lenient has the hub decide where no grant does.
	Lenient bool
	// Exempt are users whom neither guardrails nor the want of a grant stop.
	Exempt []string
	// Extra of identities that members are told.
	Extra proxy.Extra
	// Help is told to who has no grant.
	Help string
	// RequireCeiling is to be as the controller has it.
	RequireCeiling bool
	// MaxStaleness is for how long the index is used while the hub does not confirm it.
	MaxStaleness time.Duration

	Limits proxy.Limits
	// OwnRequests that may be under way at once, for clusters and discovery.
	OwnRequests int
	// RequestTimeout is of what ends by itself.
	RequestTimeout time.Duration
	// ShutdownDelay is from turning unready to taking no more requests, DrainTimeout from
	// then to cutting what is still under way.
	ShutdownDelay, DrainTimeout time.Duration

	// MemberHTTP2 has requests to a member share a connection.
	MemberHTTP2 bool
	// ClusterProxy, if it has an address, dials members that are reached by it.
	ClusterProxy transport.ClusterProxy

	Log    decisionlog.Options
	Traces telemetry.TracesOptions
}

// ServingOptions are where and by which certificate the gateway is served.
type ServingOptions struct {
	// Addr to listen on, unless there is a Listener.
	Addr     string
	Listener net.Listener
	// CertFile and KeyFile are read again when they change.
	CertFile, KeyFile string
	// SelfSigned makes a certificate that nobody can verify, in place of files.
	SelfSigned bool
}

// NewOptions has the defaults.
func NewOptions() *Options {
	return &Options{
		Namespace: "sallyport-gateway", SallyportNamespace: "sallyport-system",
		Serving: ServingOptions{Addr: ":8443"}, HealthAddr: ":8081", MetricsAddr: ":8080",
		Authentication: authn.Options{FrontProxy: true, TokenReview: true, TokenTTL: authn.MaxTokenTTL},
		HubReviews:     hub.Options{AllowTTL: hub.DefaultTTL, DenyTTL: hub.DefaultTTL},
		MaxStaleness:   10 * time.Minute,
		Limits:         proxy.Limits{Requests: 1000, RequestsPerUser: 100, RequestsPerCluster: 500, Sessions: 10_000, SessionsPerUser: 500},
		OwnRequests:    200, RequestTimeout: time.Minute,
		ShutdownDelay: 10 * time.Second, DrainTimeout: 30 * time.Second,
		Log:    *decisionlog.NewOptions(),
		Traces: telemetry.TracesOptions{Service: "sallyport-gateway", Ratio: 1},
	}
}

// Validate says what cannot be.
func (o *Options) Validate() error {
	var errs []error
	s := &o.Serving
	switch files := s.CertFile != "" && s.KeyFile != ""; {
	case s.SelfSigned && (s.CertFile != "" || s.KeyFile != ""):
		errs = append(errs, errors.New("--self-signed-certificate and certificate files exclude one another"))
	case !s.SelfSigned && !files:
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file are needed: clients have to know whom they talk to"))
	}
	if o.Namespace == "" || o.Namespace == o.SallyportNamespace {
		errs = append(errs, errors.New("the gateway needs a namespace of its own: it reads every Secret in it"))
	}
	a := &o.Authentication
	if a.TokenTTL < 0 || a.TokenTTL > authn.MaxTokenTTL {
		errs = append(errs, errors.New("--token-cache-ttl is to be from 0 to "+authn.MaxTokenTTL.String()))
	}
	for _, ttl := range []time.Duration{o.HubReviews.AllowTTL, o.HubReviews.DenyTTL} {
		if ttl > maxHubTTL {
			errs = append(errs, errors.New("the hub's answers are kept for no longer than "+maxHubTTL.String()))
		}
	}
	for _, d := range []time.Duration{o.RequestTimeout, o.ShutdownDelay, o.DrainTimeout} {
		if d < 0 {
			errs = append(errs, errors.New("a duration is negative"))
		}
	}
	if o.OwnRequests <= 0 {
		errs = append(errs, errors.New("--max-own-requests is to be positive"))
	}
	if o.Traces.Ratio < 0 || o.Traces.Ratio > 1 {
		errs = append(errs, errors.New("--otlp-ratio is to be from 0 to 1"))
	}
	errs = append(errs, o.Extra.Validate())
	if o.ClusterProxy.Address != "" {
		errs = append(errs, o.ClusterProxy.Validate())
	}
	if a.ConfigFile != "" {
		_, err := os.Stat(a.ConfigFile)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxHubTTL bounds what somebody whom the hub has turned away can still do.
const maxHubTTL = 10 * time.Second
