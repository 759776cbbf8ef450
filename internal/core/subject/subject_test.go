package subject

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

func TestRefusal(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     v1alpha1.Subject
		want   string
	}{
		"User":           {reason: "A plain user may be granted something.", in: v1alpha1.Subject{Kind: "User", Name: "alice"}},
		"Group":          {reason: "A plain group may be granted something.", in: v1alpha1.Subject{Kind: "Group", Name: "oidc:payments"}},
		"ServiceAccount": {reason: "A service account with its namespace may be granted something.", in: v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "deployer"}},
		"UserWithDots":   {reason: "Most names of users are e-mail addresses.", in: v1alpha1.Subject{Kind: "User", Name: "alice@example.org"}},

		"S7_GroupMasters": {
			reason: "S7: system:masters bypasses RBAC on every member.",
			in:     v1alpha1.Subject{Kind: "Group", Name: "system:masters"}, want: "system:masters is never granted",
		},
		"S7_GroupNodes": {
			reason: "S7: system:nodes is what the node authorizer trusts.",
			in:     v1alpha1.Subject{Kind: "Group", Name: "system:nodes"}, want: "system:nodes is never granted",
		},
		"S7_UserMasters": {
			reason: "S7: a backend that confuses users and groups must not find the name either.",
			in:     v1alpha1.Subject{Kind: "User", Name: "system:masters"}, want: "system:masters is never granted",
		},
		"S7_ServiceAccountNodes": {
			reason: "S7: the kind makes no difference.",
			in:     v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "x", Name: "system:nodes"}, want: "system:nodes is never granted",
		},

		"ZeroKind":      {reason: "The zero subject is nobody.", in: v1alpha1.Subject{Name: "alice"}, want: "is no User, Group or ServiceAccount"},
		"UnknownKind":   {reason: "A kind that RBAC does not know is nobody.", in: v1alpha1.Subject{Kind: "Everyone", Name: "alice"}, want: "is no User, Group or ServiceAccount"},
		"LowerCaseKind": {reason: "Kinds are compared exactly, as RBAC does.", in: v1alpha1.Subject{Kind: "user", Name: "alice"}, want: "is no User, Group or ServiceAccount"},
		"NoName":        {reason: "An empty name would match an empty identity (S6).", in: v1alpha1.Subject{Kind: "User"}, want: "names nobody"},
		"Star":          {reason: "A star is no wildcard here and must not become one elsewhere.", in: v1alpha1.Subject{Kind: "Group", Name: "*"}, want: "names nobody"},
		"NoNamespace": {
			reason: "Without its namespace RBAC would take the namespace of the binding.",
			in:     v1alpha1.Subject{Kind: "ServiceAccount", Name: "deployer"}, want: "is a ServiceAccount without a namespace",
		},
		"ServiceAccountAsUser": {
			reason: "A service account named as a user would escape the mapping per path.",
			in:     v1alpha1.Subject{Kind: "User", Name: "system:serviceaccount:ci:deployer"}, want: "is a ServiceAccount named as a User",
		},
		"KubernetesUser": {
			reason: "A member would take the hub's controller manager for its own, with its rights.",
			in:     v1alpha1.Subject{Kind: "User", Name: "system:kube-controller-manager"}, want: "is a part of Kubernetes, which members would take for their own",
		},
		"KubernetesServiceAccount": {
			reason: "Likewise a controller that is a service account.",
			in:     v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "kube-system", Name: "clusterrole-aggregation-controller"}, want: "is of a kube-* namespace, and members would take it for their own",
		},
		"HubUser": {
			reason: "On a member this name stands for a service account of the hub.",
			in:     v1alpha1.Subject{Kind: "User", Name: "cluster:hub:system:serviceaccount:ci:deployer"},
			want:   "has the prefix cluster:hub:, which is reserved for identities of the hub",
		},
		"HubGroup": {
			reason: "The prefix is the hub's for groups as well.",
			in:     v1alpha1.Subject{Kind: "Group", Name: "cluster:hub:admins"},
			want:   "has the prefix cluster:hub:, which is reserved for identities of the hub",
		},
		"ColonInNamespace": {
			reason: "a:b/c and a/b:c would be one user name on the wire, and one object name.",
			in:     v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "a:b", Name: "c"}, want: "is no proper name of a ServiceAccount",
		},
		"ColonInName": {
			reason: "a:b/c and a/b:c would be one user name on the wire, and one object name.",
			in:     v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "a", Name: "b:c"}, want: "is no proper name of a ServiceAccount",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Of(tc.in).Refusal()); diff != "" {
				t.Errorf("%s\nRefusal of %v (-want +got):\n%s", tc.reason, tc.in, diff)
			}
		})
	}
}

func TestZeroSubjectIsRefused(t *testing.T) {
	if (Subject{}).Refusal() == "" {
		t.Error("The zero Subject has to be refused, so that a forgotten assignment fails closed.")
	}
}

