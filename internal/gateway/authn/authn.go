package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/webhook"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
)

// MaxTokenTTL is for how long the hub's word on a token is kept at most.
const MaxTokenTTL = 10 * time.Second

// Options of New.
type Options struct {
	// Hub is asked about tokens, and has the ConfigMap of the aggregation layer.
	Hub kubernetes.Interface
	// FrontProxy is whether the hub's aggregation layer is believed.
	FrontProxy bool
	// ClientCAFile has the authorities of client certificates; "" for those of the hub.
	ClientCAFile string
	// ConfigFile is an apiserver.config.k8s.io AuthenticationConfiguration; "" for none.
	ConfigFile string
	// TokenReview is whether the hub is asked about tokens.
	TokenReview bool
	// Audiences that a token must be for, one of them; none for the hub's own.
	Audiences []string
	// TokenTTL is for how long the hub's word on a token is kept: MaxTokenTTL if zero.
	TokenTTL time.Duration
}

// Authentication is who is let in.
type Authentication struct {
	// Request authenticates one. It is never without an answer that is an error, or
	// somebody who has a name.
	Request authenticator.Request
	// ClientCA has the authorities of all client certificates that mean anything, for the
	// server to ask clients for. nil if none does.
	ClientCA dynamiccertificates.CAContentProvider
	// Headers are the front proxy's, which go no further; nil where there is none.
	Headers *authenticatorfactory.RequestHeaderConfig
	// Audiences that tokens must be for.
	Audiences authenticator.Audiences

	checks []func() error
}

// Ready is nil once everybody who is to be let in would be: the front proxy's CA is known,
// and the keys of each issuer.
func (a *Authentication) Ready(*http.Request) error {
	var errs []error
	for _, check := range a.checks {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}

// New is authentication by the options, for as long as the context lasts. The hub need
// not answer yet: see Ready.
func New(ctx context.Context, o Options) (*Authentication, error) {
	if o.TokenTTL <= 0 || o.TokenTTL > MaxTokenTTL {
		o.TokenTTL = MaxTokenTTL
	}
	a := &Authentication{Audiences: o.Audiences}
	clients, err := a.clientCertificates(o)
	if err != nil {
		return nil, err
	}
	var requests []authenticator.Request
	if o.FrontProxy {
		front, err := a.frontProxy(ctx, o.Hub, clients)
		if err != nil {
			return nil, err
		}
		requests = append(requests, front)
	}
	requests = append(requests, newShortcut(clients.VerifyOptions, x509.NewDynamic(clients.VerifyOptions, x509.CommonNameUserConversion), clock.RealClock{}, asBefore))
	tokens, err := a.tokens(ctx, o)
	if err != nil {
		return nil, err
	}
	if tokens != nil {
		requests = append(requests, bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))
	}
	a.Request = somebody{group.NewAuthenticatedGroupAdder(union.New(requests...))}
	return a, nil
}

func (a *Authentication) clientCertificates(o Options) (dynamiccertificates.CAContentProvider, error) {
	var clients dynamiccertificates.CAContentProvider
	var err error
	if o.ClientCAFile != "" {
		clients, err = dynamiccertificates.NewDynamicCAContentFromFile("client-ca", o.ClientCAFile)
	} else {
		clients, err = fromConfigMap("client-ca", "client-ca-file", o.Hub)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load the authorities of client certificates: %w", err)
	}
	a.ClientCA = clients
	return clients, nil
}

func (a *Authentication) frontProxy(ctx context.Context, hub kubernetes.Interface, clients dynamiccertificates.CAContentProvider) (authenticator.Request, error) {
	f, err := newFrontProxy(ctx, hub)
	if err != nil {
		return nil, fmt.Errorf("cannot trust the aggregation layer: %w", err)
	}
	a.Headers = f.config()
	a.ClientCA = dynamiccertificates.NewUnionCAContentProvider(clients, f)
	a.checks = append(a.checks, f.ready)
	headers := headerrequest.NewDynamic(a.Headers.UsernameHeaders, a.Headers.UIDHeaders, a.Headers.GroupHeaders, a.Headers.ExtraHeaderPrefixes)
	full := x509.NewDynamicCAVerifier(f.VerifyOptions, headers, a.Headers.AllowedClientNames)
	again := func(r *http.Request, _ *authenticator.Response) (*authenticator.Response, bool, error) {
		// Its name may not be allowed any more; who somebody is is said anew each time.
		if names := f.headers.AllowedClientNames(); len(names) > 0 && !slices.Contains(names, r.TLS.PeerCertificates[0].Subject.CommonName) {
			return full.AuthenticateRequest(r)
		}
		return headers.AuthenticateRequest(r)
	}
	return distinct{Request: newShortcut(f.VerifyOptions, full, clock.RealClock{}, again), front: f, clients: clients}, nil
}

// tokens are told by issuers that the configuration names, then by the hub; nil if by
// neither.
func (a *Authentication) tokens(ctx context.Context, o Options) (authenticator.Token, error) {
	var all []authenticator.Token
	if o.ConfigFile != "" {
		issuers, ready, err := issuersOf(ctx, o.ConfigFile)
		if err != nil {
			return nil, fmt.Errorf("cannot use %q: %w", o.ConfigFile, err)
		}
		a.checks = append(a.checks, ready)
		all = append(all, authenticator.WrapAudienceAgnosticToken(o.Audiences, issuers))
	}
	if o.TokenReview {
		review, err := webhook.NewFromInterface(o.Hub.AuthenticationV1(), o.Audiences, backoff(), reviewTimeout, webhook.AuthenticatorMetrics{
			RecordRequestTotal:   authenticatorfactory.RecordRequestTotal,
			RecordRequestLatency: authenticatorfactory.RecordRequestLatency,
		})
		if err != nil {
			return nil, fmt.Errorf("cannot ask the hub about tokens: %w", err)
		}
		authenticatorfactory.RegisterMetrics()
		all = append(all, tokencache.New(review, false, o.TokenTTL, o.TokenTTL))
	}
	if len(all) == 0 {
		return nil, nil
	}
	return tokenunion.New(all...), nil
}

const reviewTimeout = 5 * time.Second

func backoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: .2, Steps: 3}
}

// somebody lets nobody in who cannot be told from nobody: an error, not another try.
type somebody struct{ authenticator.Request }

func (s somebody) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	response, ok, err := s.Request.AuthenticateRequest(r)
	if err != nil || !ok {
		return nil, false, err
	}
	if response == nil || !caller.Somebody(response.User) {
		return nil, false, caller.ErrNobody
	}
	return response, true, nil
}
