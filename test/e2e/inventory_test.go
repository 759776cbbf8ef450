package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// TestInventory: what the fleet is follows what the hub knows of it, from kinds
// that were not there when the controller started.
func TestInventory(t *testing.T) {
	w := newWorld(t, "m1")
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader(), oncall())
	w.controller()
	w.ready("payments", "oncall", "False NoClusters")

	t.Run("CRDs that come later", func(t *testing.T) {
		begin := time.Now()
		w.ocm(map[string]map[string]string{"m1": prod})
		w.ready("payments", "oncall", "True Applied")
		t.Logf("from the first CRD of OCM to access %s", time.Since(begin).Round(time.Millisecond))
		if !w.can("m1", alice, "list", "pods", "payments") || !w.canReach("m1", alice, "get") {
			t.Error("alice has no access")
		}
	})
	t.Run("a cluster that the hub has not accepted gets nothing", func(t *testing.T) { testNotAccepted(t, w) })
	t.Run("decisions of a Placement", func(t *testing.T) { testPlacement(t, w) })
	t.Run("a ClusterProfile describes", func(t *testing.T) { testClusterProfile(t, w) })
	t.Run("a cluster that leaves", func(t *testing.T) {
		// Its work agent is there: what it held is taken away first.
		w.must(w.hub.Delete(w.ctx, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "m1"}}))
		w.ready("payments", "oncall", "False NoClusters")
		w.waitCan(false, "m1", alice, "list", "pods", "payments")
		w.nothingLeft(w.hub, w.member("m1"))
	})
}

// failure waits until a grant reports a failure for a cluster.
func (w *world) failure(ns, name, cluster, reason string) {
	w.Helper()
	w.eventually(fmt.Sprintf("grant %s reports %s of %s", name, reason, cluster), func() string {
		g := w.grant(ns, name)
		if g == nil {
			return "it is gone"
		}
		if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool { return f.Cluster == cluster && f.Reason == reason }) {
			return fmt.Sprintf("%+v", g.Status)
		}
		return ""
	})
}

// untouched checks that nothing is there for a cluster: no works, and no way in.
func (w *world) untouched(cluster string) {
	w.Helper()
	var works workv1.ManifestWorkList
	w.must(w.hub.List(w.ctx, &works, client.InNamespace(cluster)))
	if len(works.Items) > 0 {
		w.Errorf("%s has works", cluster)
	}
	var roles rbacv1.ClusterRoleList
	w.must(w.hub.List(w.ctx, &roles, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
	for _, role := range roles.Items {
		for _, rule := range role.Rules {
			if slices.Contains(rule.ResourceNames, cluster) || len(rule.ResourceNames) == 0 {
				w.Errorf("%s opens %s: %v", role.Name, cluster, rule)
			}
		}
	}
}

func testNotAccepted(t *testing.T, w *world) {
	// By hand, since the harness makes clusters that are accepted.
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pending"}},
		&clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "pending", Labels: prod}})
	accept := func(accepted bool) {
		t.Helper()
		w.eventually("the cluster is changed", func() string {
			c := &clusterv1.ManagedCluster{}
			w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "pending"}, c))
			c.Spec.HubAcceptsClient = accepted
			if err := w.hub.Update(w.ctx, c); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	w.create(grantOf("named", "pod-reader", []v1alpha1.ClusterName{"m1", "pending"}, userSubject("bob")))
	// It is asked for by name, which is told, and by oncall's label.
	w.failure("payments", "named", "pending", v1alpha1.FailureNotAccepted)
	w.ready("payments", "oncall", "True Applied")
	w.waitCan(true, "m1", bob, "list", "pods", "payments")
	w.untouched("pending")

	accept(true)
	w.eventually("the cluster has works", func() string {
		var works workv1.ManifestWorkList
		w.must(w.hub.List(w.ctx, &works, client.InNamespace("pending")))
		if len(works.Items) == 0 || !w.canReach("pending", bob, "get") {
			return "not yet"
		}
		return ""
	})
	accept(false)
	w.failure("payments", "named", "pending", v1alpha1.FailureNotAccepted)
	w.untouched("pending")
	w.delete(grantOf("named", "", nil), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "pending"}})
	w.ready("payments", "named", "gone")
	w.ready("payments", "oncall", "True Applied")
}

