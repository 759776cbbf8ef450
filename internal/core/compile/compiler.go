package compile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Compiler compiles successive snapshots, each time only what a change can
// reach. What it returns is what Grants returns for the same snapshot. The zero
// Compiler is ready for use, by one goroutine at a time.
type Compiler struct {
	fleet   *fleet.Fleet
	catalog *catalog
	// clusters as guardrails see them, by index, each made when it is asked for.
	clusters []*guardrail.Cluster

	// grants of the last snapshot, by key, and in the order in which it had them.
	grants map[string]*compiled
	order  []*compiled
	// results of the grants, sorted by key.
	results []Result
	// members are what is on each, by index into the fleet.
	members []memberState
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
	// alone is what the grant would give if nobody judged it.
	alone *expanded
	judged
	*expanded
}

// Grants compiles a snapshot. It keeps references to the specs in it, of grants
// and of roles, and relies on their not being changed: what is changed comes with
// another spec. Maps and lists of the snapshot may be used again.
func (c *Compiler) Grants(s Snapshot) Output {
	c.follow(&s)
	reached := c.update(&s)

	memo := passMemo{units: map[unitsKey][]sharedUnits{}, works: map[workKey][]workState{}}
	for i, keys := range reached.members {
		c.members[i].compile(&c.fleet.Members()[i], keys, memo)
	}
	c.compileSubjects(reached.subjects)
	return c.output()
}

// follow the fleet and the roles. Where one of them is not what it was, everything
// is compiled anew: each can reach every grant.
func (c *Compiler) follow(s *Snapshot) {
	if c.grants != nil && (c.fleet == s.Fleet || c.fleet.Equal(s.Fleet)) && maps.Equal(c.catalog.specs, s.Roles) {
		if c.fleet != s.Fleet && !c.fleet.SameClaims(s.Fleet) {
			// Guardrails may look at them, and at nothing that was said of others.
			c.clusters = make([]*guardrail.Cluster, s.Fleet.Len())
			for _, g := range c.order {
				g.judged = judged{}
			}
		}
		c.fleet = s.Fleet
		return
	}
	*c = Compiler{
		fleet: s.Fleet, catalog: newCatalog(s.Roles), clusters: make([]*guardrail.Cluster, s.Fleet.Len()),
		grants:    make(map[string]*compiled, len(s.Grants)),
		members:   make([]memberState, s.Fleet.Len()),
		bySubject: map[subject.Subject][]*expanded{}, hub: map[subject.Subject][]*Object{},
	}
}

// reach of a change: what has to be compiled again on members, by index, and for
// subjects.
type reach struct {
	members  map[int]map[unitKey]struct{}
	subjects map[subject.Subject]struct{}
}

func (r reach) add(e *expanded) {
	keys := slices.Collect(e.unitKeys())
	for _, i := range e.clusters {
		if r.members[i] == nil {
			r.members[i] = make(map[unitKey]struct{}, len(keys))
		}
		for _, k := range keys {
			r.members[i][k] = struct{}{}
		}
	}
	for _, sub := range e.subjects {
		r.subjects[sub] = struct{}{}
	}
}

