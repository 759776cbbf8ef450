package compile

import (
	"iter"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// memberState is what a member held at the last snapshot, in the forms that a
// change goes through: who asks for what, the units that this makes, the works
// that these fill.
type memberState struct {
	// asked lists the grants behind each unit, sorted by key.
	asked map[unitKey][]*expanded
	units map[unitKey][]*unit
	// flat are all the units, sorted.
	flat  []*unit
	works map[string]workState
	out   []*Work
}

type workState struct {
	units []*unit
	work  *Work
}

// unitKeys are the units to which a grant contributes wherever it gives anything.
func (e *expanded) unitKeys() iter.Seq[unitKey] {
	return func(yield func(unitKey) bool) {
		var last *role
		for _, g := range e.gives { // sorted by role
			if g.role != last && !g.role.opaque() && !yield(unitKey{role: g.role, what: roleUnit}) {
				return
			}
			last = g.role
			if !yield(unitKey{role: g.role, what: g.namespace}) {
				return
			}
		}
	}
}

// compile a member again where the units with these keys may have changed.
func (s *memberState) compile(m *fleet.Member, keys map[unitKey]struct{}, memo passMemo) {
	if s.units == nil {
		s.units = make(map[unitKey][]*unit, len(keys))
	}
	many := len(keys) > len(s.flat)/16
	for k := range keys {
		before := s.units[k]
		contributors := s.asked[k]
		var now []*unit
		if len(contributors) > 0 {
			now = memo.unitsFor(k, contributors, m.Paths)
			s.units[k] = now
		} else {
			delete(s.asked, k)
			delete(s.units, k)
		}
		if !many {
			s.splice(before, now)
		}
	}
	if many {
		s.flat = s.flat[:0]
		for _, units := range s.units {
			s.flat = append(s.flat, units...)
		}
		slices.SortFunc(s.flat, compareUnits)
	}
	s.fill(m, memo)
}

// splice takes units out of those that are sorted, and others in.
func (s *memberState) splice(before, now []*unit) {
	for _, u := range before {
		if i, ok := slices.BinarySearchFunc(s.flat, u, compareUnits); ok {
			s.flat = slices.Delete(s.flat, i, i+1)
		}
	}
	for _, u := range now {
		i, _ := slices.BinarySearchFunc(s.flat, u, compareUnits)
		s.flat = slices.Insert(s.flat, i, u)
	}
}

// fill works with the units. A work whose units are the same is the same.
func (s *memberState) fill(m *fleet.Member, memo passMemo) {
	parts := shards(s.flat)
	works := make(map[string]workState, len(parts))
	out := make([]*Work, 0, len(parts))
	for _, p := range parts {
		w, ok := s.works[p.name]
		if !ok || !slices.Equal(w.units, p.units) {
			p.units = slices.Clone(p.units) // flat changes
			w = memo.work(m, p)
		}
		works[p.name] = w
		out = append(out, w.work)
	}
	slices.SortFunc(out, func(a, b *Work) int { return strings.Compare(a.Name, b.Name) })
	s.works, s.out = works, out
}

// passMemo shares between the members what they have in common, for the length of
// one pass.
type passMemo struct {
	units map[unitsKey][]sharedUnits
	works map[workKey][]workState
}

// unitsKey finds units that another member needs as well: the same contributors
// to the same role and scope, seen by the same paths.
type unitsKey struct {
	unitKey
	by    subject.Path
	first *expanded
	count int
}

type sharedUnits struct {
	contributors []*expanded
	units        []*unit
}

// workKey finds works that another member needs as well.
type workKey struct {
	name         string
	impersonator types.NamespacedName
	first        *unit
	count        int
}

// unitsFor reuses what another member has, if the same grants are behind it.
func (m passMemo) unitsFor(k unitKey, contributors []*expanded, by subject.Path) []*unit {
	key := unitsKey{k, by, contributors[0], len(contributors)}
	for _, s := range m.units[key] {
		if slices.Equal(s.contributors, contributors) {
			return s.units
		}
	}
	units := buildUnits(k, contributors, by)
	m.units[key] = append(m.units[key], sharedUnits{contributors, units})
	return units
}

func (m passMemo) work(member *fleet.Member, p shard) workState {
	key := workKey{p.name, member.Impersonator, p.units[0], len(p.units)}
	for _, w := range m.works[key] {
		if slices.Equal(w.units, p.units) {
			return w
		}
	}
	w := workState{units: p.units, work: newWork(member, p)}
	m.works[key] = append(m.works[key], w)
	return w
}

func newWork(m *fleet.Member, p shard) *Work {
	w := &Work{Name: p.name}
	for _, u := range p.units {
		w.Objects = append(w.Objects, u.objects...)
	}
	w.Objects = impersonator(m, p, w.Objects)
	slices.SortFunc(w.Objects, compareObjects)
	by := ownersOf(contributorsOf(p.units))
	w.Grants, w.Sources = by.keys, by.sources
	return w
}
