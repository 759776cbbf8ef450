package authorizer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/authz"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

const patience = time.Minute

// world is a hub, the member prod, and an authorizer that the member asks.
type world struct {
	*testing.T
	fleet  *controlplane.Fleet
	hub    client.Client
	member *controlplane.ControlPlane
	dir    string
	addr   string // of the authorizer
	stop   func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	w := &world{T: t, fleet: controlplane.ForTest(t, controlplane.Options{Members: []string{"prod"}}), dir: t.TempDir(), stop: func() {}}
	w.member = w.fleet.Member("prod")
	w.must(w.fleet.Hub.InstallCRDs(t.Context(), "../../config/crd/bases"))
	scheme, err := controllers.Scheme()
	w.must(err)
	w.hub, err = client.New(w.fleet.Hub.AdminConfig(), client.Options{Scheme: scheme})
	w.must(err)
	for _, name := range []string{install.Namespace, "payments"} {
		w.must(w.hub.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	w.must(w.fleet.InstallOCM(t.Context()))
	w.must(w.fleet.CreateManagedCluster(t.Context(), "prod", map[string]string{"env": "prod"}))
	admin, err := kubernetes.NewForConfig(w.member.AdminConfig())
	w.must(err)
	for _, name := range []string{"payments", "rbac"} {
		_, err = admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		w.must(err)
	}
	// What alice has by the member's RBAC, and no grant gives.
	_, err = admin.RbacV1().RoleBindings("rbac").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "alice"}},
	}, metav1.CreateOptions{})
	w.must(err)
	_, err = admin.RbacV1().ClusterRoles().Update(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"configmaps", "secrets"}}},
	}, metav1.UpdateOptions{})
	w.must(err)
	w.certificates()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// certificates of the authorizer, by the hub's authority, and of the member's API server
// as its client, by the hub's authority of clients.
func (w *world) certificates() {
	w.Helper()
	cert, key, err := w.fleet.Hub.ServingCertificate("localhost")
	w.must(err)
	who, err := w.fleet.Hub.User("kube-apiserver-prod")
	w.must(err)
	clients, err := os.ReadFile(filepath.Join(w.fleet.Dir(), "pki", "hub", "client-ca.crt"))
	w.must(err)
	for name, content := range map[string][]byte{
		"tls.crt": cert, "tls.key": key, "ca.crt": w.fleet.Hub.CABundle(), "client-ca.crt": clients, "client.crt": who.CertData, "client.key": who.KeyData,
	} {
		w.must(os.WriteFile(w.file(name), content, 0o600))
	}
	l, err := (&net.ListenConfig{}).Listen(w.Context(), "tcp", "localhost:0")
	w.must(err)
	w.addr = l.Addr().String()
	w.must(l.Close())
}

// authorize starts the authorizer, and returns when it answers.
func (w *world) authorize(change ...func(*authz.Options)) {
	w.Helper()
	w.stop()
	o := authz.NewOptions()
	o.Hub, o.Addr, o.HealthAddr, o.MetricsAddr = w.fleet.Hub.AdminConfig(), w.addr, "0", "0"
	o.CertFile, o.KeyFile, o.ClientCAFile = w.file("tls.crt"), w.file("tls.key"), w.file("client-ca.crt")
	o.Log.Stdout = io.Discard
	for _, c := range change {
		c(o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := authz.New(ctx, *o)
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			w.must(<-done)
		}
	}
	w.Cleanup(w.stop)
	w.eventually("the authorizer answers", func() string {
		err := w.get("secrets", "nowhere")
		if err == nil || !apierrors.IsForbidden(err) || strings.Contains(err.Error(), "webhook") {
			return fmt.Sprint(err)
		}
		return ""
	})
}

