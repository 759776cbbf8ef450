package compile

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

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
	// base bounds what a work with such units has once, however many there are.
	base int
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
	// part tells apart the pieces of a binding with very many subjects: the first
	// bits of the hashes of its subjects; empty for a binding in one piece.
	part string
}

// roleUnit cannot be a namespace.
const roleUnit = "\x00role"

func compareUnits(a, b *unit) int {
	return cmp.Or(
		cmp.Compare(a.hash, b.hash),
		strings.Compare(a.role.id, b.role.id),
		strings.Compare(a.what, b.what),
		strings.Compare(a.part, b.part),
	)
}

func (k unitKey) place() uint64 {
	place := k.role.hash >> 32 << 32
	switch {
	case k.what == roleUnit: // first among the units of the role
	case k.part != "":
		place |= stableHash(k.what+"\x00"+k.part) >> 32
	default:
		place |= stableHash(k.what) >> 32
	}
	return place
}

// A binding with more subjects, or to more bytes of them, is cut into parts, so
// that even a binding to thousands stays within the size of a work.
const (
	maxSubjects      = 512
	maxSubjectWeight = 96 << 10
)

// buildUnits makes what one role needs in one place, for members that are
// reached by the paths: mostly one unit, more for a binding to very many.
func buildUnits(k unitKey, contributors []*expanded, by subject.Path) []*unit {
	if k.what == roleUnit {
		role := clusterRole(k.role.ref.Name, k.role.rules, ownersOf(contributors))
		return []*unit{{unitKey: k, contributors: contributors, objects: []*Object{role}, weight: len(role.JSON), hash: k.place()}}
	}
	return buildParts(nil, k, contributors, subjectsOf(contributors), by)
}

// buildParts halves a binding along the bits of the hashes of its subjects until
// each part is light enough. Like the works, a part depends on what is in it and
// little else, and nobody can choose names that end up in one part.
func buildParts(to []*unit, k unitKey, contributors []*expanded, subjects []subject.Subject, by subject.Path) []*unit {
	owners := ownersOf(contributors)
	weight := weigh(k.role, subjects, owners, by)
	if len(subjects) <= maxSubjects && weight <= maxSubjectWeight+k.role.onBehalf || len(subjects) == 1 || len(k.part) == 64 {
		return append(to, buildBinding(k, contributors, subjects, owners, weight, by))
	}
	var halves [2][]subject.Subject
	for _, s := range subjects {
		bit := stableHash(s.String()) >> (63 - len(k.part)) & 1
		halves[bit] = append(halves[bit], s)
	}
	for bit, half := range halves {
		if len(half) > 0 {
			part := k
			part.part += string(rune('0' + bit))
			to = buildParts(to, part, naming(contributors, half), half, by)
		}
	}
	return to
}

// naming are the contributors that name any of the subjects, which are sorted.
func naming(contributors []*expanded, subjects []subject.Subject) []*expanded {
	var out []*expanded
	for _, e := range contributors {
		if slices.ContainsFunc(e.subjects, func(s subject.Subject) bool { return has(subjects, s) }) {
			out = append(out, e)
		}
	}
	return out
}

func has(subjects []subject.Subject, s subject.Subject) bool {
	_, ok := slices.BinarySearchFunc(subjects, s, subject.Compare)
	return ok
}

func buildBinding(k unitKey, contributors []*expanded, subjects []subject.Subject, by owners, weight int, path subject.Path) *unit {
	u := &unit{unitKey: k, contributors: contributors, subjects: subjects, hash: k.place(), weight: weight}
	var bound []rbacv1.Subject
	for _, s := range subjects {
		bound = s.OnMember(bound, path)
	}
	name := k.role.binding
	if k.part != "" {
		name += "~" + k.part // no name of a role has the tilde in it
	}
	if path.Impersonates() {
		u.base = pairWeight + everyoneWeight
	}
	if path.Has(subject.Impersonated) {
		u.base += credentialWeight
	}
	binding := bindingIn(k.what, name, k.role.ref, bound, by)
	u.objects = []*Object{binding}
	u.weight += len(binding.JSON)
	return u
}

// pairWeight bounds the bytes of a role and a binding of an impersonator without
// labels, annotations and rules, everyoneWeight those of the rules that an
// impersonator has for everyone, and credentialWeight those about UIDs and extra.
const (
	pairWeight       = 1 << 10
	everyoneWeight   = 1 << 10
	credentialWeight = 1 << 10
)

// weigh bounds the bytes that subjects of a binding to the role add to a work:
// their names and, where an impersonator needs rights, what it needs
// because of them, with the labels on it.
func weigh(r *role, subjects []subject.Subject, by owners, path subject.Path) int {
	impersonates := path.Impersonates()
	labels := 0
	if impersonates {
		labels = 2 * by.weight(maxImpersonatorLabels)
	}
	weight := labels // on what is cluster-wide
	groups, namespace := false, ""
	for _, s := range subjects { // sorted by namespace
		weight += 3*quotedLen(s.Name) + 80
		if s.Kind == subject.ServiceAccount {
			weight += 3*len(s.Namespace) + 120
			if impersonates && s.Namespace != namespace {
				weight += pairWeight + labels + 2*len(s.Namespace)
				namespace = s.Namespace
			}
		}
		groups = groups || s.Kind == subject.Group
	}
	if groups && impersonates { // in the scope of the binding
		weight += pairWeight + labels + r.onBehalf
	}
	return weight
}

// quotedLen is the length of a string in JSON, without the quotes.
func quotedLen(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r < ' ', r == '<', r == '>', r == '&', r == utf8.RuneError, r == '\u2028', r == '\u2029', r == 0x7f:
			n += 6
		case r == '"', r == '\\':
			n += 2
		default:
			n += utf8.RuneLen(r)
		}
	}
	return n
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
