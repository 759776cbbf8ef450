package compile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Compiler compiles successive snapshots, each time only what a change can
// reach. What it returns is what Grants returns for the same snapshot. The zero
// Compiler is ready for use, by one goroutine at a time.
type Compiler struct {
	fleet   *fleet.Fleet
	catalog *catalog

	// grants of the last snapshot, by key, and in the order in which it had them.
	grants map[string]*compiled
	order  []*compiled
	// results of the grants, sorted by key.
	results []Result
	// onMember lists, by index into the fleet, who gives something there.
	onMember [][]*expanded
	members  []memberState
	// bySubject lists who gives something to each subject.
	bySubject map[subject.Subject][]*expanded
	hub       map[subject.Subject][]*Object
	subjects  []subject.Subject // the keys of hub, sorted
}

// compiled is a grant as it was last seen, and what it expanded to.
type compiled struct {
	grant Grant
	// decided are the clusters of the grant's Placement.
	decided []string
	*expanded
}

// memberState is what a member held at the last snapshot.
type memberState struct {
	units map[unitKey][]*unit
	works map[string]workState
	out   []*Work
}

type workState struct {
	units []*unit
	work  *Work
}

// Grants compiles a snapshot. It keeps references to the specs in it, of grants
// and of roles, and relies on their not being changed: what is changed comes with
// another spec. Maps and lists of the snapshot may be used again.
func (c *Compiler) Grants(s Snapshot) Output {
	c.follow(&s)
	reached := c.update(&s)

	memo := passMemo{units: map[unitsKey][]sharedUnits{}, works: map[workKey][]workState{}}
	for i := range reached.members {
		c.compileMember(i, memo)
	}
	c.compileSubjects(reached.subjects)
	return c.output()
}

// follow the fleet and the roles. Where one of them is not what it was, everything
// is compiled anew: each can reach every grant.
func (c *Compiler) follow(s *Snapshot) {
	if c.grants != nil && (c.fleet == s.Fleet || c.fleet.Equal(s.Fleet)) && maps.Equal(c.catalog.specs, s.Roles) {
		return
	}
	*c = Compiler{
		fleet: s.Fleet, catalog: newCatalog(s.Roles),
		grants:   make(map[string]*compiled, len(s.Grants)),
		onMember: make([][]*expanded, s.Fleet.Len()), members: make([]memberState, s.Fleet.Len()),
		bySubject: map[subject.Subject][]*expanded{}, hub: map[subject.Subject][]*Object{},
	}
}

// reach of a change: the members, by index, and the subjects to compile again.
type reach struct {
	members  map[int]struct{}
	subjects map[subject.Subject]struct{}
}

func (r reach) add(e *expanded) {
	for _, i := range e.clusters {
		r.members[i] = struct{}{}
	}
	for _, sub := range e.subjects {
		r.subjects[sub] = struct{}{}
	}
}

// update expands what changed.
func (c *Compiler) update(s *Snapshot) reach {
	r := reach{map[int]struct{}{}, map[subject.Subject]struct{}{}}
	fresh := len(c.grants) == 0
	if c.sameGrants(s) {
		c.results = slices.Clone(c.results) // the last output keeps its own
		for i, old := range c.order {
			if now := c.renew(old, &s.Grants[i], s); now != old {
				c.replace(old, now, r)
				c.order[i], c.grants[now.key] = now, now
				at, _ := slices.BinarySearchFunc(c.results, now.key, func(r Result, k string) int { return strings.Compare(r.Grant, k) })
				c.results[at] = now.result
			}
		}
		return r
	}
	before := c.grants
	c.grants = make(map[string]*compiled, len(s.Grants))
	c.order = make([]*compiled, 0, len(s.Grants))
	c.results = make([]Result, 0, len(s.Grants))
	for i := range s.Grants {
		g := &s.Grants[i]
		key := g.Key()
		if _, twice := c.grants[key]; twice {
			continue
		}
		old := before[key]
		delete(before, key)
		now := c.renew(old, g, s)
		c.grants[key] = now
		c.order = append(c.order, now)
		c.results = append(c.results, now.result)
		switch {
		case fresh:
			c.append(now.expanded)
			r.add(now.expanded)
		case now != old:
			c.replace(old, now, r)
		}
	}
	for _, gone := range before {
		c.drop(gone.expanded)
		r.add(gone.expanded)
	}
	if fresh {
		c.sort()
	}
	slices.SortFunc(c.results, func(a, b Result) int { return strings.Compare(a.Grant, b.Grant) })
	return r
}

// sameGrants reports whether the snapshot has the grants of the last one, in the
// same order, whatever is in them.
func (c *Compiler) sameGrants(s *Snapshot) bool {
	return len(c.order) > 0 && slices.EqualFunc(c.order, s.Grants, func(a *compiled, b Grant) bool {
		return a.grant.Name == b.Name && a.grant.Namespace == b.Namespace
	})
}

// renew is old where the grant still means what it did, else the grant expanded
// anew.
func (c *Compiler) renew(old *compiled, g *Grant, s *Snapshot) *compiled {
	decided := s.decided(g)
	if old != nil && old.stands(g, decided, s.Now) {
		return old
	}
	now := &compiled{grant: *g, decided: slices.Clone(decided), expanded: expand(g, c.catalog, s)}
	now.grant.HeldOn = slices.Clone(g.HeldOn)
	return now
}

// replace a grant that may not have been there by another.
func (c *Compiler) replace(old, now *compiled, r reach) {
	if old != nil {
		c.drop(old.expanded)
		r.add(old.expanded)
	}
	c.insert(now.expanded)
	r.add(now.expanded)
}

