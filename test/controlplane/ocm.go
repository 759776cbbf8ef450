package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clusterclient "open-cluster-management.io/api/client/cluster/clientset/versioned"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
)

// The CRDs of Open Cluster Management, inside its api module. None has a conversion webhook.
var (
	ocmHubCRDs = []string{
		"addon/v1alpha1/0000_01_addon.open-cluster-management.io_managedclusteraddons.crd.yaml",
		"cluster/v1/0000_00_clusters.open-cluster-management.io_managedclusters.crd.yaml",
		"cluster/v1alpha1/0000_05_clusters.open-cluster-management.io_addonplacementscores.crd.yaml",
		"cluster/v1beta1/0000_02_clusters.open-cluster-management.io_placements.crd.yaml",
		"cluster/v1beta1/0000_03_clusters.open-cluster-management.io_placementdecisions.crd.yaml",
		"cluster/v1beta2/0000_00_clusters.open-cluster-management.io_managedclustersets.crd.yaml",
		"cluster/v1beta2/0000_01_clusters.open-cluster-management.io_managedclustersetbindings.crd.yaml",
		"work/v1/0000_00_work.open-cluster-management.io_manifestworks.crd.yaml",
	}
	ocmMemberCRDs = []string{
		"work/v1/0000_01_work.open-cluster-management.io_appliedmanifestworks.crd.yaml",
	}
)

// InstallOCM makes the hub one of Open Cluster Management: the CRDs of ManifestWork, ManagedCluster, ManagedClusterSet and
// its binding, Placement, PlacementDecision and ManagedClusterAddOn; the sets "default" and "global" that OCM comes with;
// and the ClusterRole that its registration controller binds work agents to. No OCM webhook runs, so what one would
// refuse is accepted. The other methods for OCM call for it first; doing it twice does nothing.
func (f *Fleet) InstallOCM(ctx context.Context) error {
	if err := f.installOCMCRDs(ctx, f.Hub, ocmHubCRDs); err != nil {
		return err
	}
	clusters, err := clusterclient.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	for name, selector := range map[string]clusterv1beta2.ManagedClusterSelector{
		"default": {SelectorType: clusterv1beta2.ExclusiveClusterSetLabel},
		"global":  {SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{}},
	} {
		set := &clusterv1beta2.ManagedClusterSet{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       clusterv1beta2.ManagedClusterSetSpec{ClusterSelector: selector},
		}
		_, err := clusters.ClusterV1beta2().ManagedClusterSets().Create(ctx, set, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cannot create ManagedClusterSet %q: %w", name, err)
		}
	}
	rbac, err := kubernetes.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	_, err = rbac.RbacV1().ClusterRoles().Create(ctx, workAgentRole(), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create ClusterRole %q: %w", workAgentRoleName, err)
	}
	return nil
}

func (f *Fleet) installOCMCRDs(ctx context.Context, c *ControlPlane, files []string) error {
	module, err := moduleFiles(ctx, "ocm", "open-cluster-management.io/api")
	if err != nil {
		return err
	}
	var paths []string
	for _, file := range files {
		paths = append(paths, filepath.Join(module, file))
	}
	return c.InstallCRDs(ctx, paths...)
}

// CreateManagedCluster creates, or gives new labels to, a ManagedCluster that looks as if it had joined the hub, was
// accepted and is available, with its namespace. No cluster need be behind it: InstallOCM and this make a fleet of any
// size. The label of the set "default" is added, as OCM's webhook would. InstallOCM must have been called.
func (f *Fleet) CreateManagedCluster(ctx context.Context, name string, labels map[string]string) error {
	if err := f.createManagedCluster(ctx, name, labels); err != nil {
		return fmt.Errorf("cannot create ManagedCluster %q: %w", name, err)
	}
	return nil
}

func (f *Fleet) createManagedCluster(ctx context.Context, name string, labels map[string]string) error {
	admin := f.Hub.AdminConfig()
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return err
	}
	clusters, err := clusterclient.NewForConfig(admin)
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, client, name); err != nil {
		return err
	}
	all := map[string]string{clusterv1beta2.ClusterSetLabel: "default"}
	for key, value := range labels {
		all[key] = value
	}
	api := clusters.ClusterV1().ManagedClusters()
	cluster, err := api.Create(ctx, &clusterv1.ManagedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all},
		Spec:       clusterv1.ManagedClusterSpec{HubAcceptsClient: true, LeaseDurationSeconds: 60},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if cluster, err = api.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		cluster.Labels = all
		cluster, err = api.Update(ctx, cluster, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	cluster.Status.Conditions = nil
	for _, condition := range []string{
		clusterv1.ManagedClusterConditionHubAccepted,
		clusterv1.ManagedClusterConditionJoined,
		clusterv1.ManagedClusterConditionAvailable,
	} {
		cluster.Status.Conditions = append(cluster.Status.Conditions, metav1.Condition{
			Type: condition, Status: metav1.ConditionTrue, Reason: "Harness", LastTransitionTime: metav1.Now(),
		})
	}
	_, err = api.UpdateStatus(ctx, cluster, metav1.UpdateOptions{})
	return err
}

// BindClusterSet lets Placements in the hub's namespace, which is made if need be, choose from a ManagedClusterSet:
// "global" holds every cluster.
func (f *Fleet) BindClusterSet(ctx context.Context, namespace, set string) error {
	admin := f.Hub.AdminConfig()
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return err
	}
	clusters, err := clusterclient.NewForConfig(admin)
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return err
	}
	binding := &clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: set},
		Spec:       clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set},
	}
	_, err = clusters.ClusterV1beta2().ManagedClusterSetBindings(namespace).Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot bind ManagedClusterSet %q in namespace %q: %w", set, namespace, err)
	}
	return nil
}

// StartPlacement starts OCM's placement controller on the hub, which decides for each Placement in a namespace with a
// bound set. InstallOCM must have been called.
func (f *Fleet) StartPlacement(ctx context.Context) error {
	return f.startAgent(ctx, "ocm-placement", OCMPlacement, "https", func(port int) []string {
		return []string{
			"controller", "--disable-leader-election", "--namespace=open-cluster-management-hub",
			"--kubeconfig=" + f.Hub.Kubeconfig(), "--listen=" + address(port),
		}
	})
}

const (
	workAgentRoleName = "open-cluster-management:managedcluster:work"
	// statusSync is short, for tests wait on it; OCM's default is 10 seconds.
	statusSync = 2 * time.Second
)

// workAgentRole is what OCM's registration controller grants to a work agent in its cluster's namespace, and nowhere
// else: pkg/registration/hub/manifests/rbac/managedcluster-work-clusterrole.yaml of the module open-cluster-management.io/ocm.
func workAgentRole() *rbacv1.ClusterRole {
	const group = "work.open-cluster-management.io"
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: workAgentRoleName},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch", "update"}},
			{APIGroups: []string{group}, Resources: []string{"manifestworks"}, Verbs: []string{"get", "list", "watch", "update", "patch"}},
			{APIGroups: []string{group}, Resources: []string{"manifestworks/status"}, Verbs: []string{"patch", "update"}},
		},
	}
}
