package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	accessv1alpha1 "github.com/sallyport-dev/sallyport/api/v1alpha1"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const systemNamespace = "sallyport-system"

// whole is a replica with the rights of config/gateway, before a real member. The test
// writes what a controller would.
type whole struct {
	*testing.T
	*controlplane.Fleet
	admin  client.Client
	log    *synced
	addr   string
	health string
	cancel context.CancelFunc
	ended  chan error
}

// synced is a buffer of several goroutines.
type synced struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func newWhole(t *testing.T, change func(*Options)) *whole {
	ctrl.SetLogger(logr.Discard())
	w := &whole{T: t, Fleet: controlplane.ForTest(t, controlplane.Options{Members: []string{"prod-1"}}), log: &synced{}, ended: make(chan error, 1)}
	scheme, err := snapshot.Scheme()
	must(t, err)
	must(t, w.Hub.InstallCRDs(t.Context(), "../../config/crd/bases"))
	w.admin, err = client.New(w.Hub.AdminConfig(), client.Options{Scheme: scheme})
	must(t, err)
	for _, name := range []string{systemNamespace, "team"} {
		must(t, w.admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../config/gateway")
	must(t, err)
	for _, r := range built.Resources() {
		object, err := r.Map()
		must(t, err)
		if kind := r.GetKind(); kind == "Service" || kind == "APIService" || kind == "Deployment" {
			continue
		}
		must(t, w.admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: object}), client.FieldOwner("test")))
	}
	w.member()

	o := NewOptions()
	o.Hub, err = w.Hub.ServiceAccount(t.Context(), "sallyport-gateway", "sallyport-gateway")
	must(t, err)
	var certificate, key []byte
	certificate, key, err = w.Hub.ServingCertificate("sallyport-gateway.sallyport-gateway.svc")
	must(t, err)
	base := t.TempDir() + "/tls"
	must(t, writeAll(map[string][]byte{base + ".crt": certificate, base + ".key": key}))
	o.Serving.CertFile, o.Serving.KeyFile = base+".crt", base+".key"
	o.Serving.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr, w.health = o.Serving.Listener.Addr().String(), freeAddr(t)
	o.HealthAddr, o.MetricsAddr = w.health, freeAddr(t)
	o.ShutdownDelay, o.DrainTimeout = 500*time.Millisecond, time.Second
	o.Log.Stdout = w.log
	if change != nil {
		change(o)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w.cancel = cancel
	g, err := New(ctx, *o)
	must(t, err)
	go func() { w.ended <- g.Run(ctx) }()
	t.Cleanup(cancel)
	w.eventually("ready", func() string {
		status, body := w.plain(w.health, "/readyz?verbose")
		if status == http.StatusOK {
			return ""
		}
		return body
	})
	w.eventually("metrics", func() string {
		if status, body := w.plain(o.MetricsAddr, "/metrics"); status != http.StatusOK {
			return body
		}
		return ""
	})
	must(t, w.Hub.RegisterAPIService(t.Context(), v1alpha1.GroupVersion, "sallyport-gateway", "sallyport-gateway", o.Serving.Listener.Addr().(*net.TCPAddr).Port))
	t.Run("Metrics", func(t *testing.T) {
		_, body := w.plain(o.MetricsAddr, "/metrics")
		for _, family := range []string{"sallyport_access_snapshot", "sallyport_gateway_sessions", "sallyport_decision_log_entries_total", "rest_client_requests_total", "go_goroutines", "sallyport_access_confirmed_timestamp_seconds"} {
			if !strings.Contains(body, "\n"+family) {
				t.Errorf("there is no metric %s", family)
			}
		}
	})
	return w
}

