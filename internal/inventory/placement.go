package inventory

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// Placements are the clusters that each Placement has decided on, sorted. One
// that has decided on none has an empty list that is not nil; one that has not
// decided, or does not exist, or is being deleted, is absent.
//
// A decision is believed if its PlacementDecision
//   - has the label of the Placement and is in its namespace,
//   - is owned by that very Placement, by UID, so that what an earlier Placement
//     of that name left behind counts for nothing, and
//   - names a cluster of a ManagedClusterSet that is bound to the namespace, and
//     that the Placement does not leave out.
//
// The last is what holds against people. Whoever may write PlacementDecisions in
// a namespace can give one any owner and any label. But to bind a set takes a
// right on the set itself (create on managedclustersets/bind), which is how Open
// Cluster Management divides clusters among tenants: a forged decision gives
// nothing that an honest one could not. Only where the hub serves no
// ManagedClusterSetBindings is there nothing to check this against; then right to
// write PlacementDecisions is the right to choose any cluster.
func (i *Inventory) Placements(ctx context.Context) (map[types.NamespacedName][]string, error) {
	r := reading{hub: i.hub, ctx: ctx}
	placements, decisions := &clusterv1beta1.PlacementList{}, &clusterv1beta1.PlacementDecisionList{}
	if r.list(PlacementKind, placements) && r.list(PlacementDecisionKind, decisions) {
		bound := r.boundClusters()
		if r.err == nil {
			return decided(log.FromContext(ctx).V(1).Info, placements.Items, decisions.Items, bound), nil
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("cannot read placements: %w", r.err)
	}
	return map[types.NamespacedName][]string{}, nil
}

// decided is the pure part of Placements. Unheard is told of the decisions that
// are not believed.
func decided(unheard func(string, ...any), placements []clusterv1beta1.Placement, decisions []clusterv1beta1.PlacementDecision, bound *boundClusters) map[types.NamespacedName][]string {
	of := map[types.NamespacedName][]*clusterv1beta1.PlacementDecision{}
	for n := range decisions {
		d := &decisions[n]
		if name := d.Labels[clusterv1beta1.PlacementLabel]; name != "" && d.DeletionTimestamp.IsZero() {
			key := types.NamespacedName{Namespace: d.Namespace, Name: name}
			of[key] = append(of[key], d)
		}
	}
	all := make(map[types.NamespacedName][]string, len(placements))
	for n := range placements {
		p := &placements[n]
		if !p.DeletionTimestamp.IsZero() {
			continue
		}
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		has := meta.FindStatusCondition(p.Status.Conditions, clusterv1beta1.PlacementConditionSatisfied) != nil
		clusters := sets.New[string]()
		for _, d := range of[key] {
			if !ownedBy(d, p) {
				unheard("Decision not believed", "placementDecision", d.Namespace+"/"+d.Name, "because", "it is not owned by its Placement")
				continue
			}
			has = true
			for _, c := range d.Status.Decisions {
				switch {
				case c.ClusterName == "": // a place for a cluster that is wanted
				case !bound.allows(p, c.ClusterName):
					unheard("Decision not believed", "placementDecision", d.Namespace+"/"+d.Name, "cluster", c.ClusterName,
						"because", "the cluster is in no ManagedClusterSet that the Placement may select from")
				default:
					clusters.Insert(c.ClusterName)
				}
			}
		}
		if has {
			all[key] = sets.List(clusters)
		}
	}
	return all
}

func ownedBy(d *clusterv1beta1.PlacementDecision, p *clusterv1beta1.Placement) bool {
	return slices.ContainsFunc(d.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == p.UID && p.UID != "" && o.Kind == PlacementKind.Kind && o.Name == p.Name && o.APIVersion == PlacementKind.GroupVersion().String()
	})
}

// boundClusters tells which clusters a namespace may select, by set. nil allows
// all.
type boundClusters struct {
	// sets bound to each namespace.
	sets map[string]sets.Set[string]
	// members of each set that is bound to any namespace.
	members map[string]sets.Set[string]
}

// boundClusters is nil where the hub has no ManagedClusterSetBindings.
func (r *reading) boundClusters() *boundClusters {
	if r.hub.Status(ManagedClusterSetBindingKind.GroupKind()).State == served.Absent {
		return nil
	}
	bindings, setList := &clusterv1beta2.ManagedClusterSetBindingList{}, &clusterv1beta2.ManagedClusterSetList{}
	clusters := &clusterv1.ManagedClusterList{}
	r.list(ManagedClusterSetBindingKind, bindings)
	r.list(ManagedClusterSetKind, setList)
	r.list(ManagedClusterKind, clusters)
	return bind(bindings.Items, setList.Items, clusters.Items)
}

func bind(bindings []clusterv1beta2.ManagedClusterSetBinding, setList []clusterv1beta2.ManagedClusterSet, clusters []clusterv1.ManagedCluster) *boundClusters {
	b := &boundClusters{sets: map[string]sets.Set[string]{}, members: map[string]sets.Set[string]{}}
	for n := range bindings {
		binding := &bindings[n]
		// Open Cluster Management binds only where the two names are equal.
		if set := binding.Spec.ClusterSet; set == binding.Name && binding.DeletionTimestamp.IsZero() {
			if b.sets[binding.Namespace] == nil {
				b.sets[binding.Namespace] = sets.New[string]()
			}
			b.sets[binding.Namespace].Insert(set)
			b.members[set] = sets.New[string]()
		}
	}
	for n := range setList {
		set := &setList[n]
		members := b.members[set.Name]
		if members == nil || !set.DeletionTimestamp.IsZero() {
			continue
		}
		selector := selects(set)
		for m := range clusters {
			if selector.Matches(labels.Set(clusters[m].Labels)) {
				members.Insert(clusters[m].Name)
			}
		}
	}
	return b
}

// selects is how a set chooses its clusters; what is malformed chooses none.
func selects(set *clusterv1beta2.ManagedClusterSet) labels.Selector {
	switch by := set.Spec.ClusterSelector; by.SelectorType {
	case "", clusterv1beta2.ExclusiveClusterSetLabel:
		return labels.SelectorFromSet(labels.Set{clusterv1beta2.ClusterSetLabel: set.Name})
	case clusterv1beta2.LabelSelector:
		if selector, err := metav1.LabelSelectorAsSelector(by.LabelSelector); err == nil {
			return selector
		}
	}
	return labels.Nothing()
}

// allows reports whether the Placement may select the cluster.
func (b *boundClusters) allows(p *clusterv1beta1.Placement, cluster string) bool {
	if b == nil {
		return true
	}
	for set := range b.sets[p.Namespace] {
		if len(p.Spec.ClusterSets) > 0 && !slices.Contains(p.Spec.ClusterSets, set) {
			continue
		}
		if b.members[set].Has(cluster) {
			return true
		}
	}
	return false
}
