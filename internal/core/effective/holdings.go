package effective

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// holding is an active grant as its subjects hold it. It is immutable, and one
// address for one compile.Given.
type holding struct {
	grant *Grant
	given *compile.Given
	roles []string // of given.Access, as Because has them
}

func (h *holding) on(cluster int) bool {
	_, ok := slices.BinarySearch(h.given.Clusters, cluster)
	return ok
}

func (h *holding) activeAt(at time.Time) bool {
	return h.given.Ends.IsZero() || at.Before(h.given.Ends)
}

func compareHoldings(a, b *holding) int { return compile.CompareGiven(a.given, b.given) }

// gives reports whether there is anything to hold.
func (h *holding) gives() bool { return len(h.given.Clusters) > 0 && len(h.given.Access) > 0 }

func newHolding(g *compile.Given, names roleNames) *holding {
	h := &holding{given: g, roles: make([]string, len(g.Access))}
	for i := range g.Access {
		h.roles[i] = names.of(&g.Access[i])
	}
	h.grant = &Grant{
		GrantInfo: guardrail.GrantInfo{
			Namespace: g.Namespace, Name: g.Name, NamespaceLabels: g.NamespaceLabels, Labels: g.Labels, Reason: g.Reason,
		},
		Source: g.Source, Revision: g.Revision,
	}
	if !g.Ends.IsZero() {
		ends := g.Ends.UTC()
		h.grant.NotAfter = &ends
	}
	return h
}

// roleNames are the names of roles as Because has them: one of each, since many grants
// give the same roles.
type roleNames map[[2]string]string

func (n roleNames) of(r *compile.ScopedRole) string {
	if r.Kind == "" {
		return "rules"
	}
	key := [2]string{r.Kind, r.Name}
	if _, ok := n[key]; !ok {
		n[key] = r.Kind + " " + r.Name
	}
	return n[key]
}

// entry is one role of a holding in one scope.
type entry struct {
	*holding
	access int // index into given.Access
}

func (e entry) role() *compile.ScopedRole { return &e.given.Access[e.access] }

// scope is what one subject holds in one namespace of members. It is immutable.
type scope struct {
	namespace string
	held      []entry // sorted
	// narrow lists by cluster, as indexes into held, those that are on few clusters, and
	// wide the others: where there is so much of it that looking at all would take longer
	// than looking up. Both are nil otherwise.
	narrow map[int][]int32
	wide   []int32
}

const (
	// many is how much of a list is looked at rather than looked up.
	many = 16
	// few clusters are those that a grant may be listed under: an index must not be as
	// large as grants times clusters.
	few = 64
)

func newScope(namespace string, held []entry) scope {
	s := scope{namespace: namespace, held: held}
	if len(held) <= many {
		return s
	}
	s.narrow = map[int][]int32{}
	for i, e := range held {
		if len(e.given.Clusters) > few {
			s.wide = append(s.wide, int32(i))
			continue
		}
		for _, c := range e.given.Clusters {
			s.narrow[c] = append(s.narrow[c], int32(i))
		}
	}
	return s
}

// each calls with what is held on a cluster at an instant.
func (s *scope) each(cluster int, at time.Time, f func(e entry)) {
	if s == nil {
		return
	}
	if s.narrow == nil {
		for _, e := range s.held {
			if e.on(cluster) && e.activeAt(at) {
				f(e)
			}
		}
		return
	}
	for _, i := range s.narrow[cluster] {
		if e := s.held[i]; e.activeAt(at) {
			f(e)
		}
	}
	for _, i := range s.wide {
		if e := s.held[i]; e.on(cluster) && e.activeAt(at) {
			f(e)
		}
	}
}

// holdings of one subject. They are immutable; those of nobody are nil.
type holdings struct {
	// all has each grant once, by its first role.
	all scope
	// in has what is held by namespace, sorted; "" is cluster-wide.
	in []scope
}

// scope of a namespace; nil if nothing is held in it.
func (h *holdings) scope(namespace string) *scope {
	if len(h.in) <= many { // whether two texts are equal is told faster than their order
		for i := range h.in {
			if h.in[i].namespace == namespace {
				return &h.in[i]
			}
		}
		return nil
	}
	i, ok := slices.BinarySearchFunc(h.in, namespace, func(s scope, ns string) int { return strings.Compare(s.namespace, ns) })
	if !ok {
		return nil
	}
	return &h.in[i]
}

// after a change, what the subject holds; nil for nothing. What the change does not
// reach is shared.
func (h *holdings) after(gone map[*holding]bool, come []*holding) *holdings {
	if h == nil {
		h = &holdings{}
	}
	slices.SortFunc(come, compareHoldings)
	var all []entry
	in := map[string][]entry{} // of the namespaces that the change reaches, what comes
	for _, g := range come {
		all = append(all, entry{g, 0})
		for i := range g.given.Access {
			ns := g.given.Access[i].Namespace
			in[ns] = append(in[ns], entry{g, i})
		}
	}
	for _, e := range h.all.held {
		if !gone[e.holding] {
			continue
		}
		for i := range e.given.Access {
			reach(in, e.given.Access[i].Namespace)
		}
	}
	out := &holdings{all: h.all.after(gone, all)}
	if len(out.all.held) == 0 {
		return nil
	}
	for i := range h.in {
		s := h.in[i]
		if comes, reached := in[s.namespace]; reached {
			s = s.after(gone, comes)
			delete(in, s.namespace)
		}
		if len(s.held) > 0 {
			out.in = append(out.in, s)
		}
	}
	for ns, comes := range in {
		if len(comes) > 0 {
			out.in = append(out.in, newScope(ns, comes))
		}
	}
	slices.SortFunc(out.in, func(a, b scope) int { return strings.Compare(a.namespace, b.namespace) })
	return out
}

func (s *scope) after(gone map[*holding]bool, come []entry) scope {
	held := make([]entry, 0, len(s.held)+len(come))
	for _, e := range s.held {
		if gone[e.holding] {
			continue
		}
		for len(come) > 0 && compareHoldings(come[0].holding, e.holding) < 0 {
			held, come = append(held, come[0]), come[1:]
		}
		held = append(held, e)
	}
	return newScope(s.namespace, append(held, come...))
}

// table is what subjects hold, by kind and name. A change copies the shards that it
// reaches and shares the others with the table before it.
type table [subject.ServiceAccount + 1][256]map[string]*holdings

// nameIn a table is the name of a user or group, and of a service account what its user
// name has after the prefix: one text is hashed faster than three fields.
func nameIn(s subject.Subject) string {
	if s.Kind == subject.ServiceAccount {
		return s.Namespace + ":" + s.Name
	}
	return s.Name
}

// subjectOf that name.
func subjectOf(kind subject.Kind, name string) subject.Subject {
	if kind == subject.ServiceAccount {
		namespace, account, _ := strings.Cut(name, ":")
		return subject.Subject{Kind: kind, Namespace: namespace, Name: account}
	}
	return subject.Subject{Kind: kind, Name: name}
}

// shardOf only has to spread, and looks at some of the name.
func shardOf(name string) uint8 {
	h := uint32(len(name))
	for i, step := 0, len(name)/8+1; i < len(name); i += step {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint8(h ^ h>>8 ^ h>>16)
}

// get what a subject holds; nil for nothing.
func (t *table) get(kind subject.Kind, name string) *holdings { return t[kind][shardOf(name)][name] }

// of is get by the subject.
func (t *table) of(s subject.Subject) *holdings { return t.get(s.Kind, nameIn(s)) }