// member has a route to the one member: with the right to impersonate alice, who may
// read pods there.
func (w *whole) member() {
	w.Helper()
	ctx, member := w.Context(), w.Member("prod-1")
	config, err := member.ServiceAccount(ctx, systemNamespace, "sallyport-impersonator")
	must(w.T, err)
	rbac := kubernetes.NewForConfigOrDie(member.AdminConfig()).RbacV1()
	bind := func(name string, subject rbacv1.Subject, rules ...rbacv1.PolicyRule) {
		_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{})
		must(w.T, err)
		_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{subject}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		}, metav1.CreateOptions{})
		must(w.T, err)
	}
	bind("impersonator", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: systemNamespace, Name: "sallyport-impersonator"},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"alice"}, Verbs: []string{"impersonate"}},
		rbacv1.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"userextras/authentication.kubernetes.io/credential-id", "uids"}, Verbs: []string{"impersonate"}})
	bind("alice", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "alice"}, readPods)

	must(w.T, w.admin.Create(ctx, inventory.Describe(fleet.New([]fleet.Member{{Name: "prod-1", Delivery: fleet.Direct, Labels: map[string]string{"env": "prod"}}}), systemNamespace)[0]))
	must(w.T, w.admin.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "sallyport-gateway", Name: accessv1alpha1.RouteNamePrefix + "prod-1", Labels: map[string]string{
			accessv1alpha1.ManagedByLabel: accessv1alpha1.ManagedByValue, accessv1alpha1.ClusterLabel: "prod-1",
		}},
		Type: accessv1alpha1.RouteSecretType,
		Data: map[string][]byte{
			accessv1alpha1.RouteServer: []byte(member.URL()), accessv1alpha1.RouteCA: member.CABundle(), accessv1alpha1.RouteToken: []byte(config.BearerToken),
		},
	}))
}

var readPods = rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}}

// grant alice what the member lets her.
func (w *whole) grant() *accessv1alpha1.AccessGrant {
	w.Helper()
	g := &accessv1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "pods", Finalizers: []string{accessv1alpha1.AccessGrantFinalizer}},
		Spec: accessv1alpha1.AccessGrantSpec{
			Reason: "test", Subjects: []accessv1alpha1.Subject{{Kind: rbacv1.UserKind, Name: "alice"}},
			Clusters: accessv1alpha1.ClusterSelection{Names: []accessv1alpha1.ClusterName{"prod-1"}},
			Access:   []accessv1alpha1.AccessEntry{{Rules: []accessv1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}}}}},
		},
	}
	must(w.T, w.admin.Create(w.Context(), g))
	return g
}

func (w *whole) eventually(what string, missing func() string) {
	w.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(w.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		w.Fatalf("not %s: %s", what, last)
	}
}

