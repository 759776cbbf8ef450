package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
)

// TestExecutor (S11): with an executor the work agent applies no more than that
// account may, although the agent itself may everything.
func TestExecutor(t *testing.T) {
	w := newWorld(t, "m1")
	w.ocm(map[string]map[string]string{"m1": prod})
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader(), oncall())
	member := w.member("m1")
	account := metav1.ObjectMeta{Namespace: "payments", Name: "sallyport-executor"}
	w.must(member.Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: account}))
	w.controller(func(o *controllers.Options) {
		o.Executor = types.NamespacedName{Namespace: account.Namespace, Name: account.Name}
	})

	w.ready("payments", "oncall", "False ApplyFailed")
	if g := w.grant("payments", "oncall"); len(g.Status.Failures) == 0 || !strings.Contains(g.Status.Failures[0].Message, "not allowed to apply") {
		t.Errorf("the failures do not say what is wrong: %v", g.Status.Failures)
	}
	if w.can("m1", alice, "list", "pods", "payments") {
		t.Fatal("the agent applied what its executor may not")
	}
	// What docs/how-to/install.md says that an executor needs.
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sallyport-executor"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles", "clusterrolebindings", "roles", "rolebindings"},
		Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "escalate", "bind"},
	}}}
	w.must(member.Create(w.ctx, role))
	w.must(member.Create(w.ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: account.Namespace, Name: account.Name}},
	}))
	// The agent tries again after a minute, or when the work changes.
	w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) {
		g.Spec.Subjects = append(g.Spec.Subjects, v1alpha1.Subject{Kind: "User", Name: "carol"})
	})
	w.ready("payments", "oncall", "True Applied")
	if !w.can("m1", alice, "list", "pods", "payments") {
		t.Error("alice has no access although the grant says Applied")
	}
	w.delete(oncall())
	w.ready("payments", "oncall", "gone")
}
