package controlplane

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"
)

func TestOCM(t *testing.T) {
	f := ForTest(t, Options{Members: []string{"prod-eu-1"}})
	ctx := t.Context()
	began := time.Now()
	if err := f.InstallOCM(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.CreateManagedCluster(ctx, "prod-eu-1", map[string]string{"env": "prod"}); err != nil {
		t.Fatal(err)
	}
	if err := f.StartWorkAgent(ctx, "prod-eu-1"); err != nil {
		t.Fatal(err)
	}
	t.Logf("OCM with one work agent was ready in %s", time.Since(began).Round(time.Millisecond))

	t.Run("Work", func(t *testing.T) { testManifestWork(t, f) })
	t.Run("LeastPrivilege", func(t *testing.T) { testWorkAgentRights(t, f) })
	t.Run("Placement", func(t *testing.T) { testPlacement(t, f) })
}

// A work is applied, reported and, when deleted, removed; a stopped agent does nothing.
func testManifestWork(t *testing.T, f *Fleet) {
	ctx := t.Context()
	works, err := workclient.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	api := works.WorkV1().ManifestWorks("prod-eu-1")
	if _, err := api.Create(ctx, configMapWork("delivered"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	onMember := clientset(t, f.Member("prod-eu-1").AdminConfig()).CoreV1().ConfigMaps("default")
	eventually(t, "the ConfigMap is on the member", exists(onMember.Get, "delivered"))
	eventually(t, "the work is reported as applied", func(ctx context.Context) (bool, error) {
		work, err := api.Get(ctx, "delivered", metav1.GetOptions{})
		return err == nil && meta.IsStatusConditionTrue(work.Status.Conditions, workv1.WorkApplied), err
	})
	// The agent reports first and remembers then what it would have to remove
	// (ADR 0009): an agent that is stopped in between leaves the ConfigMap behind.
	memory, err := workclient.NewForConfig(f.Member("prod-eu-1").AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent remembers the ConfigMap", func(ctx context.Context) (bool, error) {
		applied, err := memory.WorkV1().AppliedManifestWorks().List(ctx, metav1.ListOptions{})
		return err == nil && len(applied.Items) == 1 && len(applied.Items[0].Status.AppliedResources) == 1, err
	})

	if err := f.StopWorkAgent("prod-eu-1"); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(ctx, "delivered", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Get(ctx, "delivered", metav1.GetOptions{}); err != nil {
		t.Errorf("without an agent, its finalizer keeps the work: %v", err)
	}
	if err := f.StartWorkAgent(ctx, "prod-eu-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the work is gone", gone(api.Get, "delivered"))
	if gone, err := gone(onMember.Get, "delivered")(ctx); !gone {
		t.Errorf("the work is gone and its ConfigMap is not: %v", err)
	}
}

func configMapWork(name string) *workv1.ManifestWork {
	manifest, _ := json.Marshal(&corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
	})
	return &workv1.ManifestWork{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: workv1.ManifestWorkSpec{Workload: workv1.ManifestsTemplate{
			Manifests: []workv1.Manifest{{RawExtension: runtime.RawExtension{Raw: manifest}}},
		}},
	}
}

// The agent's identity on the hub is good for its own namespace alone.
func testWorkAgentRights(t *testing.T, f *Fleet) {
	group := "system:open-cluster-management:prod-eu-1"
	agent, err := f.Hub.User(group+":agent", group)
	if err != nil {
		t.Fatal(err)
	}
	works, err := workclient.NewForConfig(agent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := works.WorkV1().ManifestWorks("prod-eu-1").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("works of its own: %v", err)
	}
	if _, err := works.WorkV1().ManifestWorks("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("works of others: got %v, want Forbidden", err)
	}
	if _, err := clientset(t, agent).CoreV1().Secrets("prod-eu-1").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("Secrets: got %v, want Forbidden", err)
	}
}

// OCM's own controller decides by label, also over clusters that exist on paper only.
func testPlacement(t *testing.T, f *Fleet) {
	ctx := t.Context()
	for name, env := range map[string]string{"prod-us-1": "prod", "dev-1": "dev"} {
		if err := f.CreateManagedCluster(ctx, name, map[string]string{"env": env}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.BindClusterSet(ctx, "payments", "global"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := f.StartPlacement(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("the placement controller was ready in %s", time.Since(began).Round(time.Millisecond))
	clusters, err := clusterclient.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	placement := &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "prod"},
		Spec: clusterv1beta1.PlacementSpec{Predicates: []clusterv1beta1.ClusterPredicate{{
			RequiredClusterSelector: clusterv1beta1.ClusterSelector{
				LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
			},
		}}},
	}
	if _, err := clusters.ClusterV1beta1().Placements("payments").Create(ctx, placement, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both prod clusters are decided", func(ctx context.Context) (bool, error) {
		decisions, err := clusters.ClusterV1beta1().PlacementDecisions("payments").
			List(ctx, metav1.ListOptions{LabelSelector: clusterv1beta1.PlacementLabel + "=prod"})
		if err != nil {
			return false, err
		}
		decided := map[string]bool{}
		for _, d := range decisions.Items {
			for _, cluster := range d.Status.Decisions {
				decided[cluster.ClusterName] = true
			}
		}
		return len(decided) == 2 && decided["prod-eu-1"] && decided["prod-us-1"], nil
	})
}