// plain asks without TLS.
func (w *whole) plain(addr, path string) (int, string) {
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// onMember is the one member, through the hub or, with an address, through the gateway itself.
func onMember(cfg *rest.Config, addr string) *kubernetes.Clientset {
	cfg = rest.CopyConfig(cfg)
	if addr != "" {
		cfg.Host = "https://" + addr
	}
	cfg.Host += prefix + "prod-1/proxy"
	return kubernetes.NewForConfigOrDie(cfg)
}

// TestGateway: one replica from start to end, with the rights of config/gateway.
func TestGateway(t *testing.T) {
	w := newWhole(t, nil)
	alice, err := w.Hub.User("alice")
	must(t, err)
	list := func(addr string) error {
		_, err := onMember(alice, addr).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		return err
	}
	if err := list(w.addr); !apierrors.IsForbidden(err) {
		t.Fatalf("without a grant got %v, want 403", err)
	}
	grant := w.grant()
	// The hub side of it, which the controller makes.
	allow(t.Context(), t, w.Hub, "alice", rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"clusters/proxy"}, ResourceNames: []string{"prod-1"}, Verbs: []string{"get"}})
	for way, addr := range map[string]string{"directly": w.addr, "through the hub": ""} {
		w.eventually(way, func() string {
			if err := list(addr); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	out, err := kubectl(t, w.Fleet, alice, "get", "clusters.proxy.sallyport.dev")
	if err != nil || !strings.Contains(out, "prod-1") || !strings.Contains(out, "team/pods") || strings.Contains(out, "NotReady") {
		t.Errorf("kubectl get clusters: %v\n%s", err, out)
	}
	for _, part := range []string{`"verdict":"allow"`, `"verdict":"deny"`, `"layer":"grant"`} {
		if !strings.Contains(w.log.String(), part) {
			t.Errorf("the decision log has no %s:\n%s", part, w.log)
		}
	}

	// The grant goes, and a watch with it.
	pods := watchPods(t, alice, w.addr)
	must(t, w.admin.Delete(t.Context(), grant))
	pods.ends("the grant was taken away")
	w.eventually("refused", func() string {
		if err := list(w.addr); !apierrors.IsForbidden(err) {
			return fmt.Sprint(err)
		}
		return ""
	})
}

// TestGatewayEnds: unready first, serving on until that has been noticed; then what is
// under way ends by itself or is cut.
func TestGatewayEnds(t *testing.T) {
	w := newWhole(t, func(o *Options) { o.ShutdownDelay, o.DrainTimeout = 2*time.Second, time.Second })
	alice, err := w.Hub.User("alice")
	must(t, err)
	w.grant()
	allow(t.Context(), t, w.Hub, "alice",
		rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"clusters/proxy"}, ResourceNames: []string{"prod-1"}, Verbs: []string{"get"}})
	list := func() error {
		_, err := onMember(alice, w.addr).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		return err
	}
	w.eventually("granted", func() string {
		if err := list(); err != nil {
			return err.Error()
		}
		return ""
	})
	pods := watchPods(t, alice, w.addr)
	w.cancel()
	w.eventually("unready", func() string {
		if status, _ := w.plain(w.health, "/readyz"); status == http.StatusOK {
			return "ready"
		}
		return ""
	})
	if status, body := w.plain(w.health, "/livez"); status != http.StatusOK {
		t.Errorf("while it ends it is not alive: %d %s", status, body)
	}
	if err := list(); err != nil {
		t.Errorf("while it ends: %v", err)
	}
	pods.ends("the replica ended")
	select {
	case err := <-w.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

// podWatch is an open watch.
type podWatch struct {
	*testing.T
	done chan error
}

func watchPods(t *testing.T, cfg *rest.Config, addr string) podWatch {
	t.Helper()
	stream, err := onMember(cfg, addr).CoreV1().RESTClient().Get().Resource("pods").VersionedParams(&metav1.ListOptions{Watch: true}, metav1.ParameterCodec).Stream(t.Context())
	must(t, err)
	w := podWatch{t, make(chan error, 1)}
	go func() {
		defer stream.Close()
		_, err := io.Copy(io.Discard, bufio.NewReader(stream))
		w.done <- errors.Join(err)
	}()
	return w
}

func (w podWatch) ends(why string) {
	w.Helper()
	select {
	case <-w.done:
	case <-time.After(20 * time.Second):
		w.Fatalf("a watch goes on although %s", why)
	}
}

// TestValidate: what would be dangerous or of no effect is said before anything starts.
func TestValidate(t *testing.T) {
	files := func(o *Options) { o.Serving.CertFile, o.Serving.KeyFile = "c", "k" }
	for name, tc := range map[string]struct {
		reason string
		change func(*Options)
		want   string
	}{
		"Fine":         {"With a certificate the defaults will do.", files, ""},
		"NoCert":       {"A certificate of one's own is said so.", func(*Options) {}, "--tls-cert-file"},
		"HalfCert":     {"Both files.", func(o *Options) { o.Serving.CertFile = "c" }, "--tls-private-key-file"},
		"Both":         {"One or the other.", func(o *Options) { files(o); o.Serving.SelfSigned = true }, "exclude"},
		"SelfSigned":   {"By name only.", func(o *Options) { o.Serving.SelfSigned = true }, ""},
		"Namespace":    {"S8: kubeconfigs are in the controller's.", func(o *Options) { files(o); o.Namespace = o.SallyportNamespace }, "namespace of its own"},
		"TokenTTL":     {"S14: a token that was revoked is believed for ten seconds at most.", func(o *Options) { files(o); o.Authentication.TokenTTL = time.Minute }, "--token-cache-ttl"},
		"HubTTL":       {"S14: likewise the hub's yes.", func(o *Options) { files(o); o.HubReviews.AllowTTL = time.Hour }, "no longer than"},
		"ClusterProxy": {"Its certificates are needed.", func(o *Options) { files(o); o.ClusterProxy.Address = "h:1" }, "cluster-proxy"},
		"Config":       {"A file that is named is there.", func(o *Options) { files(o); o.Authentication.ConfigFile = "/none" }, "/none"},
	} {
		t.Run(name, func(t *testing.T) {
			o := NewOptions()
			tc.change(o)
			err := o.Validate()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}
