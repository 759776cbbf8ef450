package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// tokenValidity of ServiceAccount tokens: as long as the certificates beside them.
const tokenValidity = validity

// URL returns the API server's address, such as https://127.0.0.1:20001. It stays the same across Stop and Start.
func (c *ControlPlane) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "https://" + address(c.port)
}

// CABundle returns the authority of the API server's certificate, in PEM.
func (c *ControlPlane) CABundle() []byte { return append([]byte(nil), c.pki.serving.pem...) }

// Kubeconfig returns the path of the kubeconfig of the administrator whom AdminConfig describes.
func (c *ControlPlane) Kubeconfig() string {
	return filepath.Join(c.host.dir, "kubeconfigs", c.Name+".kubeconfig")
}

// AdminConfig returns the credentials of a user in group system:masters, without a client-side rate limit. The copy is
// the caller's own.
func (c *ControlPlane) AdminConfig() *rest.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rest.CopyConfig(c.admin)
}

// User returns the credentials of a user: a fresh client certificate with the user's name and groups. It needs no call
// to the API server, and gives no access by itself.
func (c *ControlPlane) User(name string, groups ...string) (*rest.Config, error) {
	pair, err := c.pki.client.client(name, groups...)
	if err != nil {
		return nil, fmt.Errorf("cannot issue a certificate for user %q: %w", name, err)
	}
	cfg := c.config(c.URL())
	cfg.CertData, cfg.KeyData = pair.cert, pair.key
	return cfg, nil
}

// ServiceAccount returns the credentials of a ServiceAccount: a token from the TokenRequest API. The ServiceAccount and
// its namespace are made if they do not exist.
func (c *ControlPlane) ServiceAccount(ctx context.Context, namespace, name string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return nil, err
	}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return nil, err
	}
	accounts := client.CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("cannot create ServiceAccount %s/%s on %q: %w", namespace, name, c.Name, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To(int64(tokenValidity / time.Second)),
	}}
	issued, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot request a token of ServiceAccount %s/%s on %q: %w", namespace, name, c.Name, err)
	}
	cfg := c.config(c.URL())
	cfg.BearerToken = issued.Status.Token
	return cfg, nil
}

// adminConfig makes the administrator's credentials for an API server on port, or returns those of the start before.
func (c *ControlPlane) adminConfig(port int) (*rest.Config, error) {
	if c.admin != nil {
		return c.admin, nil
	}
	pair, err := c.pki.client.client("admin", "system:masters")
	if err != nil {
		return nil, fmt.Errorf("cannot issue the administrator's certificate: %w", err)
	}
	admin := c.config("https://" + address(port))
	admin.CertData, admin.KeyData = pair.cert, pair.key
	return admin, nil
}

// config describes the API server, and nobody's credentials.
func (c *ControlPlane) config(host string) *rest.Config {
	return &rest.Config{
		Host:            host,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.CABundle()},
		QPS:             -1, // the server has priority and fairness; a test should not wait on its client
	}
}

// WriteKubeconfig writes a kubeconfig with cfg's credentials embedded, for kubectl and other programs, and makes its
// folder. serverSuffix is appended to the server's URL: with "/apis/cluster.karmada.io/v1alpha1/clusters/prod-eu-1/proxy"
// plain kubectl goes through the hub to a member. The only context has the cluster's name.
func (c *ControlPlane) WriteKubeconfig(path string, cfg *rest.Config, serverSuffix string) error {
	kubeconfig := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{c.Name: {
			Server:                   cfg.Host + serverSuffix,
			CertificateAuthorityData: cfg.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"user": {
			ClientCertificateData: cfg.CertData,
			ClientKeyData:         cfg.KeyData,
			Token:                 cfg.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{c.Name: {Cluster: c.Name, AuthInfo: "user"}},
		CurrentContext: c.Name,
	}
	content, err := clientcmd.Write(kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot encode kubeconfig %q: %w", path, err)
	}
	return writeSecret(path, content)
}

func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create namespace %q: %w", name, err)
	}
	return nil
}