func TestOfDropsNamespaceOfUsersAndGroups(t *testing.T) {
	for _, kind := range []v1alpha1.SubjectKind{v1alpha1.UserSubject, v1alpha1.GroupSubject} {
		a := Of(v1alpha1.Subject{Kind: kind, Name: "x", Namespace: "stray"})
		b := Of(v1alpha1.Subject{Kind: kind, Name: "x"})
		if a != b {
			t.Errorf("%s: a stray namespace makes another subject of it: %v and %v", kind, a, b)
		}
	}
}

func TestOnMember(t *testing.T) {
	user := Subject{Kind: User, Name: "alice"}
	group := Subject{Kind: Group, Name: "devs"}
	sa := Subject{Kind: ServiceAccount, Namespace: "ci", Name: "deployer"}

	plainUser := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}
	plainGroup := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "devs"}
	plainSA := rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "deployer"}
	hubSA := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "cluster:hub:system:serviceaccount:ci:deployer"}

	cases := map[string]struct {
		reason string
		in     Subject
		by     Path
		want   []rbacv1.Subject
	}{
		"UserByGateway":      {reason: "The gateway presents plain names.", in: user, by: Gateway, want: []rbacv1.Subject{plainUser}},
		"UserByKarmada":      {reason: "Karmada presents plain names.", in: user, by: Karmada, want: []rbacv1.Subject{plainUser}},
		"UserByClusterProxy": {reason: "Users keep their name behind the user-server.", in: user, by: ClusterProxy, want: []rbacv1.Subject{plainUser}},
		"UserByAll":          {reason: "One name, however many paths.", in: user, by: Gateway | Karmada | ClusterProxy, want: []rbacv1.Subject{plainUser}},
		"GroupByAll":         {reason: "Groups have one name on every path.", in: group, by: Gateway | Karmada | ClusterProxy, want: []rbacv1.Subject{plainGroup}},
		"SAByGateway":        {reason: "The gateway presents plain names.", in: sa, by: Gateway, want: []rbacv1.Subject{plainSA}},
		"SAByKarmada":        {reason: "Karmada presents plain names.", in: sa, by: Karmada, want: []rbacv1.Subject{plainSA}},
		"SAByClusterProxy": {
			reason: "Only by the user-server: the member's own service account of that name gets nothing.",
			in:     sa, by: ClusterProxy, want: []rbacv1.Subject{hubSA},
		},
		"SAByBoth":          {reason: "Both names, each once.", in: sa, by: Gateway | Karmada | ClusterProxy, want: []rbacv1.Subject{plainSA, hubSA}},
		"SAByImpersonation": {reason: "The gateway's impersonator presents plain names.", in: sa, by: Impersonated, want: []rbacv1.Subject{plainSA}},
		"SAByNothing":       {reason: "A service account that no path presents has no name there.", in: sa, by: 0, want: nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.in.OnMember(nil, tc.by)); diff != "" {
				t.Errorf("%s\nOnMember (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestImpliedGroups(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     Subject
		want   []string
	}{
		"ServiceAccount": {
			reason: "What the API server adds to a service account, so that Karmada may pass it on.",
			in:     Subject{Kind: ServiceAccount, Namespace: "ci", Name: "deployer"},
			want:   []string{"system:serviceaccounts", "system:serviceaccounts:ci"},
		},
		"User":  {reason: "Nothing is implied for a user.", in: Subject{Kind: User, Name: "alice"}},
		"Group": {reason: "Nothing is implied for a group.", in: Subject{Kind: Group, Name: "devs"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.in.ImpliedGroups()); diff != "" {
				t.Errorf("%s\nImpliedGroups (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestCompareOrdersByKindNamespaceName(t *testing.T) {
	want := []Subject{
		{Kind: User, Name: "a"},
		{Kind: User, Name: "b"},
		{Kind: Group, Name: "a"},
		{Kind: ServiceAccount, Namespace: "x", Name: "b"},
		{Kind: ServiceAccount, Namespace: "y", Name: "a"},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Compare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestStringsAreUnambiguous(t *testing.T) {
	subjects := []Subject{
		{Kind: User, Name: "x"}, {Kind: Group, Name: "x"},
		{Kind: ServiceAccount, Namespace: "x", Name: "x"}, {Kind: ServiceAccount, Namespace: "x", Name: "y"},
		{Kind: User, Name: "x/y"}, {},
	}
	seen := map[string]Subject{}
	for _, s := range subjects {
		if other, twice := seen[s.String()]; twice {
			t.Errorf("%#v and %#v are both %q", s, other, s)
		}
		seen[s.String()] = s
	}
	if got := (Kind(9)).String(); got != "Invalid" {
		t.Errorf("an unknown kind is %q", got)
	}
}
