package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// readTimeout is for a request, which comes in one piece.
const readTimeout = 10 * time.Second

// serving by mutual TLS.
type serving struct {
	listener net.Listener
	server   *http.Server
	cert     *dynamiccertificates.DynamicCertKeyPairContent
	ca       *dynamiccertificates.DynamicFileCAContent
	current  *dynamiccertificates.DynamicServingCertificateController
}

func newServing(ctx context.Context, o *Options, decides *Handler, traces *telemetry.Traces) (*serving, error) {
	cert, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving", o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cannot use the serving certificate: %w", err)
	}
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("clients", o.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot use the clients' CA: %w", err)
	}
	names, err := newClients(ca.VerifyOptions, o.ClientNames)
	if err != nil {
		return nil, err
	}
	s := &serving{listener: o.Listener, cert: cert, ca: ca}
	s.current = dynamiccertificates.NewDynamicServingCertificateController(&tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true, // who comes back is verified by the CA of that time
	}, ca, cert, nil, nil)
	cert.AddListener(s.current)
	ca.AddListener(s.current)
	if err := s.current.RunOnce(); err != nil {
		return nil, fmt.Errorf("cannot use the serving certificate: %w", err)
	}
	s.server = &http.Server{
		Handler:   traces.Handler(paths(names.only(decides)), func(*http.Request) string { return "authorize" }),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: s.current.GetConfigForClient},
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, vouched{}, new(vouched))
		},
		ReadTimeout: readTimeout, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 16 << 10,
		// An API server has one connection, with a stream for each request that waits.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	if s.listener == nil {
		if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run until the context is done; then drain, and end within the timeout.
func (s *serving) run(ctx context.Context, drain func(), timeout time.Duration) error {
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go s.cert.Run(follow, 1)
	go s.ca.Run(follow, 1)
	go s.current.Run(1, follow.Done())
	ended := make(chan error, 1)
	go func() { ended <- s.server.ServeTLS(s.listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve: %w", err)
	case <-ctx.Done():
	}
	drain()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if s.server.Shutdown(last) != nil {
		_ = s.server.Close() // what is left is cut
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

func paths(decides http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{Path, Path + "/{$}", Path + "/{cluster}", Path + "/{cluster}/{$}"} {
		mux.Handle(path, decides)
	}
	return mux
}

// clients are those who may ask.
type clients struct {
	verify func() (x509.VerifyOptions, bool)
	// clusters by the name in the certificate; "" for all. Nil for every name.
	clusters map[string]string
}

func newClients(verify func() (x509.VerifyOptions, bool), names []string) (*clients, error) {
	c := &clients{verify: verify}
	for _, entry := range names {
		name, cluster, bound := strings.Cut(entry, "=")
		if _, twice := c.clusters[name]; twice || name == "" || bound && !isName(cluster) {
			return nil, fmt.Errorf("%q is no client: NAME or NAME=CLUSTER is expected, and each name once", entry)
		}
		if c.clusters == nil {
			c.clusters = map[string]string{}
		}
		c.clusters[name] = cluster
	}
	return c, nil
}

// vouched is what the certificates of a connection were last verified by, and until when
// they are good.
type vouched struct{ by atomic.Pointer[voucher] }

type voucher struct {
	roots *x509.CertPool
	until time.Time
}

// only lets in whom the CA vouches for, by name if there are names.
func (c *clients) only(next *Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || !c.good(r) {
			next.fail(w, &failure{http.StatusUnauthorized, "a client certificate is needed", "refused"})
			return
		}
		if c.clusters != nil {
			only, known := c.clusters[r.TLS.PeerCertificates[0].Subject.CommonName]
			about, err := next.clusterOf(r)
			if !known || only != "" && (err != nil || about != only) {
				next.fail(w, &failure{http.StatusForbidden, "the client certificate is of nobody who may ask this", "refused"})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// good reports whether the certificates of a connection are, by the CA as it now is. A
// connection lasts for days, and what it began with may be withdrawn or may have ended. To
// verify takes longer than to decide, so it is done once for each CA.
func (c *clients) good(r *http.Request) bool {
	options, ok := c.verify()
	if !ok || options.Roots == nil {
		return false
	}
	v, ok := r.Context().Value(vouched{}).(*vouched)
	if !ok {
		return false
	}
	now := time.Now()
	if by := v.by.Load(); by != nil && by.roots == options.Roots && now.Before(by.until) {
		return true
	}
	shown := r.TLS.PeerCertificates
	options.CurrentTime, options.Intermediates = now, x509.NewCertPool()
	for _, i := range shown[1:] {
		options.Intermediates.AddCert(i)
	}
	chains, err := shown[0].Verify(options)
	if err != nil {
		return false
	}
	by := &voucher{roots: options.Roots}
	for _, one := range chains[0] {
		if by.until.IsZero() || one.NotAfter.Before(by.until) {
			by.until = one.NotAfter
		}
	}
	v.by.Store(by)
	return true
}
