package authz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// authority of certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(t, template, time.Hour)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, lasts time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(lasts)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// pair of a certificate for a name, and its key, in PEM.
func (a *authority) pair(t *testing.T, name string, usage x509.ExtKeyUsage, lasts time.Duration) (cert, key []byte) {
	t.Helper()
	c, k := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, lasts)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// served is a server by mutual TLS.
type served struct {
	dir     string
	url     string
	servers *authority
	drained chan struct{}
	end     func() error
}

func (s *served) write(t *testing.T, name string, content []byte) {
	t.Helper()
	// As a kubelet does it: what is read is one or the other.
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, clients *authority, o HandlerOptions, names ...string) *served {
	t.Helper()
	s := &served{dir: t.TempDir(), servers: newAuthority(t), drained: make(chan struct{})}
	cert, key := s.servers.pair(t, "authorizer", x509.ExtKeyUsageServerAuth, time.Hour)
	s.write(t, "tls.crt", cert)
	s.write(t, "tls.key", key)
	s.write(t, "client-ca.crt", clients.pem)
	file := func(name string) string { return filepath.Join(s.dir, name) }
	running, err := newServing(t.Context(), &Options{
		Addr: "127.0.0.1:0", CertFile: file("tls.crt"), KeyFile: file("tls.key"), ClientCAFile: file("client-ca.crt"), ClientNames: names,
	}, NewHandler(o), &telemetry.Traces{})
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://" + running.listener.Addr().String() + Path
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.run(ctx, func() { close(s.drained) }, time.Minute) }()
	s.end = func() error {
		stop()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client with a certificate; nil has none.
func (s *served) client(t *testing.T, cert, key []byte) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.servers.cert)
	config := &tls.Config{RootCAs: roots}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		// It is shown to any server, whatever authorities that asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// code of the answer, or 0 where there is none.
func (s *served) code(t *testing.T, c *http.Client, path string) int {
	t.Helper()
	spec := ask("list", "payments", "pods")
	spec.User, spec.Groups = "alice", []string{"devs"}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(string(reviews(t, spec)["v1"])))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

func gives(t *testing.T) HandlerOptions {
	return HandlerOptions{Index: fixed{index(t)}, AllowFromGrants: true, Cluster: "prod", Clock: testclock.NewFakePassiveClock(noon)}
}

// TestS9Clients: only API servers may ask, and one that is bound to a cluster about no
// other.
func TestS9Clients(t *testing.T) {
	clients, strangers := newAuthority(t), newAuthority(t)
	s := serve(t, clients, gives(t), "hub", "prod-api=prod")
	for name, tc := range map[string]struct {
		reason string
		by     *authority
		name   string
		usage  x509.ExtKeyUsage
		lasts  time.Duration
		path   string
		want   int
	}{
		"Hub":      {reason: "It is named.", by: clients, name: "hub", want: 200},
		"HubOther": {reason: "It is bound to none.", by: clients, name: "hub", path: "/dev", want: 200},
		"Bound":    {reason: "By default it is about prod.", by: clients, name: "prod-api", want: 200},
		"Own":      {reason: "As it is by name.", by: clients, name: "prod-api", path: "/prod", want: 200},
		"Other":    {reason: "Another's business.", by: clients, name: "prod-api", path: "/dev", want: 403},
		"Query":    {reason: "Likewise.", by: clients, name: "prod-api", path: "?cluster=dev", want: 403},
		"Both":     {reason: "Nor where it cannot be told.", by: clients, name: "prod-api", path: "/prod?cluster=dev", want: 403},
		"Unnamed":  {reason: "Nobody has named it.", by: clients, name: "alice", want: 403},
		"Stranger": {reason: "Another authority vouches for it.", by: strangers, name: "hub"},
		"Server":   {reason: "A server's certificate is none for clients.", by: clients, name: "hub", usage: x509.ExtKeyUsageServerAuth},
		"Ended":    {reason: "It has ended.", by: clients, name: "hub", lasts: -time.Minute},
		"None":     {reason: "There is none."},
	} {
		t.Run(name, func(t *testing.T) {
			var cert, key []byte
			if tc.by != nil {
				if tc.usage == 0 {
					tc.usage = x509.ExtKeyUsageClientAuth
				}
				if tc.lasts == 0 {
					tc.lasts = time.Hour
				}
				cert, key = tc.by.pair(t, tc.name, tc.usage, tc.lasts)
			}
			if got := s.code(t, s.client(t, cert, key), tc.path); got != tc.want {
				t.Errorf("%s Got %d, want %d.", tc.reason, got, tc.want)
			}
		})
	}
	if _, err := newClients(nil, []string{"a", "a=prod"}); err == nil {
		t.Error("a name may be there twice")
	}
	for _, entry := range []string{"", "=prod", "a=", "a=*"} {
		if _, err := newClients(nil, []string{entry}); err == nil {
			t.Errorf("%q is taken for a client", entry)
		}
	}
}

