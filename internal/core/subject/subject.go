// Package subject names the people and programs that grants give access to, and
// says how a member cluster sees each of them.
//
// A hub and a member do not always call one identity by the same name: it
// depends on the path by which a request reaches the member. The mapping lives
// here and nowhere else.
package subject

import (
	"cmp"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Kind of a subject, ordered as below.
type Kind uint8

// The kinds. The zero Kind is no subject at all.
const (
	_ Kind = iota
	User
	Group
	ServiceAccount
)

// String is the kind as RBAC spells it.
func (k Kind) String() string {
	switch k {
	case User:
		return rbacv1.UserKind
	case Group:
		return rbacv1.GroupKind
	case ServiceAccount:
		return rbacv1.ServiceAccountKind
	}
	return "Invalid"
}

// Subject is a user, group or service account as the hub authenticates it. It is
// comparable and can be the key of a map.
type Subject struct {
	Kind Kind
	// Namespace of a service account on the hub; empty for the others.
	Namespace string
	Name      string
}

const (
	serviceAccountPrefix = "system:serviceaccount:"
	// hubPrefix is what OCM cluster-proxy's user-server puts before the user name
	// of a hub service account, so that it is not taken for a local one.
	hubPrefix = "cluster:hub:"
)

// Of is the subject that a grant names.
func Of(s v1alpha1.Subject) Subject {
	switch s.Kind {
	case v1alpha1.UserSubject:
		return Subject{Kind: User, Name: s.Name}
	case v1alpha1.GroupSubject:
		return Subject{Kind: Group, Name: s.Name}
	case v1alpha1.ServiceAccountSubject:
		return Subject{Kind: ServiceAccount, Namespace: s.Namespace, Name: s.Name}
	}
	return Subject{}
}

// Refusal says why the subject must never be given anything, or "" where it may.
// The API server refuses these grants as well; the compiler does not rely on it.
func (s Subject) Refusal() string {
	switch {
	case s.Kind == 0:
		return "is no User, Group or ServiceAccount"
	case s.Name == "" || s.Name == "*":
		return "names nobody"
	case s.Name == "system:masters" || s.Name == "system:nodes":
		return s.Name + " is never granted"
	case s.Kind == ServiceAccount && s.Namespace == "":
		return "is a ServiceAccount without a namespace"
	case s.Kind == ServiceAccount && strings.ContainsAny(s.Namespace+s.Name, ":/"):
		// ns "a:b" with name "c" and ns "a" with name "b:c" are one user name.
		return "is no proper name of a ServiceAccount"
	case s.Kind == User && strings.HasPrefix(s.Name, serviceAccountPrefix):
		return "is a ServiceAccount named as a User"
	// Members know these by the same names, and would give them their own rights.
	case s.Kind == User && strings.HasPrefix(s.Name, "system:"):
		return "is a part of Kubernetes, which members would take for their own"
	case s.Kind == ServiceAccount && strings.HasPrefix(s.Namespace, "kube-"):
		return "is of a kube-* namespace, and members would take it for their own"
	case s.Kind != ServiceAccount && strings.HasPrefix(s.Name, hubPrefix):
		return "has the prefix " + hubPrefix + ", which is reserved for identities of the hub"
	}
	return ""
}

// Compare orders subjects by kind, namespace and name.
func Compare(a, b Subject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// String is "User alice", "Group devs" or "ServiceAccount ns/name".
func (s Subject) String() string {
	if s.Kind == ServiceAccount {
		return s.Kind.String() + " " + s.Namespace + "/" + s.Name
	}
	return s.Kind.String() + " " + s.Name
}

// ImpliedGroups are the groups that the API server adds to a service account,
// apart from system:authenticated, which every member adds by itself.
func (s Subject) ImpliedGroups() []string {
	if s.Kind != ServiceAccount {
		return nil
	}
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace}
}

// RBAC is the subject in a binding on the hub, and on a member for every path
// that presents identities by their plain name.
func (s Subject) RBAC() rbacv1.Subject {
	if s.Kind == ServiceAccount {
		return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.Namespace, Name: s.Name}
	}
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: s.Kind.String(), Name: s.Name}
}

// Path is a way by which a person's request reaches a member.
type Path uint8

// The paths; a set of them is their union.
const (
	// Gateway is Sallyport's own proxy. It presents plain names.
	Gateway Path = 1 << iota
	// Karmada is Karmada's aggregated API server. It presents plain names,
	// through impersonation by a service account that must be allowed to.
	Karmada
	// ClusterProxy is the user-server of OCM's cluster-proxy. It presents users
	// and groups by their plain name and service accounts of the hub as users
	// with the prefix cluster:hub:.
	ClusterProxy
	// Impersonated is the Gateway where it comes as a service account of the member
	// that impersonates people: plain names, and with them their UID and what
	// Kubernetes says of their credential in extra.
	Impersonated
)

// Has reports whether the set p has every path of q.
func (p Path) Has(q Path) bool { return p&q == q }

// Impersonates reports whether by any of the paths a service account of the member
// impersonates people, and has to be allowed to.
func (p Path) Impersonates() bool { return p&(Karmada|Impersonated) != 0 }

// OnMember appends the names by which a member sees the subject when requests
// come by any of the paths: one or two, without repetition.
func (s Subject) OnMember(to []rbacv1.Subject, by Path) []rbacv1.Subject {
	if s.Kind != ServiceAccount || by&(Gateway|Karmada|Impersonated) != 0 {
		to = append(to, s.RBAC())
	}
	if s.Kind == ServiceAccount && by.Has(ClusterProxy) {
		to = append(to, rbacv1.Subject{
			APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind,
			Name: hubPrefix + serviceAccountPrefix + s.Namespace + ":" + s.Name,
		})
	}
	return to
}
