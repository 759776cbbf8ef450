package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// ocm joins the members to the hub, each with a real work agent.
func (w *world) ocm(labels map[string]map[string]string) {
	w.Helper()
	w.must(w.fleet.InstallOCM(w.ctx))
	for name, l := range labels {
		w.must(w.fleet.CreateManagedCluster(w.ctx, name, l))
		w.must(w.fleet.StartWorkAgent(w.ctx, name))
		w.must(w.member(name).Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}))
	}
}

func podReader() *v1alpha1.AccessRole {
	return &v1alpha1.AccessRole{
		ObjectMeta: metav1.ObjectMeta{Name: "pod-reader"},
		Spec: v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		}},
	}
}

// oncall gives the group payments-oncall the role pod-reader in payments, where
// env=prod.
func oncall(change ...func(*v1alpha1.AccessGrant)) *v1alpha1.AccessGrant {
	g := &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "oncall"},
		Spec: v1alpha1.AccessGrantSpec{
			Reason:   "Payments on-call, PAY-1234",
			Subjects: []v1alpha1.Subject{{Kind: "Group", Name: "payments-oncall"}},
			Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}},
			Access: []v1alpha1.AccessEntry{{
				RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "pod-reader"}, Namespaces: []v1alpha1.NamespaceName{"payments"},
			}},
		},
	}
	for _, c := range change {
		c(g)
	}
	return g
}

var (
	prod  = map[string]string{"env": "prod"}
	dev   = map[string]string{"env": "dev"}
	alice = who{"alice", []string{"payments-oncall"}}
	bob   = who{"bob", []string{"developers"}}
)

func TestOCM(t *testing.T) {
	w := newWorld(t, "prod-1", "dev-1")
	w.ocm(map[string]map[string]string{"prod-1": prod, "dev-1": dev})
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}})
	w.controller()

	if w.canReach("prod-1", alice, "get") || w.can("prod-1", alice, "list", "pods", "payments") {
		t.Fatal("alice has access before any grant")
	}
	w.create(podReader(), oncall())
	w.ready("payments", "oncall", "True Applied")
	for _, c := range []struct {
		name      string
		got, want bool
	}{
		{"alice reaches prod-1", w.canReach("prod-1", alice, "get"), true},
		{"alice may not write through the hub", w.canReach("prod-1", alice, "create"), false},
		{"alice does not reach dev-1", w.canReach("dev-1", alice, "get"), false},
		{"alice lists pods on prod-1", w.can("prod-1", alice, "list", "pods", "payments"), true},
		{"alice does not list pods elsewhere", w.can("prod-1", alice, "list", "pods", "default"), false},
		{"alice reads no Secrets", w.can("prod-1", alice, "get", "secrets", "payments"), false},
		{"alice has nothing on dev-1", w.can("dev-1", alice, "list", "pods", "payments"), false},
		{"bob does not reach prod-1", w.canReach("prod-1", bob, "get"), false},
		{"bob has nothing on prod-1", w.can("prod-1", bob, "list", "pods", "payments"), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %t", c.name, c.got)
		}
	}

	t.Run("drift on a member is put right", func(t *testing.T) {
		binding := &rbacv1.RoleBinding{}
		key := client.ObjectKey{Namespace: "payments", Name: "sallyport:accessrole:pod-reader"}
		member := w.member("prod-1")
		w.must(member.Get(w.ctx, key, binding))
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"})
		w.must(member.Update(w.ctx, binding))
		begin := time.Now()
		w.waitCan(false, "prod-1", bob, "list", "pods", "payments")
		t.Logf("drift was put right after %s", time.Since(begin).Round(time.Millisecond))
	})
	t.Run("drift on the hub is put right", func(t *testing.T) {
		role := &rbacv1.ClusterRole{}
		w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "sallyport:hub:group:payments-oncall"}, role))
		role.Rules[0].ResourceNames = append(role.Rules[0].ResourceNames, "dev-1")
		w.must(w.hub.Update(w.ctx, role))
		w.eventually("alice does not reach dev-1", func() string {
			if w.canReach("dev-1", alice, "get") {
				return "she does"
			}
			return ""
		})
	})
	t.Run("a grant that shares a binding does not notice another's change", func(t *testing.T) {
		other := oncall(func(g *v1alpha1.AccessGrant) {
			g.Name, g.Spec.Subjects = "other", []v1alpha1.Subject{{Kind: "User", Name: "carol"}}
		})
		before := w.grant("payments", "oncall").ResourceVersion
		w.create(other)
		w.ready("payments", "other", "True Applied")
		w.change("payments", "other", func(g *v1alpha1.AccessGrant) { g.Spec.Subjects[0].Name = "dave" })
		w.waitCan(true, "prod-1", who{"dave", nil}, "list", "pods", "payments")
		w.ready("payments", "other", "True Applied")
		w.delete(other)
		w.ready("payments", "other", "gone")
		if after := w.grant("payments", "oncall"); after.ResourceVersion != before {
			t.Errorf("its status was written: %+v", after.Status.Conditions)
		}
	})
	t.Run("a deleted grant is revoked on hub and members", func(t *testing.T) {
		begin := time.Now()
		w.must(w.hub.Delete(w.ctx, oncall()))
		w.ready("payments", "oncall", "gone")
		t.Logf("revoked after %s", time.Since(begin).Round(time.Millisecond))
		if w.canReach("prod-1", alice, "get") || w.can("prod-1", alice, "list", "pods", "payments") {
			t.Error("alice still has access")
		}
		w.nothingLeft(w.hub, w.member("prod-1"), w.member("dev-1"))
	})
}