// memberAsks restarts the member's API server with what "authorizer config" writes.
func (w *world) memberAsks(policy string) {
	w.Helper()
	o := authz.NewConfigOptions()
	o.Cluster, o.Server, o.FailurePolicy = "prod", "https://"+w.addr, policy
	o.CAFile, o.CertFile, o.KeyFile, o.KubeconfigFile = w.file("ca.crt"), w.file("client.crt"), w.file("client.key"), w.file("kubeconfig.yaml")
	o.Node = false
	authorization, kubeconfig, err := authz.Config(o)
	w.must(err)
	w.must(os.WriteFile(w.file("authorization.yaml"), authorization, 0o600))
	w.must(os.WriteFile(o.KubeconfigFile, kubeconfig, 0o600))
	w.must(w.member.Stop())
	w.member.SetFlags("--authorization-config=" + w.file("authorization.yaml"))
	w.must(w.member.Start(w.Context()))
}

func (w *world) eventually(what string, missing func() string) {
	w.Helper()
	if err := install.Until(w.Context(), patience, func(context.Context) string { return missing() }); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// get lists what alice asks for on the member itself.
func (w *world) get(resource, namespace string) error {
	w.Helper()
	config, err := w.member.User("alice", "devs")
	w.must(err)
	config.Timeout = 20 * time.Second
	c, err := kubernetes.NewForConfig(config)
	w.must(err)
	return c.CoreV1().RESTClient().Get().Namespace(namespace).Resource(resource).Do(w.Context()).Error()
}

func (w *world) grant() *v1alpha1.AccessGrant {
	return &v1alpha1.AccessGrant{
		// The controller would have taken it.
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "oncall", Finalizers: []string{v1alpha1.AccessGrantFinalizer}},
		Spec: v1alpha1.AccessGrantSpec{
			Reason: "on call", Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "devs"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod"}},
			Access: []v1alpha1.AccessEntry{{
				Rules:      []v1alpha1.PolicyRule{{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
				Namespaces: []v1alpha1.NamespaceName{"payments"},
			}},
		},
	}
}

func rail(name, expression, message string) *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.GuardrailSpec{
			Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
			CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: expression, Message: message}}},
		},
	}
}

// failsClosed: an API server whose webhook does not answer says so by an error of its own.
func failsClosed(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInternalError(err) }

// TestAuthorizer: a real API server asks, and does as it is told.
func TestAuthorizer(t *testing.T) {
	w := newWorld(t)
	w.must(w.hub.Create(t.Context(), w.grant()))
	w.must(w.hub.Create(t.Context(), rail("no-secrets", "input.request.resource != 'secrets'", "nobody reads Secrets; ask #security")))
	w.memberAsks("Deny")

	t.Run("S16Down", func(t *testing.T) {
		// Nobody answers yet: with the policy Deny nothing that is asked about goes on, and
		// the system, which is spared, does.
		if err := w.get("configmaps", "rbac"); !failsClosed(err) {
			t.Errorf("with the authorizer down and failure policy Deny: %v", err)
		}
	})
	w.authorize(func(o *authz.Options) { o.AllowFromGrants = true })
	t.Run("Allow", func(t *testing.T) {
		w.eventually("a grant allows what RBAC does not", func() string {
			if err := w.get("pods", "payments"); err != nil {
				return err.Error()
			}
			return ""
		})
		if err := w.get("pods", "rbac"); !apierrors.IsForbidden(err) {
			t.Errorf("what neither gives: %v", err)
		}
	})
	t.Run("NoOpinion", func(t *testing.T) {
		if err := w.get("configmaps", "rbac"); err != nil {
			t.Errorf("RBAC gives it, and no guardrail is against it: %v", err)
		}
	})
	t.Run("Deny", func(t *testing.T) {
		err := w.get("secrets", "rbac")
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "nobody reads Secrets; ask #security") {
			t.Errorf("a guardrail is against what RBAC gives: %v", err)
		}
	})
	t.Run("S14Revoked", func(t *testing.T) {
		var live v1alpha1.AccessGrant
		w.must(w.hub.Get(t.Context(), client.ObjectKeyFromObject(w.grant()), &live))
		w.must(w.hub.Delete(t.Context(), &live))
		w.eventually("a grant that is gone allows nothing", func() string {
			if err := w.get("pods", "payments"); err == nil {
				return "pods are listed"
			}
			return ""
		})
	})
	t.Run("S14Swap", w.swap)
	t.Run("Slow", w.slow)
	w.stop()
	t.Run("S16DownAgain", func(t *testing.T) {
		w.eventually("without the authorizer", func() string {
			if err := w.get("configmaps", "rbac"); !failsClosed(err) {
				return fmt.Sprint(err)
			}
			return ""
		})
	})
	w.memberAsks("NoOpinion")
	t.Run("S16DownNoOpinion", func(t *testing.T) {
		if err := w.get("configmaps", "rbac"); err != nil {
			t.Errorf("with the authorizer down and failure policy NoOpinion RBAC decides: %v", err)
		}
		if err := w.get("pods", "rbac"); !failsClosed(err) {
			t.Errorf("and nobody gives this: %v", err)
		}
	})
}

