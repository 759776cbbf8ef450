package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/clock"
)

const (
	// chainTTL is for how long a chain of certificates is known to be good, at most.
	chainTTL = 10 * time.Second
	// mostChains that are remembered.
	mostChains = 4096
)

// shortcut remembers for a moment which certificates were verified: a connection shows
// the same with each request, and to verify them takes longer than to decide on it. That
// the client has the key, TLS has seen. What is remembered is of these certificates and
// these authorities together, and ends with the first certificate that does.
type shortcut struct {
	options requestx509.VerifyOptionFunc
	// full verifies and authenticates.
	full authenticator.Request
	// again authenticates where the certificates were good a moment ago. Its first is
	// what full said then.
	again func(r *http.Request, first *authenticator.Response) (*authenticator.Response, bool, error)
	clock clock.Clock
	kept  *cache.LRUExpireCache
}

func newShortcut(options requestx509.VerifyOptionFunc, full authenticator.Request, c clock.Clock,
	again func(*http.Request, *authenticator.Response) (*authenticator.Response, bool, error)) *shortcut {
	return &shortcut{options: options, full: full, again: again, clock: c, kept: cache.NewLRUExpireCacheWithClock(mostChains, c)}
}

// shown are certificates, and the authorities that they were verified by: another bundle
// is another pool.
type shown struct {
	certificates [sha256.Size]byte
	roots        *x509.CertPool
}

type good struct {
	first *authenticator.Response
	until time.Time
}

// AuthenticateRequest by the certificate of its connection.
func (s *shortcut) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	options, ok := s.options()
	if !ok || options.Roots == nil {
		return s.full.AuthenticateRequest(r)
	}
	now := s.clock.Now()
	key := shown{digestOf(r.TLS.PeerCertificates), options.Roots}
	if k, ok := s.kept.Get(key); ok && now.Before(k.(good).until) {
		return s.again(r, k.(good).first)
	}
	response, ok, err := s.full.AuthenticateRequest(r)
	if err != nil || !ok {
		return response, ok, err
	}
	until := now.Add(chainTTL)
	for _, c := range r.TLS.PeerCertificates {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	s.kept.Add(key, good{response, until}, chainTTL)
	return response, true, nil
}

func digestOf(certificates []*x509.Certificate) [sha256.Size]byte {
	if len(certificates) == 1 {
		return sha256.Sum256(certificates[0].Raw)
	}
	h := sha256.New()
	for _, c := range certificates {
		one := sha256.Sum256(c.Raw)
		h.Write(one[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// asBefore is who a client's certificate says, which is the same each time.
func asBefore(_ *http.Request, first *authenticator.Response) (*authenticator.Response, bool, error) {
	return first, true, nil
}
