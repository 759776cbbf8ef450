package inventory

import (
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// The kinds that make a fleet.
var (
	ManagedClusterKind           = schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1", Kind: "ManagedCluster"}
	ManagedClusterSetKind        = schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta2", Kind: "ManagedClusterSet"}
	ManagedClusterSetBindingKind = schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta2", Kind: "ManagedClusterSetBinding"}
	PlacementKind                = schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta1", Kind: "Placement"}
	PlacementDecisionKind        = schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta1", Kind: "PlacementDecision"}
	ManagedClusterAddOnKind      = schema.GroupVersionKind{Group: "addon.open-cluster-management.io", Version: "v1alpha1", Kind: "ManagedClusterAddOn"}
	KarmadaClusterKind           = schema.GroupVersionKind{Group: "cluster.karmada.io", Version: "v1alpha1", Kind: "Cluster"}
	ClusterProfileKind           = schema.GroupVersionKind{Group: "multicluster.x-k8s.io", Version: "v1alpha1", Kind: "ClusterProfile"}
	SecretKind                   = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
)

// AddToScheme adds the Go types that inventories are read into.
func AddToScheme(scheme *runtime.Scheme) error {
	add := runtime.NewSchemeBuilder(corev1.AddToScheme, clusterv1.Install, clusterv1beta1.Install, clusterv1beta2.Install)
	return add.AddToScheme(scheme)
}

// Kinds are what a served.Kinds has to follow for an Inventory with the same
// options. Its scheme needs AddToScheme.
func Kinds(options Options) []served.Kind {
	kinds := []served.Kind{
		{GVK: ManagedClusterKind, Resource: "managedclusters", Object: &clusterv1.ManagedCluster{}},
		{GVK: ManagedClusterSetKind, Resource: "managedclustersets", Object: &clusterv1beta2.ManagedClusterSet{}},
		{GVK: ManagedClusterSetBindingKind, Resource: "managedclustersetbindings", Namespaced: true, Object: &clusterv1beta2.ManagedClusterSetBinding{}},
		{GVK: PlacementKind, Resource: "placements", Namespaced: true, Object: &clusterv1beta1.Placement{}},
		{GVK: PlacementDecisionKind, Resource: "placementdecisions", Namespaced: true, Object: &clusterv1beta1.PlacementDecision{}},
		{
			GVK: ManagedClusterAddOnKind, OtherVersions: []string{"v1beta1"}, Resource: "managedclusteraddons", Namespaced: true,
			Transform: bareAddOn,
		},
		{GVK: KarmadaClusterKind, Resource: "clusters"},
	}
	if namespaces := options.profileNamespaces(); len(namespaces) > 0 {
		kinds = append(kinds, served.Kind{GVK: ClusterProfileKind, Resource: "clusterprofiles", Namespaced: true, Namespaces: namespaces})
	}
	if options.Namespace != "" {
		kinds = append(kinds, served.Kind{
			GVK: SecretKind, Resource: "secrets", Namespaced: true, Object: &corev1.Secret{},
			Namespaces: []string{options.Namespace}, Labels: hasClusterLabel(),
		})
	}
	return kinds
}

func hasClusterLabel() labels.Selector {
	named, err := labels.NewRequirement(v1alpha1.ClusterLabel, selection.Exists, nil)
	if err != nil {
		panic(err) // the label is a constant
	}
	return labels.NewSelector().Add(*named)
}