// TestTLSVersions: none that is older than 1.2.
func TestTLSVersions(t *testing.T) {
	clients := newAuthority(t)
	s := serve(t, clients, gives(t))
	cert, key := clients.pair(t, "hub", x509.ExtKeyUsageClientAuth, time.Hour)
	for version, want := range map[uint16]int{tls.VersionTLS11: 0, tls.VersionTLS12: 200, tls.VersionTLS13: 200} {
		c := s.client(t, cert, key)
		config := c.Transport.(*http.Transport).TLSClientConfig
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, version
		if got := s.code(t, c, ""); got != want {
			t.Errorf("%s: got %d, want %d", tls.VersionName(version), got, want)
		}
	}
}

// TestRotation: certificates that change are used without a restart, and a CA that is
// taken away is believed no more, also on connections that are open.
func TestRotation(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	s := serve(t, before, gives(t))
	oldCert, oldKey := before.pair(t, "hub", x509.ExtKeyUsageClientAuth, time.Hour)
	newCert, newKey := after.pair(t, "hub", x509.ExtKeyUsageClientAuth, time.Hour)
	standing := s.client(t, oldCert, oldKey)
	if got := s.code(t, standing, ""); got != http.StatusOK {
		t.Fatalf("before: got %d", got)
	}
	until := func(what string, f func() bool) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return f(), nil }); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	s.write(t, "client-ca.crt", append(append([]byte{}, before.pem...), after.pem...))
	until("a CA that is added", func() bool { return s.code(t, s.client(t, newCert, newKey), "") == http.StatusOK })
	if got := s.code(t, standing, ""); got != http.StatusOK {
		t.Errorf("with both: got %d", got)
	}
	s.write(t, "client-ca.crt", after.pem)
	until("a CA that is taken away", func() bool { return s.code(t, standing, "") == http.StatusUnauthorized })
	until("a CA that is taken away, for new connections", func() bool { return s.code(t, s.client(t, oldCert, oldKey), "") == 0 })

	s.servers = newAuthority(t)
	cert, key := s.servers.pair(t, "authorizer", x509.ExtKeyUsageServerAuth, time.Hour)
	s.write(t, "tls.key", key)
	s.write(t, "tls.crt", cert)
	until("another serving certificate", func() bool { return s.code(t, s.client(t, newCert, newKey), "") == http.StatusOK })
}

// TestDrain: what is under way is answered, and what comes while others may not have
// noticed, too.
func TestDrain(t *testing.T) {
	clients := newAuthority(t)
	o := gives(t)
	deciding, resume := make(chan struct{}), make(chan struct{})
	o.Ready = func(*http.Request) error {
		deciding <- struct{}{}
		<-resume
		return nil
	}
	s := serve(t, clients, o)
	cert, key := clients.pair(t, "hub", x509.ExtKeyUsageClientAuth, time.Hour)
	answered := make(chan error, 1)
	go func() {
		if got := s.code(t, s.client(t, cert, key), ""); got != http.StatusOK {
			answered <- fmt.Errorf("got %d", got)
		}
		close(answered)
	}()
	<-deciding
	ended := make(chan error, 1)
	go func() { ended <- s.end() }()
	<-s.drained
	select {
	case err := <-ended:
		t.Fatalf("it ended (%v) with a review under way", err)
	case err := <-answered:
		t.Fatalf("it answered (%v) what was not decided", err)
	default:
	}
	close(resume)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
