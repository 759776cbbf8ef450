package inventory

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// fakeHub is controller-runtime's fake client, with states that the test says.
// What states a real hub has is the subject of TestHub and of package served.
type fakeHub struct {
	client.Reader
	states map[schema.GroupVersionKind]served.Status
}

func (h fakeHub) Status(gk schema.GroupKind) served.Status {
	for gvk, status := range h.states {
		if gvk.GroupKind() == gk {
			return status
		}
	}
	return served.Status{State: served.Absent}
}

func scheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// current is the state of kinds that are served.
func current(kinds ...schema.GroupVersionKind) map[schema.GroupVersionKind]served.Status {
	states := map[schema.GroupVersionKind]served.Status{}
	for _, gvk := range kinds {
		states[gvk] = served.Status{State: served.Current, GVK: gvk}
	}
	return states
}

func managedCluster(name string) *clusterv1.ManagedCluster {
	return &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true}}
}

func TestFleet(t *testing.T) {
	options := Options{Namespace: "sallyport-system"}
	secret := func(namespace, name, cluster string, age int) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + name),
			Labels:            map[string]string{"access.sallyport.dev/cluster": cluster},
			CreationTimestamp: metav1.Unix(int64(1000-age), 0),
		}}
	}
	profile := func(namespace, name, env string) client.Object {
		return untyped(t, `{apiVersion: multicluster.x-k8s.io/v1alpha1, kind: ClusterProfile, metadata: {name: `+name+`, namespace: `+namespace+`, labels: {env: `+env+`}}}`)
	}
	addOn := func(namespace, name string) client.Object {
		return untyped(t, `{apiVersion: addon.open-cluster-management.io/v1alpha1, kind: ManagedClusterAddOn, metadata: {namespace: `+namespace+`, name: `+name+`}, status: {namespace: agents}}`)
	}
	const unused = "not used: data.kubeconfig is required"
	ocm := func(name string, paths subject.Path) fleet.Member {
		return fleet.Member{Name: name, Accepted: true, Delivery: fleet.ManifestWork, Paths: paths}
	}
	direct := func(name, secret string) fleet.Member {
		return fleet.Member{Name: name, Accepted: true, Availability: fleet.Unavailable, Delivery: fleet.Direct, Paths: subject.Gateway, Secret: secret}
	}

	gateway := &Options{Namespace: "sallyport-system", Impersonator: types.NamespacedName{Namespace: "sallyport-system", Name: "sallyport-impersonator"}}
	through := func(m fleet.Member, namespace string, issuer fleet.Issuer) fleet.Member {
		m.Paths |= subject.Impersonated
		m.Impersonator, m.Issuer = types.NamespacedName{Namespace: namespace, Name: "sallyport-impersonator"}, issuer
		return m
	}
	karmada := fleet.Member{
		Name: "k", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada | subject.Impersonated,
		Impersonator: types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}, Issuer: fleet.KarmadaSecret,
	}

	cases := map[string]struct {
		reason   string
		options  *Options
		states   map[schema.GroupVersionKind]served.Status
		objects  []client.Object
		want     []fleet.Member
		problems []string
	}{
		"Nothing": {reason: "A hub that serves none of it has an empty fleet, which is no error."},
		"AddOn": {
			reason:  "The cluster-proxy add-on in a cluster's namespace opens its path, and no other add-on does.",
			states:  current(ManagedClusterKind, ManagedClusterAddOnKind),
			objects: []client.Object{managedCluster("a"), managedCluster("b"), addOn("a", "cluster-proxy"), addOn("b", "other")},
			want:    []fleet.Member{ocm("a", subject.Gateway|subject.ClusterProxy), ocm("b", subject.Gateway)},
		},
		"Merged": {
			reason: "One cluster that several inventories know is one member, and a Secret for it only takes away what was delivered with it before.",
			states: current(ManagedClusterKind, ClusterProfileKind, SecretKind),
			objects: []client.Object{
				managedCluster("a"), profile("open-cluster-management", "a", "prod"), secret("sallyport-system", "s", "a", 0),
			},
			want: []fleet.Member{func() fleet.Member {
				m := ocm("a", subject.Gateway)
				m.Secret = "s"
				return m
			}()},
			problems: []string{`Secret sallyport-system/s: not used: cluster "a" is delivered to by ManifestWork`, `Secret sallyport-system/s: ` + unused},
		},
		"GatewayByAddOn": {
			reason:  "The managed-serviceaccount add-on says in which namespace it makes the account. Where nothing gets tokens, nobody is given the right to impersonate: whoever made the account there would have it.",
			options: gateway, states: current(ManagedClusterKind, ManagedClusterAddOnKind),
			objects: []client.Object{managedCluster("a"), managedCluster("b"), addOn("a", "managed-serviceaccount"), addOn("b", "cluster-proxy")},
			want:    []fleet.Member{through(ocm("a", subject.Gateway), "agents", fleet.ManagedServiceAccount), ocm("b", subject.Gateway|subject.ClusterProxy)},
		},
		"GatewayBySecret": {
			reason:  "A kubeconfig gets tokens, also of a cluster to which Open Cluster Management delivers; then it is of use.",
			options: gateway, states: current(ManagedClusterKind, SecretKind),
			objects: []client.Object{managedCluster("a"), secret("sallyport-system", "s", "a", 0), secret("sallyport-system", "t", "b", 0)},
			want: []fleet.Member{
				func() fleet.Member {
					m := through(ocm("a", subject.Gateway), "sallyport-system", fleet.TokenRequest)
					m.Secret = "s"
					return m
				}(),
				through(direct("b", "t"), "sallyport-system", fleet.TokenRequest),
			},
			problems: []string{"Secret sallyport-system/s: " + unused, "Secret sallyport-system/t: " + unused},
		},
		"GatewayByKarmada": {
			reason:  "Karmada has its own, and where it has none nobody is impersonated.",
			options: gateway, states: current(KarmadaClusterKind),
			objects: []client.Object{
				untyped(t, `{apiVersion: cluster.karmada.io/v1alpha1, kind: Cluster, metadata: {name: k}, spec: {impersonatorSecretRef: {name: k-impersonator}}}`),
				untyped(t, `{apiVersion: cluster.karmada.io/v1alpha1, kind: Cluster, metadata: {name: l}}`),
			},
			want: []fleet.Member{karmada, {Name: "l", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway}},
		},
		"S24Secrets": {
			reason:   "A labelled Secret of another namespace makes nobody a member.",
			states:   current(SecretKind),
			objects:  []client.Object{secret("tenant", "s", "a", 0), secret("sallyport-system", "s", "b", 0)},
			want:     []fleet.Member{direct("b", "s")},
			problems: []string{"Secret sallyport-system/s: " + unused},
		},
		"S24Profiles": {
			reason:  "Nor does a ClusterProfile: with the right labels it would be selected.",
			states:  current(ClusterProfileKind),
			objects: []client.Object{profile("tenant", "a", "prod"), profile("open-cluster-management", "b", "prod")},
			want:    []fleet.Member{{Name: "b", Labels: map[string]string{"env": "prod"}, Accepted: true}},
		},
		"SameProfile": {
			reason:   "Of two ClusterProfiles of one name the first namespace's counts, in the order of the options.",
			options:  &Options{ProfileNamespaces: []string{"z", "a"}},
			states:   current(ClusterProfileKind),
			objects:  []client.Object{profile("a", "c", "second"), profile("z", "c", "first")},
			want:     []fleet.Member{{Name: "c", Labels: map[string]string{"env": "first"}, Accepted: true}},
			problems: []string{`ClusterProfile a/c: ignored: namespace "z" has one of that name`},
		},
		"NoProfiles": {
			reason:  "An operator can leave them out.",
			options: &Options{ProfileNamespaces: []string{}},
			states:  current(ClusterProfileKind),
			objects: []client.Object{profile("open-cluster-management", "b", "prod")},
		},
		"SameSecret": {
			reason:   "A second Secret for a cluster takes nothing over.",
			states:   current(SecretKind),
			objects:  []client.Object{secret("sallyport-system", "a-new", "c", 1), secret("sallyport-system", "b-old", "c", 9)},
			want:     []fleet.Member{direct("c", "b-old")},
			problems: []string{"Secret sallyport-system/a-new: " + `ignored: the older Secret "b-old" is for cluster "c"`, "Secret sallyport-system/a-new: " + unused, "Secret sallyport-system/b-old: " + unused},
		},
		"Stale": {
			reason: "An inventory that does not answer now is taken as it was last seen, and that is told.",
			states: map[schema.GroupVersionKind]served.Status{
				ManagedClusterKind: {State: served.Stale, GVK: ManagedClusterKind, Message: "503"},
			},
			objects:  []client.Object{managedCluster("a")},
			want:     []fleet.Member{ocm("a", subject.Gateway)},
			problems: []string{"ManagedCluster.cluster.open-cluster-management.io: read as it was last seen: 503"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.options == nil {
				tc.options = &options
			}
			hub := fakeHub{fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build(), tc.states}
			i := New(hub, *tc.options)
			got, problems, err := i.Fleet(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Members()); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
			var told []string
			for _, p := range problems {
				told = append(told, p.String())
			}
			if diff := cmp.Diff(tc.problems, told); diff != "" {
				t.Errorf("%s\nproblems (-want +got):\n%s", tc.reason, diff)
			}
			if _, again, _ := i.Fleet(t.Context()); !slices.Equal(problems, again) {
				t.Errorf("problems are not stable: %v, then %v", problems, again)
			}
		})
	}
}

