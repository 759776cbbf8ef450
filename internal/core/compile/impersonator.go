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
	users, groups  map[string]bool
	serviceAccount map[string]map[string]bool // names by namespace
	members        map[string]bool            // groups whose members are let in
	onBehalf       map[string][]*role         // by scope, "" for cluster-wide
}

// impersonator adds the objects that a shard needs for its impersonator. They are
// named after the shard, since several may serve one service account.
func impersonator(m *fleet.Member, s shard, to []*Object) []*Object {
	if !m.Paths.Has(subject.Karmada) || m.Impersonator.Name == "" {
		return to
	}
	need := impersonation{
		users: map[string]bool{}, groups: map[string]bool{}, members: map[string]bool{},
		serviceAccount: map[string]map[string]bool{}, onBehalf: map[string][]*role{},
	}
	for _, u := range s.units {
		need.add(u)
	}
	scopes := need.rules()
	if len(scopes) == 0 {
		return to
	}
	by := ownersOf(contributorsOf(s.units))
	who := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: m.Impersonator.Namespace, Name: m.Impersonator.Name}}
	name := namePrefix + "impersonator:" + s.name
	for _, ns := range slices.Sorted(maps.Keys(scopes)) {
		role := roleIn(ns, name, scopes[ns], by)
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: name}
		to = append(to, role, bindingIn(ns, name, ref, who, by))
	}
	return to
}

func (n *impersonation) add(u *unit) {
	for _, s := range u.subjects {
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
			}
		case subject.ServiceAccount:
			names := n.serviceAccount[s.Namespace]
			if names == nil {
				names = map[string]bool{}
				n.serviceAccount[s.Namespace] = names
			}
			names[s.Name] = true
			for _, g := range s.ImpliedGroups() {
				n.groups[g] = true
			}
		}
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
	if len(n.members) > 0 {
		add("", rules.ImpersonateMembers(sorted(n.members)))
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
	slices.SortFunc(out, func(a, b *expanded) int { return compareKeys(a, b) })
	return slices.Compact(out)
}
