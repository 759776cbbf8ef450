package fleet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var impersonator = types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}

func TestNewMerges(t *testing.T) {
	work := Member{Name: "m", Accepted: true, Delivery: ManifestWork, Paths: subject.Gateway, Labels: map[string]string{"by": "ocm"}}
	karmada := Member{Name: "m", Accepted: true, Delivery: KarmadaWork, Paths: subject.Karmada, Labels: map[string]string{"by": "karmada"}, Impersonator: impersonator, Issuer: KarmadaSecret}
	direct := Member{Name: "m", Accepted: true, Delivery: Direct, Paths: subject.Gateway, Labels: map[string]string{"by": "secret"}, Secret: "m-kubeconfig"}
	profile := Member{Name: "m", Accepted: true, Labels: map[string]string{"by": "profile"}, Paths: subject.ClusterProxy}
	notYet := work
	notYet.Accepted = false

	cases := map[string]struct {
		reason string
		in     []Member
		want   []Member
	}{
		"Nothing": {reason: "No inventory, no fleet."},
		"Sorted": {
			reason: "Members come in order of name, whatever the order of the inventories.",
			in:     []Member{{Name: "b"}, {Name: "a"}}, want: []Member{{Name: "a"}, {Name: "b"}},
		},
		"Nameless": {
			reason: "A member without a proper name cannot be granted, and * must never get into resourceNames.",
			in:     []Member{{Name: ""}, {Name: "*"}, {Name: "a"}}, want: []Member{{Name: "a"}},
		},
		"OneOfEach": {
			reason: "The preferred delivery describes the member; every path that anyone knows leads to it; the kubeconfig takes away what was delivered with it before.",
			in:     []Member{profile, direct, karmada, work},
			want: []Member{{
				Name: "m", Accepted: true, Delivery: ManifestWork, Labels: map[string]string{"by": "ocm"},
				Paths: subject.Gateway | subject.Karmada | subject.ClusterProxy, Impersonator: impersonator, Issuer: KarmadaSecret, Secret: "m-kubeconfig",
			}},
		},
		"DescriptionGivesWay": {
			reason: "An inventory that cannot deliver does not describe where another one delivers.",
			in:     []Member{profile, direct},
			want:   []Member{{Name: "m", Accepted: true, Delivery: Direct, Secret: "m-kubeconfig", Labels: map[string]string{"by": "secret"}, Paths: subject.Gateway | subject.ClusterProxy}},
		},
		"KarmadaComesAsItsOwn": {
			reason: "Karmada's proxy knows no impersonator but Karmada's, so the gateway uses that one as well, wherever the other is listed.",
			in: []Member{karmada, {
				Name: "m", Accepted: true, Delivery: ManifestWork, Paths: subject.Gateway | subject.Impersonated,
				Impersonator: types.NamespacedName{Namespace: "agents", Name: "sallyport-impersonator"}, Issuer: ManagedServiceAccount,
			}},
			want: []Member{{
				Name: "m", Accepted: true, Delivery: ManifestWork, Paths: subject.Gateway | subject.Impersonated | subject.Karmada,
				Impersonator: impersonator, Issuer: KarmadaSecret,
			}},
		},
		"TokensByTheSecret": {
			reason: "Where Open Cluster Management delivers and has no tokens, the kubeconfig gets them.",
			in: []Member{work, {
				Name: "m", Accepted: true, Delivery: Direct, Paths: subject.Gateway | subject.Impersonated, Secret: "m-kubeconfig",
				Impersonator: types.NamespacedName{Namespace: "sallyport-system", Name: "sallyport-impersonator"}, Issuer: TokenRequest,
			}},
			want: []Member{{
				Name: "m", Accepted: true, Delivery: ManifestWork, Labels: map[string]string{"by": "ocm"}, Paths: subject.Gateway | subject.Impersonated, Secret: "m-kubeconfig",
				Impersonator: types.NamespacedName{Namespace: "sallyport-system", Name: "sallyport-impersonator"}, Issuer: TokenRequest,
			}},
		},
		"NotAcceptedBySome": {
			reason: "One inventory that has not let the cluster in is enough to keep it out.",
			in:     []Member{karmada, notYet},
			want: []Member{{
				Name: "m", Accepted: false, Delivery: ManifestWork, Labels: map[string]string{"by": "ocm"},
				Paths: subject.Gateway | subject.Karmada, Impersonator: impersonator, Issuer: KarmadaSecret,
			}},
		},
		"NotAcceptedByTheOther": {
			reason: "Nor does it matter which of them delivers.",
			in:     []Member{work, {Name: "m", Accepted: false, Delivery: KarmadaWork}},
			want:   []Member{{Name: "m", Accepted: false, Delivery: ManifestWork, Paths: subject.Gateway, Labels: map[string]string{"by": "ocm"}}},
		},
		"TwoSecretsForOneCluster": {
			reason: "Two kubeconfigs for one name: always the same one, not the one that happens to be listed first.",
			in: []Member{
				{Name: "m", Delivery: Direct, Accepted: true, Secret: "b", Labels: map[string]string{"env": "prod"}},
				{Name: "m", Delivery: Direct, Accepted: true, Secret: "a", Labels: map[string]string{"env": "dev"}},
			},
			want: []Member{{Name: "m", Delivery: Direct, Accepted: true, Secret: "a", Labels: map[string]string{"env": "dev"}}},
		},
		"TwoDescriptionsOfOneCluster": {
			reason: "Two that differ in labels only: always the same one.",
			in:     []Member{{Name: "m", Labels: map[string]string{"env": "prod"}}, {Name: "m", Labels: map[string]string{"env": "dev"}}},
			want:   []Member{{Name: "m", Labels: map[string]string{"env": "dev"}}},
		},
		"TwoImpersonators": {
			reason: "Two impersonators for one name: always the same one.",
			in: []Member{
				{Name: "m", Delivery: KarmadaWork, Impersonator: types.NamespacedName{Namespace: "n", Name: "b"}},
				{Name: "m", Delivery: KarmadaWork, Impersonator: types.NamespacedName{Namespace: "n", Name: "a"}},
			},
			want: []Member{{Name: "m", Delivery: KarmadaWork, Impersonator: types.NamespacedName{Namespace: "n", Name: "a"}}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			permutations(tc.in, func(in []Member) {
				if diff := cmp.Diff(tc.want, New(in).Members()); diff != "" {
					t.Errorf("%s\nNew(%v) (-want +got):\n%s", tc.reason, in, diff)
				}
			})
		})
	}
}

