package compile

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// unit is the smallest thing that is delivered as a whole: a role, or the binding
// to a role in one scope, with the grants that asked for it. It is immutable and
// shared by the members on which the same grants ask for the same.
type unit struct {
	unitKey
	// contributors are the grants behind it, sorted by key.
	contributors []*expanded
	// subjects are those of all contributors, sorted; empty for a role.
	subjects []subject.Subject
	objects  []*Object
	// weight bounds from above the bytes that the unit adds to a work, the
	// impersonation rights that it entails included.
	weight int
	// hash places the unit in the trie: the upper half by role, so that a role
	// and its bindings stay together, the lower by scope.
	hash uint64
}

// unitKey identifies a unit on one member.
type unitKey struct {
	role *role
	// what is the namespace of a binding, "" for a cluster-wide one, and roleUnit
	// for the role itself.
	what string
	// part tells apart the pieces of a binding with very many subjects; -1 else.
	part int
}

// roleUnit cannot be a namespace.
const roleUnit = "\x00role"

func compareUnits(a, b *unit) int {
	return cmp.Or(
		cmp.Compare(a.hash, b.hash),
		strings.Compare(a.role.id, b.role.id),
		strings.Compare(a.what, b.what),
		cmp.Compare(a.part, b.part),
	)
}

func (k unitKey) place() uint64 {
	place := k.role.hash >> 32 << 32
	switch {
	case k.what == roleUnit: // first among the units of the role
	case k.part >= 0:
		place |= stableHash(k.what+"\x00"+string(rune(k.part))) >> 32
	default:
		place |= stableHash(k.what) >> 32
	}
	return place
}

// maxSubjects per binding. Beyond it a binding is cut into parts by a hash of the
// subjects, so that even a binding to thousands stays within the size of a work.
const maxSubjects = 512

// buildUnits makes what one role needs in one place, for members that are
// reached by the paths: mostly one unit, more for a binding to very many.
func buildUnits(k unitKey, contributors []*expanded, by subject.Path) []*unit {
	if k.what == roleUnit {
		role := clusterRole(k.role.ref.Name, k.role.rules, ownersOf(contributors))
		return []*unit{{unitKey: k, contributors: contributors, objects: []*Object{role}, weight: len(role.JSON), hash: k.place()}}
	}
	if all := subjectsOf(contributors); len(all) <= maxSubjects {
		return []*unit{buildBinding(k, contributors, all, by)}
	}
	return buildParts(k, contributors, by)
}

func buildParts(k unitKey, contributors []*expanded, by subject.Path) []*unit {
	all := subjectsOf(contributors)
	// Twice the room that an even spread needs, so that parts seldom overflow;
	// the number of parts depends on the magnitude only, and so seldom changes.
	n := 1 << bits.Len(uint(2*len(all)/maxSubjects))
	parts := make([][]subject.Subject, n)
	for _, s := range all {
		p := int(stableHash(s.String()) % uint64(n))
		parts[p] = append(parts[p], s)
	}
	var units []*unit
	for p, subjects := range parts {
		if len(subjects) == 0 {
			continue
		}
		var behind []*expanded
		for _, e := range contributors {
			if slices.ContainsFunc(e.subjects, func(s subject.Subject) bool {
				_, ok := slices.BinarySearchFunc(subjects, s, subject.Compare)
				return ok
			}) {
				behind = append(behind, e)
			}
		}
		k.part = p
		units = append(units, buildBinding(k, behind, subjects, by))
	}
	return units
}

func buildBinding(k unitKey, contributors []*expanded, subjects []subject.Subject, by subject.Path) *unit {
	u := &unit{unitKey: k, contributors: contributors, subjects: subjects, hash: k.place()}
	var bound []rbacv1.Subject
	groups := false
	for _, s := range subjects {
		bound = s.OnMember(bound, by)
		u.weight += 5*len(s.Name) + 64
		if s.Kind == subject.ServiceAccount {
			u.weight += 1 << 10 // a Role and a RoleBinding in its namespace
		}
		groups = groups || s.Kind == subject.Group
	}
	if groups {
		u.weight += 2<<10 + 2*k.role.size // the rules once more, on behalf
	}
	name := k.role.binding
	if k.part >= 0 {
		name += ":" + Digest(string(rune(k.part)))[:8]
	}
	binding := bindingIn(k.what, name, k.role.ref, bound, ownersOf(contributors))
	u.objects = []*Object{binding}
	u.weight += len(binding.JSON)
	return u
}

// subjectsOf the contributors, sorted, each once.
func subjectsOf(contributors []*expanded) []subject.Subject {
	if len(contributors) == 1 {
		return contributors[0].subjects
	}
	var out []subject.Subject
	for _, e := range contributors {
		out = append(out, e.subjects...)
	}
	slices.SortFunc(out, subject.Compare)
	return slices.Compact(out)
}