// swap has a policy come and go under load: once it is in force, and what API servers may
// keep is over, no answer contradicts it.
func (w *world) swap(t *testing.T) {
	const kept = time.Second // --unauthorized-ttl
	var let, refused atomic.Int64
	for range 3 {
		freeze := rail("freeze", "input.request.resource != 'configmaps'", "the freeze has begun")
		w.must(w.hub.Create(t.Context(), freeze))
		w.eventually("the freeze is in force", func() string {
			if err := w.get("configmaps", "rbac"); err == nil {
				return "it is not"
			}
			return ""
		})
		until := time.Now().Add(kept + time.Second)
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				for time.Now().Before(until) {
					if err := w.get("configmaps", "rbac"); err == nil {
						let.Add(1)
					} else {
						refused.Add(1)
					}
				}
			})
		}
		asking.Wait()
		w.must(w.hub.Delete(t.Context(), freeze))
		w.eventually("the freeze is over", func() string {
			if err := w.get("configmaps", "rbac"); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	// Each client's first refusal was at an API server that then keeps no permission.
	if let.Load() > 0 || refused.Load() == 0 {
		t.Errorf("while the freeze was in force %d requests were let through and %d refused", let.Load(), refused.Load())
	}
	t.Logf("%d requests refused while the freeze was in force", refused.Load())
}

// slow is a policy that takes too long: what it matches is refused when its time is up, and
// nothing else is.
func (w *world) slow(t *testing.T) {
	slow := &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "slow"},
		Spec: v1alpha1.GuardrailSpec{
			Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
			Match:  &v1alpha1.GuardrailMatch{Verbs: []string{"list"}},
			Rego: &v1alpha1.RegoPolicy{Module: `package slow

deny contains {"message": "never"} if {
	input.request.resource == "configmaps"
	some a in numbers.range(1, 9000)
	some b in numbers.range(1, 9000)
	a * b == 7.5
}
`},
		},
	}
	w.must(w.hub.Create(t.Context(), slow))
	w.eventually("what takes too long is refused", func() string {
		err := w.get("configmaps", "rbac")
		if err == nil {
			return "it is allowed"
		}
		if !strings.Contains(err.Error(), "cannot be evaluated") {
			return err.Error()
		}
		return ""
	})
	w.must(w.hub.Delete(t.Context(), slow))
	w.eventually("and without it is not", func() string {
		if err := w.get("configmaps", "rbac"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestWhoMayAsk: without a certificate of the authority there is no answer.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	w.memberAsks("Deny")
	w.authorize(func(o *authz.Options) { o.ClientNames = []string{"kube-apiserver-prod"} })
	for name, config := range map[string]*rest.Config{
		"Nobody":   {},
		"Stranger": func() *rest.Config { c, err := w.member.User("kube-apiserver-prod"); w.must(err); return c }(),
		"Other":    func() *rest.Config { c, err := w.fleet.Hub.User("somebody"); w.must(err); return c }(),
	} {
		ask := &rest.Config{Host: "https://" + w.addr, TLSClientConfig: rest.TLSClientConfig{
			CAData: w.fleet.Hub.CABundle(), CertData: config.CertData, KeyData: config.KeyData,
		}}
		c, err := rest.HTTPClientFor(ask)
		w.must(err)
		resp, err := c.Post(ask.Host+authz.Path+"/prod", "application/json", strings.NewReader("{}"))
		if err != nil {
			continue // refused while shaking hands
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, resp.Status)
		}
		c.CloseIdleConnections()
	}
}