// testPlacement: OCM's own controller decides.
func testPlacement(t *testing.T, w *world) {
	w.must(w.fleet.BindClusterSet(w.ctx, "payments", "global"))
	w.create(oncall(func(g *v1alpha1.AccessGrant) {
		g.Name, g.Spec.Subjects = "placed", []v1alpha1.Subject{userSubject("bob")}
		g.Spec.Clusters = v1alpha1.ClusterSelection{PlacementRef: &v1alpha1.PlacementReference{Name: "gold"}}
	}))
	w.eventually("it is not known where it is placed", func() string {
		g := w.grant("payments", "placed")
		if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool { return f.Reason == v1alpha1.FailureUnknownPlacement }) {
			return fmt.Sprintf("%+v", g.Status)
		}
		return ""
	})
	placement := &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "gold"},
		Spec: clusterv1beta1.PlacementSpec{Predicates: []clusterv1beta1.ClusterPredicate{{
			RequiredClusterSelector: clusterv1beta1.ClusterSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}},
		}}},
	}
	w.create(placement)
	// Whoever can write decisions in a namespace decides nothing by that. OCM's
	// controller, when it runs, deletes what it did not write.
	forged := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: "payments", Name: "forged", Labels: map[string]string{clusterv1beta1.PlacementLabel: "gold"},
	}}
	w.create(forged)
	forged.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: "m1", Reason: "mine"}}
	w.must(w.hub.Status().Update(w.ctx, forged))
	w.create(oncall(func(g *v1alpha1.AccessGrant) {
		g.Name, g.Spec.Subjects = "witness", []v1alpha1.Subject{userSubject("carol")}
	}))
	w.ready("payments", "witness", "True Applied") // a pass that has seen all of it
	if w.can("m1", bob, "list", "pods", "payments") || w.canReach("m1", bob, "get") {
		t.Error("a forged decision was believed")
	}
	w.delete(oncall(func(g *v1alpha1.AccessGrant) { g.Name = "witness" }))
	w.must(w.fleet.StartPlacement(w.ctx))
	w.ready("payments", "placed", "False NoClusters")

	tier := func(tier string) {
		t.Helper()
		w.must(w.fleet.CreateManagedCluster(w.ctx, "m1", map[string]string{"env": "prod", "tier": tier}))
	}
	begin := time.Now()
	tier("silver")
	w.ready("payments", "oncall", "True Applied")
	w.ready("payments", "placed", "False NoClusters")
	if w.can("m1", bob, "list", "pods", "payments") {
		t.Error("bob has access")
	}
	tier("gold")
	w.ready("payments", "placed", "True Applied")
	t.Logf("from the label to the decision to access %s", time.Since(begin).Round(time.Millisecond))
	if !w.can("m1", bob, "list", "pods", "payments") {
		t.Error("bob has no access")
	}
	tier("silver")
	w.ready("payments", "placed", "False NoClusters")
	if w.can("m1", bob, "list", "pods", "payments") || w.canReach("m1", bob, "get") {
		t.Error("bob still has access")
	}
	// A Placement that is gone is not one that decides on none.
	tier("gold")
	w.ready("payments", "placed", "True Applied")
	w.delete(placement)
	w.eventually("the placement is unknown", func() string {
		g := w.grant("payments", "placed")
		if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool { return f.Reason == v1alpha1.FailureUnknownPlacement }) {
			return fmt.Sprintf("%+v", g.Status)
		}
		return ""
	})
	w.waitCan(false, "m1", bob, "list", "pods", "payments")
	w.delete(oncall(func(g *v1alpha1.AccessGrant) { g.Name = "placed" }))
	w.ready("payments", "placed", "gone")
}

// testClusterProfile: a profile says that a cluster is there, and what it is like,
// but not how anything gets to it.
func testClusterProfile(t *testing.T, w *world) {
	w.create(grantOf("profiled", "pod-reader", []v1alpha1.ClusterName{"described"}, userSubject("bob")))
	w.failure("payments", "profiled", "described", v1alpha1.FailureUnknownCluster)
	w.must(w.fleet.Hub.InstallCRDObjects(w.ctx, clusterProfileCRD()))
	profile := func(ns string, labels map[string]string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(inventory.ClusterProfileKind)
		u.SetNamespace(ns)
		u.SetName("described")
		u.SetLabels(labels)
		return u
	}
	// Only in namespaces that Sallyport was told of: a tenant describes nothing.
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: inventory.DefaultProfileNamespace}})
	w.create(profile("payments", prod))
	w.create(profile(inventory.DefaultProfileNamespace, map[string]string{"rank": "first"}))
	w.failure("payments", "profiled", "described", v1alpha1.FailureNoDelivery)
	w.untouched("described")

	// What it is like goes together with what another inventory knows of the same
	// cluster, of which there now is one that delivers: a ManagedCluster without the
	// label. A tenant's profile adds nothing to it.
	w.create(oncall(func(g *v1alpha1.AccessGrant) {
		g.Name, g.Spec.Subjects = "first", []v1alpha1.Subject{userSubject("bob")}
		g.Spec.Clusters.Selector.MatchLabels = map[string]string{"rank": "first"}
	}))
	w.ready("payments", "first", "False NoClusters")
	w.must(w.fleet.CreateManagedCluster(w.ctx, "described", nil))
	w.eventually("bob is let through by the label", func() string {
		if !w.canReach("described", bob, "get") {
			return "not yet"
		}
		return ""
	})
	if w.canReach("described", alice, "get") {
		t.Error("the labels of a tenant's profile were read")
	}
	w.delete(grantOf("profiled", "", nil), oncall(func(g *v1alpha1.AccessGrant) { g.Name = "first" }))
	// No work agent runs for described, and so none keeps its works.
	for _, name := range []string{"profiled", "first"} {
		w.ready("payments", name, "gone")
	}
}

// clusterProfileCRD is that of sigs.k8s.io/cluster-inventory-api, without a schema.
func clusterProfileCRD() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name: "clusterprofiles.multicluster.x-k8s.io",
			Annotations: map[string]string{
				"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/tree/master/keps/sig-multicluster/4322-cluster-inventory",
			},
		},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "multicluster.x-k8s.io", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "clusterprofiles", Singular: "clusterprofile", Kind: "ClusterProfile", ListKind: "ClusterProfileList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1alpha1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: ptr.To(true),
				}},
			}},
		},
	}
}