// Each inventory by itself, if it was never read in full, keeps the fleet from
// being told: it would lack members, and they would be revoked. So do the
// placements.
func TestUnknownIsNoEmptyFleet(t *testing.T) {
	options := Options{Namespace: "sallyport-system"}
	for _, kind := range Kinds(options) {
		for _, state := range []served.State{served.Unknown, served.Listing} {
			t.Run(kind.GVK.Kind+state.String(), func(t *testing.T) {
				var others []schema.GroupVersionKind
				for _, k := range Kinds(options) {
					others = append(others, k.GVK)
				}
				states := current(others...)
				states[kind.GVK] = served.Status{State: state, Message: "the reason"}
				i := New(fakeHub{fake.NewClientBuilder().WithScheme(scheme(t)).Build(), states}, options)
				f, _, fleetErr := i.Fleet(t.Context())
				placements, placementErr := i.Placements(t.Context())
				for of, err := range map[string]error{"Fleet": fleetErr, "Placements": placementErr} {
					if err != nil && (!errors.Is(err, served.ErrUnknown) || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), kind.GVK.Kind)) {
						t.Errorf("%s: got %v, want ErrUnknown, the kind and the reason", of, err)
					}
				}
				ofPlacements := slices.Contains([]schema.GroupVersionKind{PlacementKind, PlacementDecisionKind, ManagedClusterSetKind, ManagedClusterSetBindingKind}, kind.GVK)
				if (fleetErr == nil) != ofPlacements || (f == nil) == ofPlacements {
					t.Errorf("Fleet: got %v, %v", f, fleetErr)
				}
				if (placementErr == nil) == (ofPlacements || kind.GVK == ManagedClusterKind) || (placements == nil) == (placementErr == nil) {
					t.Errorf("Placements: got %v, %v", placements, placementErr)
				}
			})
		}
	}
}

