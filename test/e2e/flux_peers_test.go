//go:build peers

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers/grant"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestFlux: gitops-examples/flux through Flux's own kustomize-controller.
func TestFlux(t *testing.T) {
	w := newWorld(t, "prod-1", "dev-1")
	w.byKubeconfig("prod-1", prod)
	w.byKubeconfig("dev-1", dev)
	w.must(w.fleet.StartKustomizeController(w.ctx))
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}) // what asked probes with is in it
	w.asked()
	prod1, dev1 := w.member("prod-1"), w.member("dev-1")
	repo := newRepository(t, "flux")
	push := func(message string) string {
		t.Helper()
		revision := repo.commit(ada, message)
		w.must(w.fleet.SetGitRepository(w.ctx, "flux-system", "access", repo.dir, revision))
		return revision
	}
	from := func(revision string) v1alpha1.GrantSource {
		return v1alpha1.GrantSource{Kind: "Kustomization", Namespace: "flux-system", Name: "access-grants", Revision: revision}
	}
	const oncallFile, bobFile = "access/teams/payments/oncall.yaml", "access/teams/payments/bob-dev.yaml"

	first := push("Access for the on-call")
	w.kubectlAdmin("apply", "-k", filepath.Join(repo.dir, "hub"))
	t.Run("grants become ready, and so Flux does", func(t *testing.T) {
		begin := time.Now()
		w.flux("access-guardrails", first, "True ReconciliationSucceeded")
		w.flux("access-roles", first, "True ReconciliationSucceeded")
		w.flux("access-grants", first, "True ReconciliationSucceeded")
		t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
		// Flux has waited for them: now is no time left to wait.
		for name, want := range map[string]string{"oncall": "True Applied", "bob-dev": "True Applied"} {
			if got := w.condition("payments", name, v1alpha1.ConditionReady); got != want {
				t.Errorf("Flux is ready, and %s is %s", name, got)
			}
			w.source("payments", name, from(first))
		}
		if !w.can("prod-1", alice, "list", "pods", "payments") || !w.can("dev-1", bob, "list", "pods", "payments") {
			t.Error("alice or bob has no access")
		}
		w.sourced("flux-system/access-grants@"+first, w.hub, prod1, dev1)
		w.event("payments", "Applied", "applied on 1 cluster", first)
	})

	t.Run("a commit is named by what it changed", func(t *testing.T) {
		before := w.versions("prod-1", "dev-1")
		repo.replace(bobFile, "PAY-1200", "PAY-1201")
		second := push("Another ticket for bob")
		w.flux("access-grants", second, "True ReconciliationSucceeded")
		w.source("payments", "bob-dev", from(second))
		w.source("payments", "oncall", from(first))
		w.sourced("flux-system/access-grants@"+second, dev1) // and not on prod-1
		for _, key := range changed(before, w.versions("prod-1", "dev-1")) {
			if strings.HasPrefix(key, "prod-1") || strings.Contains(key, "oncall") {
				t.Errorf("%s was rewritten", key)
			}
		}
	})

	t.Run("a grant that cannot be is told by Flux", func(t *testing.T) {
		repo.replace(bobFile, "pod-reader", "pod-raeder")
		third := push("A slip")
		w.flux("access-grants", third, "False HealthCheckFailed")
		if message := w.fluxMessage("access-grants"); !strings.Contains(message, "bob-dev") || strings.Contains(message, "oncall") {
			t.Errorf("Flux says: %s", message)
		}
		w.ready("payments", "bob-dev", "False Rejected")
		repo.replace(bobFile, "pod-raeder", "pod-reader")
		w.flux("access-grants", push("The slip is mended"), "True ReconciliationSucceeded")
	})

	// S26, by the order of the Kustomizations.
	t.Run("a commit with a grant and the guardrail that refuses it", func(t *testing.T) {
		before := w.grant("payments", "bob-dev")
		const ceiling = "access/guardrails/payments-ceiling.yaml"
		repo.replace(ceiling, "pods/log, services,", "pods/log,")
		repo.replace(bobFile, "  - roleRef: {kind: AccessRole, name: pod-reader}\n", "  - rules: [{apiGroups: [\"\"], resources: [services], verbs: [list]}]\n")
		suspend := func(really bool) {
			w.kubectlAdmin("-n", "flux-system", "patch", "kustomization", "access-guardrails", "--type=merge", "--patch", fmt.Sprintf(`{"spec":{"suspend":%t}}`, really))
		}
		suspend(true) // Flux is late with the guardrail
		revision := push("Services for bob, and for nobody")
		for _, name := range []string{"access-roles", "access-grants"} {
			w.eventually(name+" waits for it", func() string {
				ready := fluxCondition(w.kustomization(name))
				if ready["reason"] != "DependencyNotReady" || !strings.Contains(fmt.Sprint(ready["message"]), "access-guardrails") {
					return fmt.Sprint(ready)
				}
				return ""
			})
		}
		suspend(false)
		w.flux("access-guardrails", revision, "True ReconciliationSucceeded")
		w.flux("access-grants", revision, "False ReconciliationFailed")
		message := w.fluxMessage("access-grants")
		for _, text := range []string{"AccessGrant/payments/bob-dev", `guardrail "payments-ceiling"`, "services"} {
			if !strings.Contains(message, text) {
				t.Errorf("Flux does not say %s: %s", text, message)
			}
		}
		if after := w.grant("payments", "bob-dev"); after.Generation != before.Generation {
			t.Error("the grant was changed")
		}
		if !w.can("dev-1", bob, "list", "pods", "payments") || w.can("dev-1", bob, "list", "services", "payments") {
			t.Error("bob has not what he had before")
		}
	})

	t.Run("an exception comes before the grant that needs it", func(t *testing.T) {
		now := time.Now().UTC()
		repo.write("access/guardrails/bob-services.yaml", fmt.Sprintf(`apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailException
metadata: {name: bob-services, namespace: payments}
spec:
  guardrail: payments-ceiling
  grant: bob-dev
  reason: Bob looks at services
  ticket: SEC-78
  notBefore: %q
  notAfter: %q
`, now.Add(-time.Hour).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339)))
		repo.replace("access/guardrails/kustomization.yaml", "- payments-ceiling.yaml\n", "- payments-ceiling.yaml\n- bob-services.yaml\n")
		w.flux("access-grants", push("SEC-78: services for bob, for an hour"), "True ReconciliationSucceeded")
		w.waitCan(true, "dev-1", bob, "list", "services", "payments")

		repo.replace("access/guardrails/kustomization.yaml", "- bob-services.yaml\n", "")
		repo.git("checkout", "--quiet", strings.TrimPrefix(first, "main@sha1:"), "--", bobFile)
		w.flux("access-grants", push("Pods again for bob"), "True ReconciliationSucceeded")
		w.waitCan(false, "dev-1", bob, "list", "services", "payments")
		w.waitCan(true, "dev-1", bob, "list", "pods", "payments")
	})

	t.Run("suspended in Git", func(t *testing.T) {
		repo.replace(oncallFile, "spec:\n", "spec:\n  suspend: true\n")
		repo.replace(oncallFile, "payments-oncall", "payments-retired")
		revision := push("Keep what stands")
		// It is no reason for Flux not to be ready.
		w.flux("access-grants", revision, "True ReconciliationSucceeded")
		w.ready("payments", "oncall", "True Suspended")
		w.source("payments", "oncall", from(first)) // as does what stands
		w.sourced("flux-system/access-grants@"+first, prod1)
		if !w.can("prod-1", alice, "list", "pods", "payments") || !w.canReach("prod-1", alice, "get") {
			t.Error("what stood was not kept")
		}
		if retired := (who{"rita", []string{"payments-retired"}}); w.can("prod-1", retired, "list", "pods", "payments") || w.canReach("prod-1", retired, "get") {
			t.Error("the spec of a suspended grant was applied")
		}
		repo.replace(oncallFile, "  suspend: true\n", "")
		w.flux("access-grants", push("Go on"), "True ReconciliationSucceeded")
		w.waitCan(false, "prod-1", alice, "list", "pods", "payments")
		w.waitCan(true, "prod-1", who{"rita", []string{"payments-retired"}}, "list", "pods", "payments")
	})

	t.Run("a reconciliation that is asked for", func(t *testing.T) {
		at := time.Now().Format(time.RFC3339Nano)
		w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) {
			if g.Annotations == nil {
				g.Annotations = map[string]string{}
			}
			g.Annotations[meta.ReconcileRequestAnnotation] = at
		})
		w.eventually("it is handled", func() string {
			if got := w.grant("payments", "oncall").Status.LastHandledReconcileAt; got != at {
				return got
			}
			return ""
		})
	})

	t.Run("what is gone from Git is gone", func(t *testing.T) {
		repo.git("rm", "--quiet", oncallFile)
		repo.replace("access/teams/payments/kustomization.yaml", "- oncall.yaml\n", "")
		begin := time.Now()
		last := push("Nobody is on call")
		w.ready("payments", "oncall", "gone")
		t.Logf("revoked %s after the commit", time.Since(begin).Round(time.Millisecond))
		w.flux("access-grants", last, "True ReconciliationSucceeded")
		w.nothingLeft(prod1)
		if !w.can("dev-1", bob, "list", "pods", "payments") {
			t.Error("bob lost his access")
		}
	})
}

