package config_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/source"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestControllerWithItsOwnRights plays commit, access and revert, to a member with
// an OCM agent and to one with a kubeconfig, by a controller that has only what
// the manifests give it. Whatever the hub refuses it is an error.
func TestControllerWithItsOwnRights(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	fleet := controlplane.ForTest(t, controlplane.Options{Members: []string{"prod-eu-1", "prod-us-1"}, ControllerManager: true})
	must(t, fleet.InstallOCM(t.Context()))
	must(t, fleet.CreateManagedCluster(t.Context(), "prod-eu-1", map[string]string{"env": "prod"}))
	must(t, fleet.StartWorkAgent(t.Context(), "prod-eu-1"))
	hub := clientFor(t, fleet.Hub.AdminConfig())
	webhook := freeAddr(t)
	for _, object := range build(t, "testdata/git-sync") {
		reachable(t, object, webhook)
		if err := hub.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")); err != nil {
			t.Fatalf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
		}
	}
	kubeconfig, err := os.ReadFile(fleet.Member("prod-us-1").Kubeconfig())
	must(t, err)
	must(t, hub.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "prod-us-1", Labels: map[string]string{v1alpha1.ClusterLabel: "prod-us-1", v1alpha1.FleetLabelPrefix + "env": "prod"}},
		Data:       map[string][]byte{"value": kubeconfig},
	}))
	for _, name := range []string{"prod-eu-1", "prod-us-1"} {
		member := clientFor(t, fleet.Member(name).AdminConfig())
		must(t, member.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}))
	}
	installRoutes(t, hub)
	installAddOn(t, fleet.Hub, "prod-eu-1")
	repo := t.TempDir()
	must(t, os.CopyFS(repo, os.DirFS("../../gitops-examples/plain")))
	git(t, repo, "init", "--initial-branch=main")
	commit(t, repo, "payments on-call")

	refused := runController(t, fleet.Hub, repo, webhook)
	defer func() {
		if got := refused(); len(got) > 0 {
			t.Errorf("the hub refused the controller:\n%s", strings.Join(got, "\n"))
		}
	}()

	grant := types.NamespacedName{Namespace: "payments", Name: "oncall"}
	eventually(t, "the grant is ready on both members", func(ctx context.Context) string {
		var g v1alpha1.AccessGrant
		if err := hub.Get(ctx, grant, &g); err != nil {
			return err.Error()
		}
		if !meta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady) || g.Status.Clusters == nil || g.Status.Clusters.Applied != 2 {
			return fmt.Sprintf("%+v", g.Status)
		}
		return ""
	})
	if made := len(ours(t, hub)); made == 0 {
		t.Error("there is nothing of Sallyport's on the hub")
	}

	t.Run("Routes", func(t *testing.T) { testRoutes(t, fleet, "prod-eu-1", "prod-us-1") })

	// What it refuses it has read with its own rights, past the caches.
	must(t, hub.Create(t.Context(), &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "closed"},
		Spec: v1alpha1.GuardrailSpec{
			Points: []v1alpha1.GuardrailPoint{v1alpha1.PointAdmission},
			CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "false", Message: "nothing more today"}}},
		},
	}))
	eventually(t, "a grant is refused by a guardrail", func(ctx context.Context) string {
		more := accessGrant("more", func(o *unstructured.Unstructured) { o.SetNamespace("payments") })
		err := hub.Create(ctx, more, client.DryRunAll)
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `guardrail "closed": nothing more today`) {
			return fmt.Sprint(err)
		}
		return ""
	})

	must(t, os.WriteFile(repo+"/kustomization.yaml", []byte("resources: [roles/pod-reader.yaml, teams/payments/namespace.yaml]\n"), 0o600))
	commit(t, repo, "no more payments on-call")
	eventually(t, "nothing is left of the grants", func(ctx context.Context) string {
		if err := hub.Get(ctx, grant, &v1alpha1.AccessGrant{}); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the grant: %v", err)
		}
		return strings.Join(ours(t, hub), ", ")
	})
}

// runController runs it with the account's token until the test ends. What is
// returned tells every request that was forbidden, or held back by a policy.
func runController(t *testing.T, hub *controlplane.ControlPlane, repo, webhook string) (refused func() []string) {
	cfg, err := hub.ServiceAccount(t.Context(), namespace, account)
	must(t, err)
	var mu sync.Mutex
	seen := map[string]bool{}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if err == nil && (response.StatusCode == http.StatusForbidden || response.StatusCode == http.StatusUnprocessableEntity) {
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprintf("%d %s %s", response.StatusCode, r.Method, r.URL.Path)] = true
			}
			return response, err
		})
	})
	manager, err := controllers.NewManager(cfg, controllers.Options{
		Namespace: namespace, LeaderElect: true, MetricsAddr: "0", ProbeAddr: "0", WebhookAddr: webhook, Unnamed: true,
		Resync: time.Second, Grace: 10 * time.Second,
		GatewayNamespace: gatewayNamespace, Impersonator: types.NamespacedName{Namespace: namespace, Name: impersonator},
		Git: &source.Options{
			URL: "file://" + repo, Branch: "main", Name: source.DefaultName, Namespace: namespace,
			Interval: time.Second, Timeout: 10 * time.Second,
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- manager.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the controller stopped with: %v", err)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		var list []string
		for s := range seen {
			list = append(list, s)
		}
		slices.Sort(list)
		return list
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ours lists what Sallyport made on the hub for grants.
func ours(t *testing.T, hub client.Client) []string {
	t.Helper()
	var found []string
	for _, list := range []client.ObjectList{&rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{}} {
		must(t, hub.List(t.Context(), list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
		must(t, meta.EachListItem(list, func(o runtime.Object) error {
			found = append(found, o.(client.Object).GetName())
			return nil
		}))
	}
	return found
}

func eventually(t *testing.T, what string, missing func(context.Context) string) {
	t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if now := missing(ctx); ctx.Err() == nil {
			last = now
		}
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("not so: %s: %s", what, last)
	}
}

func commit(t *testing.T, repo, message string) {
	t.Helper()
	git(t, repo, "add", "--all")
	git(t, repo, "-c", "user.name=Carol", "-c", "user.email=carol@example.com", "commit", "--quiet", "--message", message)
}

func git(t *testing.T, repo string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", repo}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
