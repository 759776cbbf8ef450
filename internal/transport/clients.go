package transport

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Clients makes and keeps a client for each member that is reached by a
// kubeconfig Secret. A client lives as long as that very version of the Secret:
// each use reads the Secret, which is cheap from a cache, so that a credential
// that was taken away or replaced is not used again. Its methods may be called
// from several goroutines.
type Clients struct {
	secrets   client.Reader
	namespace string
	scheme    *runtime.Scheme
	mapper    meta.RESTMapper

	mu   sync.Mutex
	kept map[string]kept // by name of the Secret
}

// kept is a client and the version of the Secret that it was made from.
type kept struct {
	uid             types.UID
	resourceVersion string
	client          client.Client
	http            *http.Client
}

// NewClients reads Secrets by that reader, in Sallyport's own namespace only.
func NewClients(secrets client.Reader, namespace string) *Clients {
	scheme := runtime.NewScheme()
	if err := rbacv1.AddToScheme(scheme); err != nil {
		panic(err) // it only registers types
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range map[string]meta.RESTScope{
		"ClusterRole": meta.RESTScopeRoot, "ClusterRoleBinding": meta.RESTScopeRoot,
		"Role": meta.RESTScopeNamespace, "RoleBinding": meta.RESTScopeNamespace,
	} {
		mapper.Add(rbacv1.SchemeGroupVersion.WithKind(kind), scope)
	}
	return &Clients{secrets: secrets, namespace: namespace, scheme: scheme, mapper: mapper, kept: map[string]kept{}}
}

// For is a client for the member, by the Secret of that name, which has to carry
// the member's name in its label. It knows RBAC's kinds and no others, typed or
// unstructured, and discovers nothing. The error is a *Refusal where the Secret
// cannot be used.
func (c *Clients) For(ctx context.Context, member, secret string) (client.Client, error) {
	s := &corev1.Secret{}
	if err := c.secrets.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: secret}, s); err != nil {
		if client.IgnoreNotFound(err) == nil {
			c.evict(secret)
		}
		return nil, fmt.Errorf("cannot reach cluster %q: cannot read its Secret: %w", member, err)
	}
	if refusal := c.belongs(s, member); refusal != nil {
		c.evict(secret)
		return nil, fmt.Errorf("cannot reach cluster %q: %w", member, refusal)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kept[secret]; ok && s.UID != "" && k.uid == s.UID && k.resourceVersion == s.ResourceVersion {
		return k.client, nil
	}
	c.evictLocked(secret)
	made, err := c.make(s)
	if err != nil {
		return nil, fmt.Errorf("cannot reach cluster %q: %w", member, err)
	}
	c.kept[secret] = made
	return made.client, nil
}

// belongs refuses a Secret that is not the member's, not in Sallyport's
// namespace, or going away.
func (c *Clients) belongs(s *corev1.Secret, member string) error {
	refusal := &Refusal{Namespace: s.Namespace, Secret: s.Name}
	switch {
	case s.Namespace != c.namespace || c.namespace == "":
		refusal.Field, refusal.Reason = "metadata.namespace", "is not Sallyport's own"
	case s.Labels[v1alpha1.ClusterLabel] != member || member == "":
		refusal.Field, refusal.Reason = "metadata.labels["+v1alpha1.ClusterLabel+"]", "is not the cluster's name"
	case !s.DeletionTimestamp.IsZero():
		refusal.Field, refusal.Reason = "metadata.deletionTimestamp", "is set"
	default:
		return nil
	}
	return refusal
}

func (c *Clients) make(s *corev1.Secret) (kept, error) {
	config, err := FromSecret(s)
	if err != nil {
		return kept{}, err
	}
	made := kept{uid: s.UID, resourceVersion: s.ResourceVersion}
	if made.http, err = rest.HTTPClientFor(config); err != nil {
		return kept{}, fmt.Errorf("cannot make a client from Secret %q", s.Namespace+"/"+s.Name) // the error may quote it
	}
	made.client, err = client.New(config, client.Options{HTTPClient: made.http, Scheme: c.scheme, Mapper: c.mapper})
	if err != nil {
		return kept{}, fmt.Errorf("cannot make a client from Secret %q", s.Namespace+"/"+s.Name)
	}
	return made, nil
}

// Keep drops the clients of all Secrets but those. For evicts by itself what it
// is asked for; this is for members that nobody asks for any more.
func (c *Clients) Keep(secrets func(name string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.kept {
		if !secrets(name) {
			c.evictLocked(name)
		}
	}
}

func (c *Clients) evict(secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evictLocked(secret)
}

// evictLocked forgets the client and closes its idle connections. One that is in
// use ends with its request.
func (c *Clients) evictLocked(secret string) {
	if k, ok := c.kept[secret]; ok {
		delete(c.kept, secret)
		utilnet.CloseIdleConnectionsFor(k.http.Transport)
	}
}
