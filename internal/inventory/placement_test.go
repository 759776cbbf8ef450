package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
)

// S24: a decision counts only if it is the Placement's own, and only over
// clusters that the namespace was given.
func TestS24Decided(t *testing.T) {
	const (
		decisionOf = `
metadata:
  name: d1
  namespace: payments
  labels: {cluster.open-cluster-management.io/placement: prod}
  ownerReferences: [{apiVersion: cluster.open-cluster-management.io/v1beta1, kind: Placement, name: prod, uid: u1}]
status: {decisions: [{clusterName: eu-2, reason: ""}, {clusterName: eu-1, reason: ""}, {clusterName: "", reason: ""}]}
`
		placement = `{metadata: {name: prod, namespace: payments, uid: u1}}`
	)
	key := types.NamespacedName{Namespace: "payments", Name: "prod"}
	clusters := []string{
		`{metadata: {name: eu-1, labels: {cluster.open-cluster-management.io/clusterset: eu}}}`,
		`{metadata: {name: eu-2, labels: {cluster.open-cluster-management.io/clusterset: eu}}}`,
		`{metadata: {name: us-1, labels: {cluster.open-cluster-management.io/clusterset: us, env: dev}}}`,
	}
	clusterSets := []string{
		`{metadata: {name: eu}}`,
		`{metadata: {name: us}, spec: {clusterSelector: {selectorType: ExclusiveClusterSetLabel}}}`,
		`{metadata: {name: dev}, spec: {clusterSelector: {selectorType: LabelSelector, labelSelector: {matchLabels: {env: dev}}}}}`,
		`{metadata: {name: global}, spec: {clusterSelector: {selectorType: LabelSelector, labelSelector: {}}}}`,
		`{metadata: {name: nothing}, spec: {clusterSelector: {selectorType: LabelSelector}}}`,
		`{metadata: {name: odd}, spec: {clusterSelector: {selectorType: Other, labelSelector: {}}}}`,
		`{metadata: {name: leaving, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {clusterSelector: {selectorType: LabelSelector, labelSelector: {}}}}`,
	}
	toEU := `{metadata: {name: eu, namespace: payments}, spec: {clusterSet: eu}}`
	decides := func(cluster string) string {
		return `{metadata: {name: d2, namespace: payments, labels: {cluster.open-cluster-management.io/placement: prod},
			ownerReferences: [{apiVersion: cluster.open-cluster-management.io/v1beta1, kind: Placement, name: prod, uid: u1}]},
			status: {decisions: [{clusterName: ` + cluster + `, reason: ""}]}}`
	}
	bound := func(set string) []string {
		return []string{`{metadata: {name: ` + set + `, namespace: payments}, spec: {clusterSet: ` + set + `}}`}
	}

	cases := map[string]struct {
		reason     string
		placements []string
		decisions  []string
		bindings   []string
		unchecked  bool // the hub has no sets
		want       map[types.NamespacedName][]string
	}{
		"United": {
			reason:     "A Placement of more than 100 clusters has several decisions; an empty name is a place that nothing filled.",
			placements: []string{placement}, decisions: []string{decisionOf, decides("us-1")}, unchecked: true,
			want: map[types.NamespacedName][]string{key: {"eu-1", "eu-2", "us-1"}},
		},
		"DecidedOnNone": {
			reason:     "It decided: there is no such cluster.",
			placements: []string{`{metadata: {name: prod, namespace: payments, uid: u1}, status: {conditions: [{type: PlacementSatisfied, status: "False"}]}}`},
			want:       map[types.NamespacedName][]string{key: {}},
		},
		"NotDecided": {reason: "It has not decided yet.", placements: []string{placement}, want: map[types.NamespacedName][]string{}},
		"NoPlacement": {reason: "A decision of nobody is none.", decisions: []string{decisionOf}, unchecked: true,
			want: map[types.NamespacedName][]string{}},
		"Deleting": {
			reason:     "S27: a Placement that is being deleted decides nothing.",
			placements: []string{`{metadata: {name: prod, namespace: payments, uid: u1, deletionTimestamp: "2026-01-01T00:00:00Z"}}`},
			decisions:  []string{decisionOf}, unchecked: true, want: map[types.NamespacedName][]string{},
		},
		"LabelOnly": {
			reason:     "Anybody can write a label.",
			placements: []string{placement}, unchecked: true,
			decisions: []string{`{metadata: {name: d, namespace: payments, labels: {cluster.open-cluster-management.io/placement: prod}}, status: {decisions: [{clusterName: eu-1, reason: ""}]}}`},
			want:      map[types.NamespacedName][]string{},
		},
		"OwnerOnly": {
			reason:     "An owner without the label is not how OCM writes them.",
			placements: []string{placement}, unchecked: true,
			decisions: []string{`{metadata: {name: d, namespace: payments, ownerReferences: [{apiVersion: cluster.open-cluster-management.io/v1beta1, kind: Placement, name: prod, uid: u1}]}, status: {decisions: [{clusterName: eu-1, reason: ""}]}}`},
			want:      map[types.NamespacedName][]string{},
		},
		"EarlierOne": {
			reason:     "What was decided for a Placement that is gone does not hold for the next of that name.",
			placements: []string{`{metadata: {name: prod, namespace: payments, uid: u2}}`}, decisions: []string{decisionOf}, unchecked: true,
			want: map[types.NamespacedName][]string{},
		},
		"OtherNamespace": {
			reason:     "A Placement of that name in another namespace is another one.",
			placements: []string{`{metadata: {name: prod, namespace: tenant, uid: u1}}`}, decisions: []string{decisionOf}, unchecked: true,
			want: map[types.NamespacedName][]string{},
		},

		"Bound": {
			reason:     "The clusters of a bound set count.",
			placements: []string{placement}, decisions: []string{decisionOf}, bindings: []string{toEU},
			want: map[types.NamespacedName][]string{key: {"eu-1", "eu-2"}},
		},
		"Forged": {
			reason:     "A forged decision has owner and label, and still chooses only among what the namespace was given.",
			placements: []string{placement}, decisions: []string{decisionOf, decides("us-1")}, bindings: []string{toEU},
			want: map[types.NamespacedName][]string{key: {"eu-1", "eu-2"}},
		},
		"NotBound": {
			reason:     "A namespace that was given nothing has nothing; the Placement has decided all the same.",
			placements: []string{placement}, decisions: []string{decisionOf},
			want: map[types.NamespacedName][]string{key: {}},
		},
		"BoundElsewhere": {
			reason:     "Another namespace's binding is not this one's.",
			placements: []string{placement}, decisions: []string{decisionOf},
			bindings: []string{`{metadata: {name: eu, namespace: tenant}, spec: {clusterSet: eu}}`},
			want:     map[types.NamespacedName][]string{key: {}},
		},
		"UnboundNow": {
			reason:     "S27: a binding that is being deleted binds nothing.",
			placements: []string{placement}, decisions: []string{decisionOf},
			bindings: []string{`{metadata: {name: eu, namespace: payments, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {clusterSet: eu}}`},
			want:     map[types.NamespacedName][]string{key: {}},
		},
		"OtherName": {
			reason:     "OCM binds only where the names are equal: its admission checks the right on one of them.",
			placements: []string{placement}, decisions: []string{decisionOf},
			bindings: []string{`{metadata: {name: mine, namespace: payments}, spec: {clusterSet: eu}}`},
			want:     map[types.NamespacedName][]string{key: {}},
		},
		"SetsOfPlacement": {
			reason:     "A Placement that is for one set does not get another, though it is bound.",
			placements: []string{`{metadata: {name: prod, namespace: payments, uid: u1}, spec: {clusterSets: [us]}}`},
			decisions:  []string{decisionOf, decides("us-1")}, bindings: append(bound("us"), toEU),
			want: map[types.NamespacedName][]string{key: {"us-1"}},
		},
		"Exclusive":  {reason: "By the label.", placements: []string{placement}, decisions: []string{decides("us-1")}, bindings: bound("us"), want: map[types.NamespacedName][]string{key: {"us-1"}}},
		"BySelector": {reason: "By a selector.", placements: []string{placement}, decisions: []string{decides("us-1"), decisionOf}, bindings: bound("dev"), want: map[types.NamespacedName][]string{key: {"us-1"}}},
		"Global":     {reason: "The set of all clusters.", placements: []string{placement}, decisions: []string{decides("us-1"), decisionOf}, bindings: bound("global"), want: map[types.NamespacedName][]string{key: {"eu-1", "eu-2", "us-1"}}},
		"NoSelector": {reason: "No selector chooses nothing.", placements: []string{placement}, decisions: []string{decisionOf}, bindings: bound("nothing"), want: map[types.NamespacedName][]string{key: {}}},
		"OddType":    {reason: "A way of choosing that is not known chooses nothing.", placements: []string{placement}, decisions: []string{decisionOf}, bindings: bound("odd"), want: map[types.NamespacedName][]string{key: {}}},
		"SetLeaving": {reason: "S27: nor does a set that is being deleted.", placements: []string{placement}, decisions: []string{decisionOf}, bindings: bound("leaving"), want: map[types.NamespacedName][]string{key: {}}},
		"NoSuchSet":  {reason: "Nor one that does not exist.", placements: []string{placement}, decisions: []string{decisionOf}, bindings: bound("gone"), want: map[types.NamespacedName][]string{key: {}}},
		"NoCluster":  {reason: "A cluster that does not exist is in no set.", placements: []string{placement}, decisions: []string{decides("gone")}, bindings: bound("global"), want: map[types.NamespacedName][]string{key: {}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var b *boundClusters
			if !tc.unchecked {
				b = bind(all[clusterv1beta2.ManagedClusterSetBinding](t, tc.bindings), all[clusterv1beta2.ManagedClusterSet](t, clusterSets), all[clusterv1.ManagedCluster](t, clusters))
			}
			got := decided(func(string, ...any) {}, all[clusterv1beta1.Placement](t, tc.placements), all[clusterv1beta1.PlacementDecision](t, tc.decisions), b)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func all[T any](t testing.TB, texts []string) []T {
	t.Helper()
	var os []T
	for _, text := range texts {
		os = append(os, *parse[T](t, text))
	}
	return os
}
