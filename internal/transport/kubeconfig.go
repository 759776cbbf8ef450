package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// QPS is how many requests a second one member gets in the long run.
	QPS = 20
	// Burst is how many it gets at once.
	Burst = 40
	// Timeout bounds one request. Whoever streams has to clear it in a copy.
	Timeout = 30 * time.Second

	userAgent = "sallyport"
	// maxKubeconfig is the size in bytes beyond which one is not parsed.
	maxKubeconfig = 256 << 10
)

// kubeconfigKeys are the keys of a Secret that may hold it, in order.
var kubeconfigKeys = []string{"kubeconfig", "value"}

// Refusal says which field of a Secret keeps its kubeconfig from being used. It
// has the names of fields, never a value, since any value may be secret.
type Refusal struct {
	Namespace, Secret string
	// Field in the kubeconfig, as in "users[].user.exec".
	Field string
	// Reason is a phrase to follow the field.
	Reason string
}

// Why is the field and the reason.
func (r *Refusal) Why() string { return r.Field + " " + r.Reason }

// Error names the Secret as well.
func (r *Refusal) Error() string {
	return fmt.Sprintf("cannot use kubeconfig of Secret %q: %s", r.Namespace+"/"+r.Secret, r.Why())
}

// FromSecret is the configuration of a client for the member whose kubeconfig the
// Secret has. The error is a *Refusal. It neither reads files nor the
// environment, and asks nobody; every entry of the kubeconfig is checked, also
// those that its current context does not use.
func FromSecret(secret *corev1.Secret) (*rest.Config, error) {
	config, refusal := fromSecret(secret)
	if refusal != nil {
		refusal.Namespace, refusal.Secret = secret.Namespace, secret.Name
		return nil, refusal
	}
	return config, nil
}

func refuse(field, reason string) *Refusal { return &Refusal{Field: field, Reason: reason} }

func fromSecret(secret *corev1.Secret) (*rest.Config, *Refusal) {
	key := slices.IndexFunc(kubeconfigKeys, func(k string) bool { return len(secret.Data[k]) > 0 })
	if key < 0 {
		return nil, refuse("data."+kubeconfigKeys[0], "is required")
	}
	field, raw := "data."+kubeconfigKeys[key], secret.Data[kubeconfigKeys[key]]
	if len(raw) > maxKubeconfig {
		return nil, refuse(field, "is too long")
	}
	parsed, err := clientcmd.Load(raw)
	if err != nil {
		return nil, refuse(field, "is not a kubeconfig") // the error may quote it
	}
	for _, c := range parsed.Clusters {
		if refusal := checkCluster(c); refusal != nil {
			return nil, refusal
		}
	}
	for _, u := range parsed.AuthInfos {
		if refusal := checkUser(u); refusal != nil {
			return nil, refusal
		}
	}
	current := parsed.Contexts[parsed.CurrentContext]
	if current == nil {
		return nil, refuse("current-context", "names no context")
	}
	cluster, user := parsed.Clusters[current.Cluster], parsed.AuthInfos[current.AuthInfo]
	if cluster == nil {
		return nil, refuse("contexts[].context.cluster", "names no cluster")
	}
	if user == nil {
		return nil, refuse("contexts[].context.user", "names no user")
	}
	return configFor(cluster, user), nil
}

// checkCluster refuses what does not lead to one server by verified TLS.
func checkCluster(c *clientcmdapi.Cluster) *Refusal {
	at := func(field, reason string) *Refusal { return refuse("clusters[].cluster."+field, reason) }
	server, err := url.Parse(c.Server)
	switch {
	case c.InsecureSkipTLSVerify:
		return at("insecure-skip-tls-verify", "is not allowed")
	case c.CertificateAuthority != "":
		return at("certificate-authority", "is a file, which is not read: use certificate-authority-data")
	case c.ProxyURL != "":
		return at("proxy-url", "is not allowed")
	case c.Server == "":
		return at("server", "is required")
	case err != nil || server.Hostname() == "" || server.User != nil || server.RawQuery != "" || server.Fragment != "":
		return at("server", "is not the URL of a server")
	case server.Scheme != "https":
		return at("server", "is not https")
	case len(c.CertificateAuthorityData) == 0:
		return at("certificate-authority-data", "is required")
	case !x509.NewCertPool().AppendCertsFromPEM(c.CertificateAuthorityData):
		return at("certificate-authority-data", "has no certificate")
	}
	return nil
}

// checkUser refuses what is not a token or a client certificate, and nothing
// else.
func checkUser(u *clientcmdapi.AuthInfo) *Refusal {
	at := func(field, reason string) *Refusal { return refuse("users[].user."+field, reason) }
	switch {
	case u.Exec != nil:
		return at("exec", "is not allowed")
	case u.AuthProvider != nil:
		return at("auth-provider", "is not allowed")
	case u.TokenFile != "":
		return at("tokenFile", "is a file, which is not read: use token")
	case u.ClientCertificate != "":
		return at("client-certificate", "is a file, which is not read: use client-certificate-data")
	case u.ClientKey != "":
		return at("client-key", "is a file, which is not read: use client-key-data")
	case u.Impersonate != "":
		return at("as", "is not allowed")
	case u.ImpersonateUID != "":
		return at("as-uid", "is not allowed")
	case len(u.ImpersonateGroups) > 0:
		return at("as-groups", "is not allowed")
	case len(u.ImpersonateUserExtra) > 0:
		return at("as-user-extra", "is not allowed")
	case u.Username != "":
		return at("username", "is not allowed: use token or client-certificate-data")
	case u.Password != "":
		return at("password", "is not allowed: use token or client-certificate-data")
	case len(u.ClientCertificateData) > 0 != (len(u.ClientKeyData) > 0):
		return at("client-certificate-data", "and client-key-data are needed both")
	case u.Token == "" && len(u.ClientCertificateData) == 0:
		return at("token", "or client-certificate-data is required")
	case strings.ContainsFunc(u.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return at("token", "has characters that no token has")
	case len(u.ClientCertificateData) > 0 && !isPair(u.ClientCertificateData, u.ClientKeyData):
		return at("client-certificate-data", "and client-key-data are not a pair")
	}
	return nil
}

func isPair(certificate, key []byte) bool {
	_, err := tls.X509KeyPair(certificate, key)
	return err == nil
}

// configFor is built field by field. clientcmd's own loader would fall back to
// files, the environment and the service account of the pod.
func configFor(c *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) *rest.Config {
	return &rest.Config{
		Host: c.Server,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: c.TLSServerName,
			CAData:     c.CertificateAuthorityData,
			CertData:   u.ClientCertificateData,
			KeyData:    u.ClientKeyData,
		},
		BearerToken:        u.Token,
		DisableCompression: c.DisableCompression,
		UserAgent:          userAgent,
		QPS:                QPS,
		Burst:              Burst,
		Timeout:            Timeout,
		WrapTransport:      func(to http.RoundTripper) http.RoundTripper { return noRedirects{to} },
	}
}

// noRedirects fails on a redirect. http.Client would follow it, and the layers
// above would send the token along, to wherever the member points.
type noRedirects struct{ to http.RoundTripper }

var _ utilnet.RoundTripperWrapper = noRedirects{}

var errRedirect = errors.New("the member answered with a redirect, which is not followed")

func (n noRedirects) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		resp.Body.Close()
		return nil, errRedirect
	}
	return resp, nil
}

// WrappedRoundTripper lets idle connections be closed.
func (n noRedirects) WrappedRoundTripper() http.RoundTripper { return n.to }
