package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Names in the manifests.
const (
	DefaultService       = "sallyport-webhook"
	DefaultSecret        = "sallyport-webhook-certs"
	DefaultConfiguration = "sallyport-guardrails"
	// Path at which the webhook is served.
	Path = "/validate"
)

// maxBody is above what the API server can send: two versions of an object of the
// largest size that etcd takes.
const maxBody = 4 << 20

// Options of the webhook.
type Options struct {
	// Addr to listen on, such as ":9443".
	Addr string
	// CertDir has tls.crt and tls.key, which are read again when they change. Empty,
	// the certificate is made and renewed here, and kept in a Secret.
	CertDir string
	// Namespace is Sallyport's own.
	Namespace string
	// Service by which the API server reaches the webhook, Secret that keeps the
	// certificate, and Configuration, the ValidatingWebhookConfiguration that is told
	// of its authority; the names in the manifests if empty.
	Service, Secret, Configuration string

	Policy    Policy
	Inventory Inventory
	// Origin tells where a grant came from, as the compiler is told; nil for nowhere.
	Origin func(context.Context, *v1alpha1.AccessGrant) *guardrail.Source
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Setup has the manager serve the webhook, on every replica, and be ready only
// while the guardrails are known and there is a certificate to serve with.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	for value, fallback := range map[*string]string{&o.Service: DefaultService, &o.Secret: DefaultSecret, &o.Configuration: DefaultConfiguration} {
		if *value == "" {
			*value = fallback
		}
	}
	handler, err := NewHandler(mgr.GetScheme(), mgr.GetClient(), mgr.GetAPIReader(), o)
	if err != nil {
		return err
	}
	serverOptions, err := listen(o.Addr)
	if err != nil {
		return err
	}
	certified := func(context.Context) error { return nil }
	if serverOptions.CertDir = o.CertDir; o.CertDir == "" {
		authority, err := newAuthority(mgr, o)
		if err != nil {
			return err
		}
		certified = authority.ready
		serverOptions.TLSOpts = append(serverOptions.TLSOpts, func(c *tls.Config) { c.GetCertificate = authority.certificate })
	}
	server := webhook.NewServer(serverOptions)
	server.Register(Path, http.MaxBytesHandler(&webhook.Admission{Handler: handler}, maxBody))
	if err := mgr.Add(server); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("admission", func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if set, err := o.Policy.Current(ctx); err != nil || set == nil {
			return errors.New("the guardrails are not known yet")
		}
		return certified(ctx)
	})
}

func listen(addr string) (webhook.Options, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return webhook.Options{}, fmt.Errorf("cannot read the webhook's address %q: %w", addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return webhook.Options{}, fmt.Errorf("cannot read the webhook's address %q: %q is no port", addr, port)
	}
	return webhook.Options{
		Host: host, Port: int(n),
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }},
	}, nil
}
