package clusters

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
)

// Proxy is clusters/proxy for discovery, so that kubectl and what writes RBAC see it.
// What is asked of it is answered before it comes here.
type Proxy struct{}

var (
	_ rest.Connecter = Proxy{}
	_ rest.Scoper    = Proxy{}
)

// New is an empty Cluster.
func (Proxy) New() runtime.Object { return &v1alpha1.Cluster{} }

// Destroy has nothing to do.
func (Proxy) Destroy() {}

// NamespaceScoped is false.
func (Proxy) NamespaceScoped() bool { return false }

// ConnectMethods are those that the hub's authorizer makes a verb of.
func (Proxy) ConnectMethods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
}

// NewConnectOptions are none; there is a path below.
func (Proxy) NewConnectOptions() (runtime.Object, bool, string) { return nil, true, "path" }

// Connect refuses: a request that comes here has passed by what decides.
func (Proxy) Connect(context.Context, string, runtime.Object, rest.Responder) (http.Handler, error) {
	return nil, apierrors.NewMethodNotSupported(v1alpha1.Clusters.GroupResource(), "proxy")
}
