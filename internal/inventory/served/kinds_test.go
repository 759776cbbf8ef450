package served

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var (
	thing  = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Thing"}
	gadget = schema.GroupVersionKind{Group: "agg.example.com", Version: "v1", Kind: "Gadget"}
	secret = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	role   = schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}
)

// One hub for all of it: kinds come, go and come back under a manager that is
// not restarted.
func TestKinds(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, rbacv1.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	hub, err := client.New(f.Hub.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"own", "tenant"} {
		if err := hub.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
			t.Fatal(err)
		}
	}

	h := &harness{T: t, hub: hub, fleet: f, scheme: scheme}
	h.run(f.Hub.AdminConfig(),
		Kind{GVK: thing, OtherVersions: []string{"v1beta1"}, Resource: "things", Namespaced: true},
		Kind{GVK: gadget, Resource: "gadgets"},
		Kind{GVK: secret, Resource: "secrets", Namespaced: true, Object: &corev1.Secret{}, Namespaces: []string{"own"}},
	)
	t.Run("CRD", h.crd)
	t.Run("Version", h.version)
	t.Run("Namespaces", h.namespaces)
	t.Run("Aggregated", h.aggregated)
	t.Run("NoRight", h.noRight)
	if err := h.stop(); err != nil {
		t.Errorf("the manager ended with %v", err)
	}
}

type harness struct {
	*testing.T
	hub    client.Client
	fleet  *controlplane.Fleet
	scheme *runtime.Scheme
	kinds  *Kinds
	stop   func() error

	mu   sync.Mutex
	seen []string // names of requests
}

// run starts a manager with a controller that watches every kind.
func (h *harness) run(config *rest.Config, kinds ...Kind) {
	h.Helper()
	// The reflectors' complaints are the subject, and not for the test's log.
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	var err error
	h.kinds, err = New(config, Options{Scheme: h.scheme, Retry: 200 * time.Millisecond, Poll: time.Second, Grace: 2 * time.Second})
	if err != nil {
		h.Fatal(err)
	}
	if err := h.kinds.Add(kinds...); err != nil {
		h.Fatal(err)
	}
	if got := h.kinds.Status(kinds[0].GVK.GroupKind()); got.State != Unknown || got.Message == "" {
		h.Errorf("before Start: got %+v, want Unknown and why", got)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{Scheme: h.scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		h.Fatal(err)
	}
	if err := manager.Add(h.kinds); err != nil {
		h.Fatal(err)
	}
	again := true
	c, err := controller.New("test", manager, controller.Options{SkipNameValidation: &again, Reconciler: reconcile.Func(
		func(_ context.Context, r reconcile.Request) (reconcile.Result, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.seen = append(h.seen, r.Name)
			return reconcile.Result{}, nil
		})})
	if err != nil {
		h.Fatal(err)
	}
	for _, k := range kinds {
		if err := c.Watch(h.kinds.Source(k.GVK.GroupKind(), &handler.EnqueueRequestForObject{})); err != nil {
			h.Fatal(err)
		}
	}
	if err := c.Watch(h.kinds.Changes(handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: "changed:" + o.GetObjectKind().GroupVersionKind().Kind}}}
	}))); err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.Context())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	h.stop = func() error {
		cancel()
		return <-ended
	}
}

func (h *harness) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > 40*time.Second {
			t.Fatalf("not in time: %s; %+v", what, h.statuses())
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

func (h *harness) statuses() []Status {
	return []Status{h.kinds.Status(thing.GroupKind()), h.kinds.Status(gadget.GroupKind()), h.kinds.Status(secret.GroupKind())}
}

func (h *harness) is(t *testing.T, gvk schema.GroupVersionKind, want State) {
	t.Helper()
	h.eventually(t, gvk.Kind+" is "+want.String(), func() bool { return h.kinds.Status(gvk.GroupKind()).State == want })
}

// requested waits for a request of that name, and forgets all that came before.
func (h *harness) requested(t *testing.T, name string) {
	t.Helper()
	h.eventually(t, "the controller is asked for "+name, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := slices.Index(h.seen, name)
		if i >= 0 {
			h.seen = slices.Delete(h.seen, 0, i+1)
		}
		return i >= 0
	})
}

func (h *harness) names(t *testing.T, gvk schema.GroupVersionKind) ([]string, error) {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(gvk)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := h.kinds.List(ctx, list)
	if ctx.Err() != nil {
		t.Errorf("a list of %s waited", gvk.Kind)
	}
	var names []string
	for _, o := range list.Items {
		names = append(names, o.GetName())
	}
	slices.Sort(names)
	return names, err
}

func things(versions ...string) *apiextensionsv1.CustomResourceDefinition {
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Singular: "thing", Kind: "Thing", ListKind: "ThingList"},
		},
	}
	for n, v := range versions {
		crd.Spec.Versions = append(crd.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
			Name: v, Served: true, Storage: n == 0,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
		})
	}
	return crd
}

