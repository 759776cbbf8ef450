package inventory

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// TestPublic: who reads descriptions knows the fleet that the controller knows by
// Secrets, but for how to reach it.
func TestPublic(t *testing.T) {
	options := Options{Namespace: "sallyport-system"}
	described := func(m fleet.Member) client.Object {
		m.Delivery = fleet.Direct
		return Describe(fleet.New([]fleet.Member{m}), options.Namespace)[0]
	}
	changed := func(o client.Object, change func(*corev1.ConfigMap)) client.Object {
		change(o.(*corev1.ConfigMap))
		return o
	}
	a := fleet.Member{Name: "a", Labels: map[string]string{"env": "prod"}, Availability: fleet.Unavailable, Secret: "s"}
	cases := map[string]struct {
		reason   string
		objects  []client.Object
		want     []fleet.Member
		problems []string
	}{
		"Described": {
			reason:  "Labels and health; not where the kubeconfig is.",
			objects: []client.Object{described(a)},
			want: []fleet.Member{{
				Name: "a", Accepted: true, Labels: a.Labels, Availability: fleet.Unavailable, Delivery: fleet.Direct, Paths: subject.Gateway,
			}},
		},
		"Merged": {
			reason:  "An inventory that is preferred describes the member, as for the controller.",
			objects: []client.Object{described(a), managedCluster("a")},
			want:    []fleet.Member{{Name: "a", Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway}},
		},
		"Secret": {
			reason: "S24: a Secret is not even read.",
			objects: []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{
				Namespace: options.Namespace, Name: "s", Labels: map[string]string{v1alpha1.ClusterLabel: "a"},
			}}},
		},
		"OtherNamespace": {
			reason:  "S24: a description elsewhere makes nobody a member.",
			objects: []client.Object{changed(described(a), func(cm *corev1.ConfigMap) { cm.Namespace = "tenant" })},
		},
		"Renamed": {
			reason:   "A description of another cluster than its name says is somebody else's.",
			objects:  []client.Object{changed(described(a), func(cm *corev1.ConfigMap) { cm.Labels[v1alpha1.ClusterLabel] = "b" })},
			problems: []string{`ConfigMap sallyport-system/member-a: label access.sallyport.dev/cluster: "b" is not the cluster that the name says`},
		},
		"Unreadable": {
			reason:   "What cannot be read makes no member.",
			objects:  []client.Object{changed(described(a), func(cm *corev1.ConfigMap) { cm.Data = nil })},
			problems: []string{"ConfigMap sallyport-system/member-a: the description cannot be read"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			hub := fakeHub{fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build(), current(ManagedClusterKind, SecretKind, DescriptionKind)}
			f, problems, err := NewPublic(hub, options).Fleet(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, f.Members()); diff != "" {
				t.Errorf("%s\n%s", tc.reason, diff)
			}
			var told []string
			for _, p := range problems {
				told = append(told, p.String())
			}
			if diff := cmp.Diff(tc.problems, told); diff != "" {
				t.Errorf("%s\n%s", tc.reason, diff)
			}
		})
	}
	for _, k := range PublicKinds(options) {
		if k.GVK == SecretKind || slices.Contains(k.Namespaces, "") {
			t.Errorf("S24: %s is held", k.GVK)
		}
	}
}

func TestPublicInDoubt(t *testing.T) {
	states := current()
	states[DescriptionKind] = served.Status{State: served.Unknown}
	if f, _, err := NewPublic(fakeHub{nil, states}, Options{Namespace: "n"}).Fleet(t.Context()); err == nil {
		t.Errorf("descriptions that were never read are no empty fleet: %v", f.Members())
	}
}
