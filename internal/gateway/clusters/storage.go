package clusters

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Access is what there is to know of who may reach what.
type Access interface {
	Current() *effective.Index
	Subscribe(f func(*effective.Index)) (stop func())
}

// Routes are the ways to members.
type Routes interface {
	Route(cluster string) (*transport.Route, error)
}

// Storage serves clusters.
type Storage struct {
	access Access
	routes Routes
	clock  clock.WithTicker

	version atomic.Uint64
	given   *given
	stop    func()
	ended   context.Context
	end     context.CancelFunc

	mu   sync.Mutex
	next chan struct{} // closed when there is another index
}

var (
	_ rest.Getter               = &Storage{}
	_ rest.Lister               = &Storage{}
	_ rest.Watcher              = &Storage{}
	_ rest.Scoper               = &Storage{}
	_ rest.SingularNameProvider = &Storage{}
	_ rest.ShortNamesProvider   = &Storage{}
	_ rest.CategoriesProvider   = &Storage{}
)

// New serves clusters by what access and routes know.
func New(access Access, routes Routes, c clock.WithTicker) *Storage {
	s := &Storage{access: access, routes: routes, clock: c, given: newGiven(c), next: make(chan struct{})}
	s.version.Store(uint64(c.Now().UnixNano()))
	s.ended, s.end = context.WithCancel(context.Background())
	s.stop = access.Subscribe(func(*effective.Index) { s.another() })
	return s
}

// another index is there.
func (s *Storage) another() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.next)
	s.next = make(chan struct{})
}

// changed is closed when there is another index than now.
func (s *Storage) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// New is an empty Cluster.
func (s *Storage) New() runtime.Object { return &v1alpha1.Cluster{} }

// NewList is an empty ClusterList.
func (s *Storage) NewList() runtime.Object { return &v1alpha1.ClusterList{} }

// Drain ends all watches, and those that come: clients go on at another replica.
func (s *Storage) Drain() { s.end() }

// Destroy has it hear of no further index.
func (s *Storage) Destroy() {
	s.end()
	s.stop()
}

// NamespaceScoped is false.
func (s *Storage) NamespaceScoped() bool { return false }

// GetSingularName is what one of them is called.
func (s *Storage) GetSingularName() string { return "cluster" }

// ShortNames for kubectl. Other inventories call theirs clusters, too.
func (s *Storage) ShortNames() []string { return []string{"spc"} }

// Categories that kubectl knows them by.
func (s *Storage) Categories() []string { return []string{"sallyport"} }

// Get the cluster of that name. One that the caller may not reach is not found.
func (s *Storage) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	u, err := who(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := s.view(u)
	if err != nil {
		return nil, err
	}
	c := seen.get(name)
	if c == nil {
		return nil, apierrors.NewNotFound(v1alpha1.Clusters.GroupResource(), name)
	}
	return at(*c, s.version.Load()), nil
}

// List the clusters that the caller may reach.
func (s *Storage) List(ctx context.Context, o *internalversion.ListOptions) (runtime.Object, error) {
	u, err := who(ctx)
	if err != nil {
		return nil, err
	}
	if o != nil && o.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		return nil, expired() // what was is not kept
	}
	seen, err := s.view(u)
	if err != nil {
		return nil, err
	}
	version := s.version.Add(1)
	s.given.keep(u, version, seen)
	list := &v1alpha1.ClusterList{ListMeta: metav1.ListMeta{ResourceVersion: written(version)}, Items: []v1alpha1.Cluster{}}
	selects := selectsBy(o)
	for i := range seen {
		if selects(&seen[i]) {
			list.Items = append(list.Items, *at(seen[i], version))
		}
	}
	return list, nil
}

// who asks. A request of nobody does not come here; if it did, it would get nothing.
func who(ctx context.Context) (*guardrail.User, error) {
	u, err := caller.From(ctx)
	if err != nil {
		return nil, apierrors.NewUnauthorized(err.Error())
	}
	return u, nil
}

func expired() *apierrors.StatusError {
	return apierrors.NewResourceExpired("this replica does not know that resource version: list again")
}

func notReady() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable,
		Message: "grants and guardrails are not known yet", Details: &metav1.StatusDetails{RetryAfterSeconds: 1},
	}}
}

// routeOf a cluster: nil if there is one, else why there is none. No address is in it.
func (s *Storage) routeOf(cluster string) (v1alpha1.RouteState, string) {
	_, err := s.routes.Route(cluster)
	var down *transport.Unavailable
	switch {
	case err == nil:
		return v1alpha1.RouteReady, ""
	case errors.As(err, &down):
		return v1alpha1.RouteNotReady, down.Reason
	}
	return v1alpha1.RouteNotReady, "has no route"
}

// at a version.
func at(c v1alpha1.Cluster, version uint64) *v1alpha1.Cluster {
	c.ResourceVersion = written(version)
	return &c
}

func written(version uint64) string { return strconv.FormatUint(version, 10) }

func parsed(version string) (uint64, error) {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q", version))
	}
	return n, nil
}