// flux waits until a Kustomization has attempted a revision and its Ready
// condition is as wanted.
func (w *world) flux(name, revision, want string) {
	w.Helper()
	w.eventually(fmt.Sprintf("Kustomization %s is %s at %s", name, want, revision), func() string {
		live := w.kustomization(name)
		if got, _, _ := unstructured.NestedString(live.Object, "status", "lastAttemptedRevision"); got != revision {
			return "it is at " + got
		}
		if observed, _, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration"); observed != live.GetGeneration() {
			return "it is at another generation"
		}
		ready := fluxCondition(live)
		if got := fmt.Sprintf("%v %v", ready["status"], ready["reason"]); got != want {
			return fmt.Sprint(ready)
		}
		return ""
	})
}

func (w *world) fluxMessage(name string) string {
	return fmt.Sprint(fluxCondition(w.kustomization(name))["message"])
}

func (w *world) kustomization(name string) *unstructured.Unstructured {
	w.Helper()
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(grant.KustomizationKind)
	w.must(w.hub.Get(w.ctx, client.ObjectKey{Namespace: "flux-system", Name: name}, live))
	return live
}

func fluxCondition(live *unstructured.Unstructured) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	i := slices.IndexFunc(conditions, func(c any) bool { return c.(map[string]any)["type"] == "Ready" })
	if i < 0 {
		return nil
	}
	return conditions[i].(map[string]any)
}

// kubectlAdmin runs kubectl on the hub, as its administrator.
func (w *world) kubectlAdmin(args ...string) {
	w.Helper()
	binaries, err := controlplane.Binaries(w.ctx, os.Stderr, controlplane.Kubectl)
	w.must(err)
	args = append([]string{"--kubeconfig", w.fleet.Hub.Kubeconfig(), "--cache-dir", w.TempDir()}, args...)
	if out, err := exec.CommandContext(w.ctx, binaries[controlplane.Kubectl], args...).CombinedOutput(); err != nil {
		w.Fatalf("kubectl %v: %v: %s", args, err, out)
	}
}