// update expands what changed.
func (c *Compiler) update(s *Snapshot) reach {
	r := reach{map[int]map[unitKey]struct{}{}, map[subject.Subject]struct{}{}}
	fresh := len(c.grants) == 0
	if c.sameGrants(s) {
		c.results = slices.Clone(c.results) // the last output keeps its own
		for i, old := range c.order {
			if now := c.renew(old, &s.Grants[i], s); now != old {
				if now.expanded != old.expanded {
					c.replace(old, now, r)
				}
				c.order[i], c.grants[now.key] = now, now
				at, _ := slices.BinarySearchFunc(c.results, now.key, func(r Result, k string) int { return strings.Compare(r.Grant, k) })
				c.results[at] = now.outcome()
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
		c.results = append(c.results, now.outcome())
		switch {
		case fresh:
			c.append(now.expanded)
			r.add(now.expanded)
		case old == nil || now.expanded != old.expanded:
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
	stands := old != nil && old.stands(g, decided, s.Now)
	labels := s.Namespaces[g.Namespace]
	sameNamespace := stands && maps.Equal(old.labels, labels) && (old.labels == nil) == (labels == nil)
	if sameNamespace && old.holds(s) {
		return old
	}
	now := &compiled{}
	var answers guardrail.Answers
	if stands {
		*now = *old
		if sameNamespace {
			answers = old.answers
		}
	} else {
		now.grant, now.decided = *g, slices.Clone(decided)
		now.grant.HeldOn = slices.Clone(g.HeldOn)
		now.alone = expand(g, c.catalog, s)
	}
	now.judged = c.judge(g, now.alone, s, answers)
	now.expanded = now.alone.after(&now.judged, g, c.catalog, s)
	if old != nil && old.same(now.expanded) {
		now.expanded = old.expanded // what is made of it need not be made again
	}
	return now
}

// after the judgement, what is left of a grant.
func (e *expanded) after(j *judged, g *Grant, c *catalog, s *Snapshot) *expanded {
	left := *e
	switch j.judgement.Verdict {
	case guardrail.Allowed:
	case guardrail.Undecided:
		if len(left.clusters) > 0 {
			var st *Standing
			if s.Standing != nil {
				st = s.Standing(g.Key())
			}
			left.keepFromWidening(st, c, s)
		}
	default:
		left.clusters = nil
	}
	left.result.Clusters = nil
	for _, i := range left.clusters {
		left.result.Clusters = append(left.result.Clusters, s.Fleet.Members()[i].Name)
	}
	return &left
}

// same reports whether two grants give the same in the same name. Within one
// Compiler, roles of one address are the same.
func (e *expanded) same(o *expanded) bool {
	return e.key == o.key && e.source == o.source && e.verbs == o.verbs && e.next.Equal(o.next) && e.result.Phase == o.result.Phase &&
		slices.Equal(e.clusters, o.clusters) && slices.Equal(e.gives, o.gives) && slices.Equal(e.subjects, o.subjects) &&
		slices.Equal(e.result.Rejections, o.result.Rejections)
}

// outcome for the grant.
func (c *compiled) outcome() Result {
	r := c.result
	r.Judgement = c.judgement
	return r
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
	return c.grant.Spec == g.Spec && c.grant.Source == g.Source && c.grant.Held == g.Held && sameOrigin(c.grant.Origin, g.Origin) &&
		maps.Equal(c.grant.Labels, g.Labels) && maps.Equal(c.grant.Annotations, g.Annotations) &&
		slices.Equal(c.grant.HeldOn, g.HeldOn) && slices.Equal(c.decided, decided) &&
		(c.decided == nil) == (decided == nil) && c.phaseAt(now) == c.alone.result.Phase
}

func sameOrigin(a, b *guardrail.Source) bool {
	return a == b || a != nil && b != nil && *a == *b
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

// insert a grant, at its place, wherever it gives something. Lists are replaced and
// not changed, since units keep them.
func (c *Compiler) insert(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded {
		i, _ := slices.BinarySearchFunc(list, e, compareKeys)
		return slices.Concat(list[:i], []*expanded{e}, list[i:])
	})
}

// append is insert for a caller that sorts before anything keeps the lists.
func (c *Compiler) append(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded { return append(list, e) })
}

func (c *Compiler) drop(e *expanded) {
	c.everywhere(e, func(list []*expanded) []*expanded {
		if i, ok := slices.BinarySearchFunc(list, e, compareKeys); ok {
			return slices.Concat(list[:i], list[i+1:])
		}
		return list
	})
}

func (c *Compiler) everywhere(e *expanded, change func([]*expanded) []*expanded) {
	if len(e.clusters) == 0 { // it gives nothing anywhere
		return
	}
	keys := slices.Collect(e.unitKeys())
	for _, i := range e.clusters {
		if c.members[i].asked == nil {
			c.members[i].asked = map[unitKey][]*expanded{}
		}
		for _, k := range keys {
			c.members[i].asked[k] = change(c.members[i].asked[k])
		}
	}
	for _, sub := range e.subjects {
		c.bySubject[sub] = change(c.bySubject[sub])
	}
}

func (c *Compiler) sort() {
	for i := range c.members {
		for _, list := range c.members[i].asked {
			slices.SortFunc(list, compareKeys)
		}
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
		out.Next = earlier(out.Next, earlier(g.expanded.next, g.judged.next()))
	}
	return out
}