func (h *harness) create(t *testing.T, gvk schema.GroupVersionKind, name string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	u.SetNamespace("own")
	u.SetName(name)
	if err := h.hub.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

// A CustomResourceDefinition that appears later is picked up, one that goes is
// let go of, and one that comes back is picked up again.
func (h *harness) crd(t *testing.T) {
	h.is(t, thing, Absent)
	if _, err := h.names(t, thing); !errors.Is(err, ErrAbsent) {
		t.Errorf("a kind that is not there: got %v, want ErrAbsent", err)
	}
	for _, round := range []string{"first", "second"} {
		if err := h.fleet.Hub.InstallCRDObjects(t.Context(), things("v1")); err != nil {
			t.Fatal(err)
		}
		h.is(t, thing, Current)
		h.requested(t, "changed:Thing")
		h.create(t, thing, round)
		h.requested(t, round)
		if got, err := h.names(t, thing); err != nil || !slices.Equal(got, []string{round}) {
			t.Errorf("the %s time: got %v, %v", round, got, err)
		}
		if err := h.hub.Delete(t.Context(), things("v1")); err != nil {
			t.Fatal(err)
		}
		h.is(t, thing, Absent)
		h.requested(t, "changed:Thing")
		if _, err := h.names(t, thing); !errors.Is(err, ErrAbsent) {
			t.Errorf("after it went: got %v, want ErrAbsent", err)
		}
	}
}

// An older version is read where it is the only one. A definition that drops the
// version in use turns the reader to the other; one that serves neither is no
// empty list.
func (h *harness) version(t *testing.T) {
	if err := h.fleet.Hub.InstallCRDObjects(t.Context(), things("v1beta1")); err != nil {
		t.Fatal(err)
	}
	h.is(t, thing, Current)
	older := thing
	older.Version = "v1beta1"
	if got := h.kinds.Status(thing.GroupKind()).GVK; got != older {
		t.Errorf("got version %s, want v1beta1", got.Version)
	}
	h.create(t, older, "old")
	h.requested(t, "old")
	if _, err := h.names(t, thing); !errors.Is(err, ErrUnknown) {
		t.Errorf("the version that is not held: got %v, want ErrUnknown", err)
	}
	if got, err := h.names(t, older); err != nil || !slices.Equal(got, []string{"old"}) {
		t.Errorf("the version that is held: got %v, %v", got, err)
	}
	neither := things("v1beta1", "v2")
	neither.Spec.Versions[0].Served = false
	if err := h.fleet.Hub.InstallCRDObjects(t.Context(), neither); err != nil {
		t.Fatal(err)
	}
	h.is(t, thing, Stale)
	if got, err := h.names(t, older); err != nil || !slices.Equal(got, []string{"old"}) {
		t.Errorf("a definition without a version that is read: got %v, %v, want what was there", got, err)
	}
	if err := h.fleet.Hub.InstallCRDObjects(t.Context(), things("v1beta1", "v1")); err != nil {
		t.Fatal(err)
	}
	h.is(t, thing, Current)
}

// S24: of a kind that is read from one namespace, nothing else is held.
func (h *harness) namespaces(t *testing.T) {
	for _, namespace := range []string{"tenant", "own"} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s-" + namespace}}
		if err := h.hub.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	h.requested(t, "s-own")
	list := &corev1.SecretList{}
	if err := h.kinds.List(t.Context(), list); err != nil || len(list.Items) != 1 || list.Items[0].Name != "s-own" {
		t.Errorf("got %v, %v, want the Secret of namespace own", list.Items, err)
	}
}

// An aggregated API whose server is down is not an empty one: unknown if it was
// never read, and as it was if it was.
func (h *harness) aggregated(t *testing.T) {
	h.is(t, gadget, Absent)
	server := h.serveGadgets(t)
	gv := gadget.GroupVersion()
	if err := h.fleet.Hub.RegisterAPIService(t.Context(), gv, "default", "gadgets", server.port); err != nil {
		t.Fatal(err)
	}
	h.is(t, gadget, Current)
	h.requested(t, "g1")
	if got, err := h.names(t, gadget); err != nil || !slices.Equal(got, []string{"g1"}) {
		t.Errorf("got %v, %v", got, err)
	}

	server.down(true)
	h.is(t, gadget, Stale)
	h.requested(t, "changed:Gadget")
	if got, err := h.names(t, gadget); err != nil || !slices.Equal(got, []string{"g1"}) {
		t.Errorf("while it is down: got %v, %v, want what was there", got, err)
	}
	// A process that starts now has never read it.
	fresh, err := New(h.fleet.Hub.AdminConfig(), Options{Retry: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Add(Kind{GVK: gadget, Resource: "gadgets"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- fresh.Start(ctx) }()
	h.eventually(t, "a fresh process has asked", func() bool {
		s := fresh.Status(gadget.GroupKind())
		if s.State.Readable() || s.State == Absent {
			t.Fatalf("a fresh process takes an API that is down for %s", s.State)
		}
		return strings.Contains(s.Message, "does not answer")
	})
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(gadget)
	if err := fresh.List(ctx, list); !errors.Is(err, ErrUnknown) {
		t.Errorf("a fresh process: got %v, want ErrUnknown", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	server.down(false)
	h.is(t, gadget, Current)

	began := time.Now()
	if err := h.hub.Delete(t.Context(), &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group}}); err != nil {
		t.Fatal(err)
	}
	h.is(t, gadget, Stale)
	h.is(t, gadget, Absent)
	if grace := time.Since(began); grace < 2*time.Second {
		t.Errorf("an APIService that was deleted: absent after %s, want the grace of 2 s", grace)
	}
}

// A kind that cannot be listed is not an empty one, and keeps neither the others
// nor the manager from starting.
func (h *harness) noRight(t *testing.T) {
	ctx := t.Context()
	config, err := h.fleet.Hub.ServiceAccount(ctx, "own", "sallyport")
	if err != nil {
		t.Fatal(err)
	}
	rights := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sallyport"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"apiregistration.k8s.io"}, Resources: []string{"apiservices"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"clusterroles"}, Verbs: []string{"list", "watch"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "sallyport"},
		RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "sallyport"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "own", Name: "sallyport"}},
	}
	weak := &harness{T: t, hub: h.hub, fleet: h.fleet, scheme: h.scheme}
	weak.run(config,
		Kind{GVK: thing, Resource: "things", Namespaced: true},
		Kind{GVK: role, Resource: "clusterroles", Object: &metav1.PartialObjectMetadata{}},
	)
	weak.eventually(t, "the state says that the hub cannot be watched", func() bool {
		s := weak.kinds.Status(role.GroupKind())
		return s.State == Unknown && strings.Contains(s.Message, "forbidden")
	})
	for _, o := range []client.Object{rights, binding} {
		if err := h.hub.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	weak.is(t, role, Current)
	weak.requested(t, "cluster-admin")
	weak.eventually(t, "the state says what is missing", func() bool {
		s := weak.kinds.Status(thing.GroupKind())
		return s.State == Listing && strings.Contains(s.Message, "forbidden")
	})
	if _, err := weak.names(t, thing); !errors.Is(err, ErrUnknown) {
		t.Errorf("a kind that cannot be listed: got %v, want ErrUnknown", err)
	}
	rights.Rules = append(rights.Rules, rbacv1.PolicyRule{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: []string{"list", "watch"}})
	if err := h.hub.Update(ctx, rights); err != nil {
		t.Fatal(err)
	}
	weak.is(t, thing, Current)
	if err := weak.stop(); err != nil {
		t.Errorf("the manager ended with %v", err)
	}
}

// gadgets is a real aggregated API server as far as the hub can tell: it serves
// discovery, a list and a watch.
type gadgets struct {
	port   int
	mu     sync.Mutex
	isDown bool
	gone   chan struct{} // closed when it goes down
}

func (g *gadgets) down(is bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isDown = is
	if is {
		close(g.gone)
	} else {
		g.gone = make(chan struct{})
	}
}

func (h *harness) serveGadgets(t *testing.T) *gadgets {
	t.Helper()
	certificate, key, err := h.fleet.Hub.ServingCertificate("gadgets.default.svc", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	g := &gadgets{port: listener.Addr().(*net.TCPAddr).Port, gone: make(chan struct{})}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return g
}

func (g *gadgets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	isDown, gone := g.isDown, g.gone
	g.mu.Unlock()
	if isDown {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	one := map[string]any{"apiVersion": gadget.GroupVersion().String(), "kind": "Gadget", "metadata": map[string]any{"name": "g1", "uid": "1", "resourceVersion": "1"}}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/apis/agg.example.com/v1":
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gadget.GroupVersion().String(),
			APIResources: []metav1.APIResource{{Name: "gadgets", SingularName: "gadget", Kind: "Gadget", Verbs: []string{"get", "list", "watch"}}},
		})
	case r.URL.Path == "/apis/agg.example.com/v1/gadgets" && r.URL.Query().Get("watch") == "":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": gadget.GroupVersion().String(), "kind": "GadgetList", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{one},
		})
	case r.URL.Path == "/apis/agg.example.com/v1/gadgets" && r.URL.Query().Get("sendInitialEvents") == "":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	case strings.HasSuffix(r.URL.Path, "/gadgets"):
		// A watch-list, which this server is too old for.
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonInvalid, Code: 422})
	default:
		http.NotFound(w, r)
	}
}
