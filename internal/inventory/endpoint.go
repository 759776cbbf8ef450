package inventory

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Endpoint is where a member's API server is, as an inventory tells it.
type Endpoint struct {
	// Server is an https URL: a host, and perhaps a path.
	Server string
	// CA in PEM; empty where it comes with the credential.
	CA []byte
	// ServerName that the certificate is for, if it is not the host.
	ServerName string
	// ClusterProxy: the host is the name of the cluster, and is dialled through
	// Open Cluster Management's cluster-proxy.
	ClusterProxy bool
}

// ErrNoEndpoint is the answer where no inventory tells an address that can be used.
// What it is wrapped in says why, for operators.
var ErrNoEndpoint = errors.New("no inventory tells an address that can be used")

// Endpoint of a cluster that Open Cluster Management knows: the first client config
// of the ManagedCluster, else what its ClusterProfile or the kubeconfig Secret of
// that name tells, else the cluster-proxy add-on.
func (i *Inventory) Endpoint(ctx context.Context, cluster, secret string) (Endpoint, error) {
	c := &clusterv1.ManagedCluster{}
	found, err := i.get(ctx, ManagedClusterKind.GroupKind(), client.ObjectKey{Name: cluster}, c)
	if err != nil {
		return Endpoint{}, err
	}
	if configs := c.Spec.ManagedClusterClientConfigs; found && len(configs) > 0 {
		return checked(fmt.Sprintf("ManagedCluster %q", cluster), Endpoint{Server: configs[0].URL, CA: configs[0].CABundle})
	}
	for _, namespace := range i.options.profileNamespaces() {
		profile := &unstructured.Unstructured{}
		found, err := i.get(ctx, ClusterProfileKind.GroupKind(), client.ObjectKey{Namespace: namespace, Name: cluster}, profile)
		if err != nil {
			return Endpoint{}, err
		}
		if e, plain := profileEndpoint(profile); found && plain {
			return e, nil
		}
	}
	if secret != "" {
		s := &corev1.Secret{}
		if found, err := i.get(ctx, SecretKind.GroupKind(), client.ObjectKey{Namespace: i.options.Namespace, Name: secret}, s); found {
			return SecretEndpoint(s)
		} else if err != nil {
			return Endpoint{}, err
		}
	}
	addOn := &unstructured.Unstructured{}
	found, err = i.get(ctx, ManagedClusterAddOnKind.GroupKind(), client.ObjectKey{Namespace: cluster, Name: clusterProxyAddOn}, addOn)
	if err != nil {
		return Endpoint{}, err
	}
	if found && addOn.GetDeletionTimestamp() == nil {
		// The agent's certificate is that of every API server for clients within.
		return Endpoint{Server: "https://" + cluster, ServerName: "kubernetes.default.svc", ClusterProxy: true}, nil
	}
	return Endpoint{}, fmt.Errorf("ManagedCluster %q has no client config, and there is no cluster-proxy add-on: %w", cluster, ErrNoEndpoint)
}

// SecretEndpoint is what the kubeconfig in a Secret tells. The error is a
// *transport.Refusal.
func SecretEndpoint(s *corev1.Secret) (Endpoint, error) {
	config, err := transport.FromSecret(s)
	if err != nil {
		return Endpoint{}, err
	}
	return Endpoint{Server: config.Host, CA: config.CAData, ServerName: config.ServerName}, nil
}

// KarmadaEndpoint is what a Karmada Cluster tells of how to reach it.
type KarmadaEndpoint struct {
	Server string
	// Secret with the CA in caBundle, and Impersonator with the impersonator's token
	// in token.
	Secret, Impersonator types.NamespacedName
}

// KarmadaEndpoint of the Cluster of that name.
func (i *Inventory) KarmadaEndpoint(ctx context.Context, cluster string) (KarmadaEndpoint, error) {
	u := &unstructured.Unstructured{}
	found, err := i.get(ctx, KarmadaClusterKind.GroupKind(), client.ObjectKey{Name: cluster}, u)
	if err != nil {
		return KarmadaEndpoint{}, err
	}
	if !found {
		return KarmadaEndpoint{}, fmt.Errorf("there is no Cluster %q: %w", cluster, ErrNoEndpoint)
	}
	return karmadaEndpoint(u)
}

