package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// authority issues certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{cert: &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	a.cert, a.key = a.sign(tb, a.cert, time.Hour)
	return a
}

func (a *authority) sign(tb testing.TB, template *x509.Certificate, valid time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(valid)
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key
}

func (a *authority) client(tb testing.TB, name string, valid time.Duration) *x509.Certificate {
	tb.Helper()
	cert, _ := a.sign(tb, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, valid)
	return cert
}

func (a *authority) options() x509.VerifyOptions {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func showing(certs ...*x509.Certificate) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: certs}
	return r
}

// counted is a full authentication that counts.
type counted struct {
	authenticator.Request
	n int
}

func (c *counted) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	c.n++
	return c.Request.AuthenticateRequest(r)
}

// TestShortcut: what is remembered is of these certificates and these authorities, and
// for a moment only.
func TestShortcut(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	options := ca.options()
	current := func() (x509.VerifyOptions, bool) { return options, true }
	full := &counted{Request: requestx509.NewDynamic(current, requestx509.CommonNameUserConversion)}
	now := clocktesting.NewFakeClock(time.Now())
	s := newShortcut(current, full, now, asBefore)
	name := func(r *http.Request) string {
		response, ok, err := s.AuthenticateRequest(r)
		if err != nil || !ok {
			return ""
		}
		return response.User.GetName()
	}
	alice, bob, stranger := ca.client(t, "alice", time.Hour), ca.client(t, "bob", time.Hour), other.client(t, "alice", time.Hour)
	short := ca.client(t, "short", time.Second)
	want := func(why, who string, r *http.Request, times int) {
		t.Helper()
		if got := name(r); got != who || full.n != times {
			t.Errorf("%s: got %q after %d full authentications, want %q after %d", why, got, full.n, who, times)
		}
	}
	want("first", "alice", showing(alice), 1)
	want("again", "alice", showing(alice), 1)
	want("another", "bob", showing(bob), 2)
	want("a stranger of the same name", "", showing(stranger), 3)
	want("a stranger again", "", showing(stranger), 4)
	want("with another behind it", "alice", showing(alice, bob), 5)
	want("nobody", "", httptest.NewRequest(http.MethodGet, "/", nil), 5)
	want("one that ends soon", "short", showing(short), 6)
	now.Step(2 * time.Second)
	if name(showing(short)); full.n != 7 {
		t.Error("a certificate is good after its end")
	}
	options = other.options()
	want("another authority", "", showing(alice), 8)
	options = ca.options()
	want("a bundle that was read again", "alice", showing(alice), 9)
	now.Step(chainTTL)
	want("later", "alice", showing(alice), 10)
}

func BenchmarkCertificate(b *testing.B) {
	ca := newAuthority(b)
	options := ca.options()
	current := func() (x509.VerifyOptions, bool) { return options, true }
	full := requestx509.NewDynamic(current, requestx509.CommonNameUserConversion)
	r := showing(ca.client(b, "alice", time.Hour))
	for name, a := range map[string]authenticator.Request{"full": full, "shortcut": newShortcut(current, full, clock.RealClock{}, asBefore)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok, err := a.AuthenticateRequest(r); !ok || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