func TestPlacementsWithoutSets(t *testing.T) {
	placement := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}}
	decision := &clusterv1beta1.PlacementDecision{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "d", Labels: map[string]string{clusterv1beta1.PlacementLabel: "p"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "cluster.open-cluster-management.io/v1beta1", Kind: "Placement", Name: "p", UID: "u"}}},
		Status: clusterv1beta1.PlacementDecisionStatus{Decisions: []clusterv1beta1.ClusterDecision{{ClusterName: "c"}}},
	}
	c := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(placement, decision).Build()
	cases := map[string]struct {
		reason string
		states map[schema.GroupVersionKind]served.Status
		want   map[types.NamespacedName][]string
	}{
		"NoPlacements": {reason: "A hub without Placements has none.", want: map[types.NamespacedName][]string{}},
		"NoSets":       {reason: "A hub without sets divides clusters among nobody.", states: current(PlacementKind, PlacementDecisionKind), want: map[types.NamespacedName][]string{{Namespace: "n", Name: "p"}: {"c"}}},
		"Sets":         {reason: "One with sets does, also where nothing is bound.", states: current(PlacementKind, PlacementDecisionKind, ManagedClusterSetKind, ManagedClusterSetBindingKind, ManagedClusterKind), want: map[types.NamespacedName][]string{{Namespace: "n", Name: "p"}: {}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := New(fakeHub{c, tc.states}, Options{}).Placements(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