func karmadaEndpoint(u *unstructured.Unstructured) (KarmadaEndpoint, error) {
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	refuse := func(what string) (KarmadaEndpoint, error) {
		return KarmadaEndpoint{}, fmt.Errorf("of Cluster %q: %s: %w", u.GetName(), what, ErrNoEndpoint)
	}
	if skip, found := spec["insecureSkipTLSVerification"]; found && skip != false {
		return refuse("spec.insecureSkipTLSVerification is not allowed")
	}
	for _, field := range []string{"proxyURL", "proxyHeader"} {
		if asked, found := spec[field]; found && asked != "" {
			return refuse("spec." + field + " is not allowed")
		}
	}
	e := KarmadaEndpoint{Server: text(spec, "apiEndpoint")}
	if problem := serverProblem(e.Server); problem != "" {
		return refuse("spec.apiEndpoint " + problem)
	}
	for field, into := range map[string]*types.NamespacedName{"secretRef": &e.Secret, "impersonatorSecretRef": &e.Impersonator} {
		ref, _, _ := unstructured.NestedMap(spec, field)
		if text(ref, "name") == "" {
			return refuse("spec." + field + " names no Secret")
		}
		*into = types.NamespacedName{Namespace: cmp.Or(text(ref, "namespace"), karmadaNamespace), Name: text(ref, "name")}
	}
	return e, nil
}

// profileEndpoint is the first access provider of a ClusterProfile whose address
// can be used as it is. How to get a credential, perhaps by a command, is not looked
// at.
func profileEndpoint(u *unstructured.Unstructured) (Endpoint, bool) {
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	for _, provider := range append(objects(status, "accessProviders"), objects(status, "credentialProviders")...) {
		c, _, _ := unstructured.NestedMap(provider, "cluster")
		ca, err := base64.StdEncoding.DecodeString(text(c, "certificate-authority-data"))
		e := Endpoint{Server: text(c, "server"), CA: ca, ServerName: text(c, "tls-server-name")}
		insecure, skips := c["insecure-skip-tls-verify"]
		if err != nil || len(ca) == 0 || skips && insecure != false || text(c, "proxy-url") != "" || text(c, "certificate-authority") != "" {
			continue
		}
		if e, err = checked("", e); err == nil {
			return e, true
		}
	}
	return Endpoint{}, false
}

// checked refuses what does not lead to one server by verified TLS.
func checked(source string, e Endpoint) (Endpoint, error) {
	problem := serverProblem(e.Server)
	if problem == "" && len(e.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(e.CA) {
		problem = "has a CA bundle without a certificate"
	}
	if problem != "" {
		return Endpoint{}, fmt.Errorf("%s: the address %s: %w", source, problem, ErrNoEndpoint)
	}
	return e, nil
}

func serverProblem(server string) string {
	u, err := url.Parse(server)
	switch {
	case server == "":
		return "is missing"
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "is not the URL of a server"
	case u.Scheme != "https":
		return "is not https"
	}
	return ""
}

// get an object of an optional kind, and whether there is one.
func (i *Inventory) get(ctx context.Context, gk schema.GroupKind, key client.ObjectKey, into client.Object) (bool, error) {
	status := i.hub.Status(gk)
	if status.State == served.Absent {
		return false, nil
	}
	if !status.State.Readable() {
		return false, fmt.Errorf("cannot read %s %q: %w: %s", gk.Kind, key.Name, served.ErrUnknown, status.Message)
	}
	into.GetObjectKind().SetGroupVersionKind(status.GVK)
	err := i.hub.Get(ctx, key, into)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot read %s %q: %w", gk.Kind, key.Name, err)
	}
	return err == nil, nil
}
