package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// TestRevocation plays the ways in which access ends: by time, by leaving the
// selection, by suspension not, and while a member is down.
func TestRevocation(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.ocm(map[string]map[string]string{"m1": prod, "m2": prod})
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.controller()

	t.Run("a validity begins and ends by itself", func(t *testing.T) {
		now := time.Now()
		begin, end := metav1.NewTime(now.Add(3*time.Second)), metav1.NewTime(now.Add(6*time.Second))
		w.create(oncall(func(g *v1alpha1.AccessGrant) { g.Spec.Validity = &v1alpha1.Validity{NotBefore: &begin, NotAfter: &end} }))
		w.eventually("it is accepted and waits", func() string {
			if c := w.condition("payments", "oncall", v1alpha1.ConditionActive); c != "False NotYetActive" {
				return c
			}
			return ""
		})
		if w.canReach("m1", alice, "get") && time.Now().Before(begin.Truncate(time.Second)) {
			t.Error("alice got in before notBefore")
		}
		w.waitCan(true, "m1", alice, "list", "pods", "payments")
		w.eventually("the hub is cut", func() string {
			if w.canReach("m1", alice, "get") {
				return "it lets alice in"
			}
			return ""
		})
		t.Logf("the hub was cut %s after notAfter", time.Since(end.Truncate(time.Second)).Round(time.Millisecond))
		w.ready("payments", "oncall", "True Expired")
		if w.can("m1", alice, "list", "pods", "payments") {
			t.Error("status says Expired and alice still has access on m1")
		}
		w.delete(oncall())
		w.ready("payments", "oncall", "gone")
	})

	t.Run("a cluster that leaves the selection loses it", func(t *testing.T) {
		w.create(oncall())
		w.ready("payments", "oncall", "True Applied")
		w.relabel("m2", "env", "dev")
		w.waitCan(false, "m2", alice, "list", "pods", "payments")
		w.ready("payments", "oncall", "True Applied")
		if !w.can("m1", alice, "list", "pods", "payments") {
			t.Error("m1 lost it as well")
		}
		w.relabel("m2", "env", "prod")
		w.waitCan(true, "m2", alice, "list", "pods", "payments")
	})

	t.Run("a suspended grant keeps what stands, whatever its spec becomes", func(t *testing.T) {
		w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) {
			g.Spec.Suspend = true
			g.Spec.Subjects = []v1alpha1.Subject{{Kind: "User", Name: "mallory"}}
		})
		w.ready("payments", "oncall", "True Suspended")
		if !w.can("m1", alice, "list", "pods", "payments") || !w.canReach("m1", alice, "get") {
			t.Error("alice lost what stood")
		}
		if w.can("m1", who{"mallory", nil}, "list", "pods", "payments") {
			t.Error("a change took effect while suspended")
		}
		w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) { g.Spec = oncall().Spec })
		w.ready("payments", "oncall", "True Applied")
	})

	t.Run("a member that is down is named, and cut when it is back", func(t *testing.T) {
		w.must(w.fleet.StopWorkAgent("m2"))
		w.available("m2", metav1.ConditionUnknown)
		begin := time.Now()
		w.delete(oncall())
		w.eventually("the status names m2", func() string {
			g := w.grant("payments", "oncall")
			if g == nil {
				t.Fatal("the grant went before m2 confirmed")
			}
			active := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionActive)
			if active == nil || active.Reason != v1alpha1.ReasonResidualAccess || !strings.Contains(active.Message, "m2") || strings.Contains(active.Message, "m1") {
				return fmt.Sprint(active)
			}
			return ""
		})
		t.Logf("ResidualAccess was told after %s", time.Since(begin).Round(time.Millisecond))
		if w.canReach("m1", alice, "get") || w.canReach("m2", alice, "get") {
			t.Error("the hub still lets alice in")
		}
		w.waitCan(false, "m1", alice, "list", "pods", "payments")
		if !w.can("m2", alice, "list", "pods", "payments") {
			t.Error("the test is no test: m2 lost the access while its agent was down")
		}
		w.must(w.fleet.StartWorkAgent(w.ctx, "m2"))
		w.available("m2", metav1.ConditionTrue)
		w.ready("payments", "oncall", "gone")
		w.nothingLeft(w.hub, w.member("m1"), w.member("m2"))
	})

	t.Run("narrowing while a member is down is told as well", func(t *testing.T) {
		w.create(oncall(), oncall(func(g *v1alpha1.AccessGrant) {
			g.Name, g.Spec.Subjects = "other", []v1alpha1.Subject{{Kind: "User", Name: "carol"}}
		}))
		w.ready("payments", "oncall", "True Applied")
		w.ready("payments", "other", "True Applied")
		w.must(w.fleet.StopWorkAgent("m2"))
		w.available("m2", metav1.ConditionUnknown)
		// Both share one work, which stays; only its content narrows.
		w.delete(oncall())
		w.eventually("the status names m2", func() string {
			g := w.grant("payments", "oncall")
			if g == nil {
				t.Fatal("the grant went before m2 confirmed")
			}
			if c := w.condition("payments", "oncall", v1alpha1.ConditionActive); c != "False ResidualAccess" {
				return c
			}
			return ""
		})
		w.must(w.fleet.StartWorkAgent(w.ctx, "m2"))
		w.available("m2", metav1.ConditionTrue)
		w.ready("payments", "oncall", "gone")
		w.waitCan(false, "m2", alice, "list", "pods", "payments")
		w.ready("payments", "other", "True Applied")
		w.delete(oncall(func(g *v1alpha1.AccessGrant) { g.Name = "other" }))
		w.ready("payments", "other", "gone")
		w.nothingLeft(w.hub, w.member("m1"), w.member("m2"))
	})

	t.Run("what cannot be compiled is told, and the rest holds", func(t *testing.T) {
		w.create(oncall(func(g *v1alpha1.AccessGrant) {
			g.Spec.Clusters.Names = []v1alpha1.ClusterName{"nowhere"}
			g.Spec.Access = append(g.Spec.Access, v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "missing"}})
		}))
		w.ready("payments", "oncall", "False Rejected")
		g := w.grant("payments", "oncall")
		reasons := map[string]bool{}
		for _, f := range g.Status.Failures {
			reasons[f.Reason] = true
		}
		if !reasons[v1alpha1.FailureUnknownRole] || !reasons[v1alpha1.FailureUnknownCluster] {
			t.Errorf("the failures are %v", g.Status.Failures)
		}
		if !w.can("m1", alice, "list", "pods", "payments") {
			t.Error("the rest does not hold")
		}
		// A namespace that the member lacks is the member's to report.
		w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) {
			g.Spec.Clusters.Names = nil
			g.Spec.Access = g.Spec.Access[:1]
			g.Spec.Access[0].Namespaces = []v1alpha1.NamespaceName{"payments", "absent"}
		})
		w.ready("payments", "oncall", "False ApplyFailed")
		if g := w.grant("payments", "oncall"); len(g.Status.Failures) == 0 || !strings.Contains(g.Status.Failures[0].Message, "absent") {
			t.Errorf("the failures are %v", g.Status.Failures)
		}
		if !w.can("m1", alice, "list", "pods", "payments") {
			t.Error("the rest does not hold")
		}
		w.delete(oncall())
		w.ready("payments", "oncall", "gone")
	})

	t.Run("what others made is left alone", func(t *testing.T) {
		// The role that the hub needs is there, without Sallyport's label.
		foreign := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: compile.HubPrefix + "group:payments-oncall"}}
		w.create(foreign)
		w.create(oncall())
		w.ready("payments", "oncall", "False ApplyFailed")
		if g := w.grant("payments", "oncall"); !strings.Contains(fmt.Sprint(g.Status.Failures), "that Sallyport did not make") {
			t.Errorf("the failures are %v", g.Status.Failures)
		}
		w.must(w.hub.Get(w.ctx, client.ObjectKeyFromObject(foreign), foreign))
		if len(foreign.Labels)+len(foreign.Rules) > 0 {
			t.Errorf("it was changed: %v", foreign)
		}
		w.delete(foreign)
		w.ready("payments", "oncall", "True Applied")
		w.delete(oncall())
		w.ready("payments", "oncall", "gone")
		w.nothingLeft(w.hub, w.member("m1"), w.member("m2"))
	})
}

// relabel a ManagedCluster.
func (w *world) relabel(cluster, key, value string) {
	w.Helper()
	c := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	w.must(w.hub.Patch(w.ctx, c, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// available says, as OCM's registration does on missed leases, how a cluster is.
func (w *world) available(cluster string, status metav1.ConditionStatus) {
	w.Helper()
	w.eventually("cluster "+cluster+" is told to be "+string(status), func() string {
		c := &clusterv1.ManagedCluster{}
		w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: cluster}, c))
		meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
			Type: clusterv1.ManagedClusterConditionAvailable, Status: status, Reason: "Test", Message: "told by the test",
		})
		if err := w.hub.Status().Update(w.ctx, c); err != nil {
			return err.Error()
		}
		return ""
	})
}
