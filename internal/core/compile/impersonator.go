package compile

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// impersonation is what the impersonator of a member must be allowed for the
// bindings of one shard: to be exactly the users, groups and service accounts
// that these name and, as the people in these groups, to do exactly what the
// groups may.
type impersonation struct {
	// exact: identities come with their UID and extra, of which these keys beside
	// Kubernetes' own.
	exact          bool
	extra          []string
	users, groups  map[string]bool
	serviceAccount map[string]map[string]bool // names by namespace
	members        map[string]bool            // groups whose members are let in
	onBehalf       map[string][]*role         // by scope, "" for cluster-wide
	behind         map[string][]*expanded     // the grants that need it, by scope
}

// maxImpersonatorLabels bounds the labels on each object of an impersonator, since
// a shard may have many of these, each with the grants of many bindings.
const maxImpersonatorLabels = 128

// impersonator adds the objects that a shard needs for its impersonator. They are
// named after the shard, since several may serve one service account.
func impersonator(m *fleet.Member, s shard, to []*Object) []*Object {
	if !m.Paths.Impersonates() || m.Impersonator.Name == "" {
		return to
	}
	need := impersonation{
		exact: m.Paths.Has(subject.Impersonated), extra: m.ExtraKeys,
		users: map[string]bool{}, groups: map[string]bool{}, members: map[string]bool{},
		serviceAccount: map[string]map[string]bool{}, onBehalf: map[string][]*role{}, behind: map[string][]*expanded{},
	}
	for _, u := range s.units {
		need.add(u)
	}
	scopes := need.rules()
	if len(scopes) == 0 {
		return to
	}
	who := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: m.Impersonator.Namespace, Name: m.Impersonator.Name}}
	name := namePrefix + "impersonator:" + s.name
	for _, ns := range slices.Sorted(maps.Keys(scopes)) {
		by := ownersOf(sortedByKey(need.behind[ns]))
		by.maxLabels = maxImpersonatorLabels
		role := roleIn(ns, name, scopes[ns], by)
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: name}
		to = append(to, role, bindingIn(ns, name, ref, who, by))
	}
	return to
}

func (n *impersonation) add(u *unit) {
	if u.what == roleUnit {
		return // who is bound to it may be in another work
	}
	for _, e := range u.contributors {
		for _, s := range e.subjects {
			if u.part == "" || has(u.subjects, s) {
				n.addSubject(u, e, s)
			}
		}
	}
}

// addSubject is what e needs so that s, which u binds, can be impersonated.
func (n *impersonation) addSubject(u *unit, e *expanded, s subject.Subject) {
	n.because("", e)
	switch s.Kind {
	case subject.User:
		n.users[s.Name] = true
	case subject.Group:
		n.groups[s.Name] = true
		// A role whose rules the hub does not know lets in only those whom a
		// grant names.
		if !u.role.opaque() {
			n.members[s.Name] = true
			n.allow(u.what, u.role)
			n.because(u.what, e)
		}
	case subject.ServiceAccount:
		names := n.serviceAccount[s.Namespace]
		if names == nil {
			names = map[string]bool{}
			n.serviceAccount[s.Namespace] = names
		}
		names[s.Name] = true
		n.because(s.Namespace, e)
		for _, g := range s.ImpliedGroups() {
			n.groups[g] = true
		}
	}
}

// because of whom the impersonator needs something in the scope.
func (n *impersonation) because(scope string, e *expanded) {
	if list := n.behind[scope]; len(list) == 0 || list[len(list)-1] != e {
		n.behind[scope] = append(list, e)
	}
}

func (n *impersonation) allow(scope string, r *role) {
	if !slices.Contains(n.onBehalf[scope], r) {
		n.onBehalf[scope] = append(n.onBehalf[scope], r)
	}
}

// rules by scope.
func (n *impersonation) rules() map[string][]rbacv1.PolicyRule {
	out := map[string][]rbacv1.PolicyRule{}
	add := func(scope string, more []rbacv1.PolicyRule) {
		if len(more) > 0 {
			out[scope] = append(out[scope], more...)
		}
	}
	add("", rules.Impersonate("users", sorted(n.users)))
	add("", rules.Impersonate("groups", sorted(n.groups)))
	// Within its own namespace only: cluster-wide, a name would stand for the
	// service accounts of that name in every namespace.
	for ns, names := range n.serviceAccount {
		add(ns, rules.Impersonate("serviceaccounts", sorted(names)))
	}
	if n.exact && len(n.users)+len(n.serviceAccount) > 0 {
		add("", rules.ImpersonateCredentials(n.extra))
	}
	if len(n.members) > 0 {
		add("", rules.ImpersonateMembers(sorted(n.members)))
		if n.exact {
			add("", rules.ImpersonateMembersCredentials(n.extra))
		}
		add("", rules.OnBehalf(rules.Everyone()))
	}
	for scope, roles := range n.onBehalf {
		slices.SortFunc(roles, func(a, b *role) int { return compareGives(give{role: a}, give{role: b}) })
		for _, r := range roles {
			add(scope, rules.OnBehalf(r.rules))
		}
	}
	return out
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// contributorsOf the units, sorted by key, each once.
func contributorsOf(units []*unit) []*expanded {
	var out []*expanded
	for _, u := range units {
		out = append(out, u.contributors...)
	}
	return sortedByKey(out)
}

// sortedByKey sorts in place.
func sortedByKey(out []*expanded) []*expanded {
	slices.SortFunc(out, compareKeys)
	return slices.Compact(out)
}