// stands reports whether a grant would expand to what it did.
func (c *compiled) stands(g *Grant, decided []string, now time.Time) bool {
	return c.grant.Spec == g.Spec && c.grant.Source == g.Source && c.grant.Held == g.Held &&
		slices.Equal(c.grant.HeldOn, g.HeldOn) && slices.Equal(c.decided, decided) &&
		(c.decided == nil) == (decided == nil) && c.phaseAt(now) == c.result.Phase
}

// decided are the clusters of the grant's Placement; nil where it has none or it
// has not decided.
func (s *Snapshot) decided(g *Grant) []string {
	ref := g.Spec.Clusters.PlacementRef
	if ref == nil {
		return nil
	}
	return s.Placements[types.NamespacedName{Namespace: g.Namespace, Name: ref.Name}]
}

func (c *compiled) phaseAt(now time.Time) Phase {
	p, _ := phase(c.grant.Spec.Validity, now)
	return p
}

func compareKeys(a, b *expanded) int { return strings.Compare(a.key, b.key) }

// insert a grant, at its place, wherever it gives something.
func (c *Compiler) insert(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded {
		i, _ := slices.BinarySearchFunc(list, e, compareKeys)
		return slices.Insert(list, i, e)
	})
}

// append is insert for a caller that sorts afterwards.
func (c *Compiler) append(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded { return append(list, e) })
}

func (c *Compiler) drop(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded {
		if i, ok := slices.BinarySearchFunc(list, e, compareKeys); ok {
			return slices.Delete(list, i, i+1)
		}
		return list
	})
}

func (c *Compiler) everywhere(e *expanded, change func([]*expanded) []*expanded) {
	if len(e.clusters) == 0 { // it gives nothing anywhere
		return
	}
	for _, i := range e.clusters {
		c.onMember[i] = change(c.onMember[i])
	}
	for _, sub := range e.subjects {
		c.bySubject[sub] = change(c.bySubject[sub])
	}
}

func (c *Compiler) sort() {
	for _, list := range c.onMember {
		slices.SortFunc(list, compareKeys)
	}
	for _, list := range c.bySubject {
		slices.SortFunc(list, compareKeys)
	}
}

func (c *Compiler) compileSubjects(reached map[subject.Subject]struct{}) {
	for sub := range reached {
		contributors := c.bySubject[sub]
		if len(contributors) == 0 {
			delete(c.bySubject, sub)
		}
		if objects := hubObjects(sub, contributors, c.fleet); objects != nil {
			c.hub[sub] = objects
		} else {
			delete(c.hub, sub)
		}
	}
	if len(reached) > len(c.hub)/16 {
		c.subjects = slices.SortedFunc(maps.Keys(c.hub), subject.Compare)
		return
	}
	for sub := range reached {
		at, listed := slices.BinarySearchFunc(c.subjects, sub, subject.Compare)
		switch _, wanted := c.hub[sub]; {
		case wanted && !listed:
			c.subjects = slices.Insert(c.subjects, at, sub)
		case !wanted && listed:
			c.subjects = slices.Delete(c.subjects, at, at+1)
		}
	}
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

func (c *Compiler) compileMember(i int, memo passMemo) {
	member, state := &c.fleet.Members()[i], &c.members[i]

	asked := make(map[unitKey][]*expanded, len(state.units))
	for _, e := range c.onMember[i] {
		var last *role
		for _, g := range e.gives { // sorted by role
			if g.role != last && !g.role.opaque() {
				k := unitKey{role: g.role, what: roleUnit}
				asked[k] = append(asked[k], e)
			}
			last = g.role
			k := unitKey{role: g.role, what: g.namespace}
			asked[k] = append(asked[k], e)
		}
	}
	units := make(map[unitKey][]*unit, len(asked))
	flat := make([]*unit, 0, len(asked))
	for k, contributors := range asked {
		units[k] = memo.unitsFor(k, contributors, member.Paths, state.units[k])
		flat = append(flat, units[k]...)
	}
	slices.SortFunc(flat, compareUnits)

	parts := shards(flat)
	works := make(map[string]workState, len(parts))
	out := make([]*Work, 0, len(parts))
	for _, p := range parts {
		w, ok := state.works[p.name]
		if !ok || !slices.Equal(w.units, p.units) {
			w = memo.work(member, p)
		}
		works[p.name] = w
		out = append(out, w.work)
	}
	slices.SortFunc(out, func(a, b *Work) int { return strings.Compare(a.Name, b.Name) })
	*state = memberState{units: units, works: works, out: out}
}

// unitsFor reuses what this member had, or what another member has, if the same
// grants are behind it.
func (m passMemo) unitsFor(k unitKey, contributors []*expanded, by subject.Path, before []*unit) []*unit {
	if len(before) == 1 && slices.Equal(before[0].contributors, contributors) {
		return before
	}
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

func (c *Compiler) output() Output {
	out := Output{Hub: make([]*Object, 0, 2*len(c.subjects)), Results: c.results}
	for _, sub := range c.subjects {
		out.Hub = append(out.Hub, c.hub[sub]...)
	}
	for i := range c.members {
		if works := c.members[i].out; len(works) > 0 {
			out.Members = append(out.Members, Member{Name: c.fleet.Members()[i].Name, Works: works})
		}
	}
	for _, g := range c.order {
		if !g.next.IsZero() && (out.Next.IsZero() || g.next.Before(out.Next)) {
			out.Next = g.next
		}
	}
	return out
}