// permutations calls f with every order of the members.
func permutations(in []Member, f func([]Member)) {
	if len(in) == 0 {
		f(nil)
		return
	}
	var permute func(head, tail []Member)
	permute = func(head, tail []Member) {
		if len(tail) == 0 {
			f(head)
		}
		for i := range tail {
			rest := append(append([]Member{}, tail[:i]...), tail[i+1:]...)
			permute(append(append([]Member{}, head...), tail[i]), rest)
		}
	}
	permute(nil, in)
}

func TestNewLeavesItsInput(t *testing.T) {
	in := []Member{{Name: "b", Paths: subject.Gateway}, {Name: "a"}, {Name: "b", Paths: subject.Karmada}}
	New(in)
	want := []Member{{Name: "b", Paths: subject.Gateway}, {Name: "a"}, {Name: "b", Paths: subject.Karmada}}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Errorf("New changed what it was given (-want +got):\n%s", diff)
	}
}

func TestLookup(t *testing.T) {
	f := New([]Member{{Name: "b"}, {Name: "a", Secret: "s"}})
	if m, ok := f.Get("a"); !ok || m.Secret != "s" {
		t.Errorf("Get(a) = %v, %t", m, ok)
	}
	if i, ok := f.Index("b"); !ok || i != 1 {
		t.Errorf("Index(b) = %d, %t", i, ok)
	}
	if _, ok := f.Get("c"); ok {
		t.Error("Get found a member that is not there")
	}
	if f.Len() != 2 {
		t.Errorf("Len() = %d", f.Len())
	}
}

func TestNilFleetIsEmpty(t *testing.T) {
	var f *Fleet
	if _, ok := f.Get("a"); ok || f.Len() != 0 || f.Matching(nil, labels.Everything()) != nil {
		t.Error("a nil Fleet has members")
	}
	if !f.Equal(New(nil)) || !New(nil).Equal(f) {
		t.Error("a nil Fleet and an empty one compile alike")
	}
}

func TestMatching(t *testing.T) {
	f := New([]Member{
		{Name: "dev", Accepted: true, Labels: map[string]string{"env": "dev"}},
		{Name: "prod-1", Accepted: true, Labels: map[string]string{"env": "prod"}},
		{Name: "prod-2", Accepted: false, Labels: map[string]string{"env": "prod"}},
		{Name: "prod-3", Accepted: true, Labels: map[string]string{"env": "prod"}},
	})
	s, err := labels.Parse("env=prod")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 3}, f.Matching(nil, s)); diff != "" {
		t.Errorf("A cluster that is not accepted matches nothing (-want +got):\n%s", diff)
	}
}

func TestEqual(t *testing.T) {
	base := Member{Name: "m", Accepted: true, Delivery: ManifestWork, Paths: subject.Karmada, Impersonator: impersonator, Labels: map[string]string{"env": "prod"}}
	cases := map[string]struct {
		reason string
		change func(*Member)
		want   bool
	}{
		"Same":         {reason: "Nothing changed.", change: func(*Member) {}, want: true},
		"Health":       {reason: "Health changes often and nothing depends on it.", change: func(m *Member) { m.Availability = Unavailable }, want: true},
		"Taints":       {reason: "Taints take no access away.", change: func(m *Member) { m.Taints = []Taint{{Key: "unreachable"}} }, want: true},
		"Claims":       {reason: "Claims select nothing.", change: func(m *Member) { m.Claims = map[string]string{"version": "v1.37"} }, want: true},
		"Name":         {reason: "Another cluster.", change: func(m *Member) { m.Name = "n" }},
		"Accepted":     {reason: "It is given nothing any more.", change: func(m *Member) { m.Accepted = false }},
		"Delivery":     {reason: "None delivers nothing.", change: func(m *Member) { m.Delivery = None }},
		"Paths":        {reason: "Names of service accounts depend on it.", change: func(m *Member) { m.Paths = subject.Gateway }},
		"Impersonator": {reason: "It is bound by name.", change: func(m *Member) { m.Impersonator.Name = "other" }},
		"ExtraKeys":    {reason: "The impersonator may present them.", change: func(m *Member) { m.ExtraKeys = []string{"scopes"} }},
		"Labels":       {reason: "Selectors see them.", change: func(m *Member) { m.Labels = map[string]string{"env": "dev"} }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			changed := base
			tc.change(&changed)
			if got := New([]Member{base}).Equal(New([]Member{changed})); got != tc.want {
				t.Errorf("%s Equal = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

func TestDeliveryNames(t *testing.T) {
	want := map[Delivery]string{None: "None", ManifestWork: "ManifestWork", KarmadaWork: "Work", Direct: "Direct"}
	for d, name := range want {
		if d.String() != name {
			t.Errorf("Delivery(%d) is %q, want %q", d, d, name)
		}
	}
}
