package transport

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// MembersOptions of Members.
type MembersOptions struct {
	// Tunnel dials members that are reached by cluster-proxy; they have no route if it is nil.
	Tunnel Dialer
	// HTTP2 has requests to a member share a connection; else each that is under way has
	// one of its own, and the pool keeps them. Those by the tunnel always share.
	HTTP2 bool
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Metrics, if not nil, count connections.
	Metrics *Metrics
}

// Members are the routes to all members, each by its route Secret and by nothing else:
// a member without one is not reached. A token that is replaced is used from the next
// request on, over the connections that there are. Its methods may be called from any
// number of goroutines, and Route takes no lock.
type Members struct {
	namespace string
	o         MembersOptions
	mu        sync.Mutex // of those who change routes
	// routes by cluster. The map is replaced and not changed.
	routes atomic.Pointer[map[string]*member]
}

// NewMembers knows no member yet. Secrets are the gateway's in that namespace, and "" is
// none.
func NewMembers(namespace string, o MembersOptions) *Members {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Members{namespace: namespace, o: o}
	m.routes.Store(&map[string]*member{})
	return m
}

// Route to the member of that name. The error is an *Unavailable.
func (m *Members) Route(cluster string) (*Route, error) {
	to := (*m.routes.Load())[cluster]
	if to == nil {
		return nil, &Unavailable{Cluster: cluster, Reason: "has no route", RetryAfter: noRoute}
	}
	now := m.o.Now()
	if c := to.credential.Load(); !c.expires.IsZero() && !now.Before(c.expires) {
		return nil, &Unavailable{Cluster: cluster, Reason: "cannot be reached: the gateway's credential there has expired", RetryAfter: noRoute}
	}
	if wait := to.breaker.wait(now); wait > 0 {
		return nil, to.down(wait)
	}
	return &to.route, nil
}

// noRoute is when to ask again for a member that the controller has to do something
// about.
const noRoute = 10 * time.Second

// Has reports whether there is a route to the member, whether it answers or not.
func (m *Members) Has(cluster string) bool { return (*m.routes.Load())[cluster] != nil }

// Set the route of the cluster that a Secret is for. An error names the Secret and what
// of it cannot be used, and nothing of what is in it; the cluster then has no route.
func (m *Members) Set(s *corev1.Secret) error {
	cluster, ok := m.clusterOf(s)
	if !ok {
		return nil // it is none of ours
	}
	if s.Type != v1alpha1.RouteSecretType || s.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue ||
		s.Labels[v1alpha1.ClusterLabel] != cluster || !s.DeletionTimestamp.IsZero() {
		m.Remove(cluster) // nor is it any longer, if it was
		return nil
	}
	d, err := parse(s)
	if err == nil && d.tunnelled && m.o.Tunnel == nil {
		err = errors.New("data." + v1alpha1.RouteVia + " is cluster-proxy, of which the gateway knows no entrypoint")
	}
	if err != nil {
		m.Remove(cluster)
		return fmt.Errorf("cannot use route Secret %q: %w", s.Namespace+"/"+s.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := (*m.routes.Load())[cluster]; old != nil && old.key == d.key {
		old.credential.Store(&d.credential)
		return nil
	}
	m.replace(cluster, newMember(d, &m.o))
	return nil
}

// clusterOf a Secret, by its name: labels can be taken off it.
func (m *Members) clusterOf(s client.Object) (string, bool) {
	if m.namespace == "" || s.GetNamespace() != m.namespace {
		return "", false
	}
	cluster, ok := strings.CutPrefix(s.GetName(), v1alpha1.RouteNamePrefix)
	return cluster, ok && cluster != ""
}

// Remove the route of a cluster, if there is one.
func (m *Members) Remove(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Has(cluster) {
		m.replace(cluster, nil)
		m.o.Metrics.forget(cluster)
	}
}

// replace is called with the lock. What the old route carries ends by itself; its idle
// connections are closed.
func (m *Members) replace(cluster string, with *member) {
	routes := maps.Clone(*m.routes.Load())
	old := routes[cluster]
	if with == nil {
		delete(routes, cluster)
	} else {
		routes[cluster] = with
	}
	m.routes.Store(&routes)
	if old != nil {
		go old.close() // what is at the other end may take its time
	}
}

// Watch follows the Secrets of a cache, which is to hold those of the gateway's
// namespace and no others. The returned function reports whether all have been seen.
// Refused are told of each Secret that cannot be used.
func (m *Members) Watch(ctx context.Context, secrets cache.Informers, refused func(error)) (synced func() bool, err error) {
	informer, err := secrets.GetInformer(ctx, &corev1.Secret{})
	if err != nil {
		return nil, fmt.Errorf("cannot watch route Secrets: %w", err)
	}
	set := func(o any) {
		if s, ok := o.(*corev1.Secret); ok {
			if err := m.Set(s); err != nil {
				refused(err)
			}
		}
	}
	handle, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, o any) { set(o) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if s, ok := o.(client.Object); ok {
				if cluster, ok := m.clusterOf(s); ok {
					m.Remove(cluster)
				}
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot watch route Secrets: %w", err)
	}
	return handle.HasSynced, nil
}

// description of a route, as its Secret has it.
type description struct {
	cluster    string
	server     url.URL
	roots      *x509.CertPool
	serverName string
	tunnelled  bool
	credential credential
	// key tells one transport apart from another: all of the above but the credential.
	key string
}

// credential of the impersonator on a member.
type credential struct {
	authorization []string  // the header's values; shared by all requests, and never changed
	expires       time.Time // zero for never
}

// parse a route Secret. It quotes nothing of it.
func parse(s *corev1.Secret) (*description, error) {
	server, err := url.Parse(string(s.Data[v1alpha1.RouteServer]))
	if err != nil || server.Scheme != "https" || server.Hostname() == "" || server.User != nil || server.RawQuery != "" || server.Fragment != "" {
		return nil, errors.New("data." + v1alpha1.RouteServer + " is not the https URL of a server")
	}
	d := &description{
		cluster: s.Labels[v1alpha1.ClusterLabel], server: *server,
		roots: x509.NewCertPool(), serverName: string(s.Data[v1alpha1.RouteServerName]),
	}
	if !d.roots.AppendCertsFromPEM(s.Data[v1alpha1.RouteCA]) {
		return nil, errors.New("data[" + v1alpha1.RouteCA + "] has no certificate")
	}
	token := string(s.Data[v1alpha1.RouteToken])
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("data." + v1alpha1.RouteToken + " is no token")
	}
	d.credential.authorization = []string{"Bearer " + token}
	switch via := string(s.Data[v1alpha1.RouteVia]); via {
	case "":
	case v1alpha1.RouteViaClusterProxy:
		d.tunnelled = true
	default:
		return nil, errors.New("data." + v1alpha1.RouteVia + " is not known")
	}
	if at, ok := s.Annotations[v1alpha1.RouteExpiresAnnotation]; ok {
		if d.credential.expires, err = time.Parse(time.RFC3339, at); err != nil {
			return nil, errors.New("annotation " + v1alpha1.RouteExpiresAnnotation + " is no time")
		}
	}
	sum := sha256.New()
	for _, key := range []string{v1alpha1.RouteServer, v1alpha1.RouteCA, v1alpha1.RouteServerName, v1alpha1.RouteVia} {
		fmt.Fprintf(sum, "%d %s ", len(s.Data[key]), s.Data[key])
	}
	d.key = hex.EncodeToString(sum.Sum(nil))
	return d, nil
}
