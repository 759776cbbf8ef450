package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Given is what one grant gives: what is left of it after its phase, its rejections
// and its guardrails. It is immutable, and the same address for as long as it means
// the same.
type Given struct {
	Namespace, Name string
	// Reason and Labels of the grant, and the labels of its namespace.
	Reason                  string
	Labels, NamespaceLabels map[string]string
	// Source names what applied the grant, Revision the commit; empty if unknown.
	Source, Revision string
	Subjects         []subject.Subject // sorted
	Access           []ScopedRole
	// Clusters as indexes into the fleet, sorted; none if the grant gives nothing.
	Clusters []int
	// Ends is the first instant at which it gives nothing any more; zero for never.
	Ends time.Time
}

// Key is namespace/name.
func (g *Given) Key() string { return g.Namespace + "/" + g.Name }

// ScopedRole is a role in a namespace of the member, or cluster-wide.
type ScopedRole struct {
	// Kind is AccessRole, ClusterRole or Role; "" for rules in the grant itself, which
	// have no Name.
	Kind, Name string
	// Namespace on the member; empty for cluster-wide.
	Namespace string
	// Known is false for a ClusterRole or Role of the member, whose rules only the
	// member knows.
	Known bool
	Rules []rbacv1.PolicyRule
}

// Effects tells what each grant of successive snapshots gives, by the same functions
// as a Compiler and without making objects. The zero Effects is ready for use, by one
// goroutine at a time.
type Effects struct {
	c      Compiler
	grants map[types.NamespacedName]*effect
	sorted []*effect
	order  []*effect // in which the last snapshot had them
	pass   uint64
}

// effect of a grant.
type effect struct {
	name  types.NamespacedName
	given *Given
	of    *compiled // what given was told of
	next  time.Time // when time alone makes another of it
	pass  uint64    // the last that had the grant
}

// Of the grants of a snapshot, sorted by namespace and name, and the earliest instant
// at which time alone changes them; zero if it never does. As with Compiler.Grants,
// specs are kept and not to be changed. The list is not to be changed either.
//
// Grants come in any order, most often in that of the last snapshot, and most of them
// as they were: those that stand elsewhere are looked up, and nothing is sorted but
// what is new.
func (e *Effects) Of(s Snapshot) ([]*Given, time.Time) {
	e.c.follow(&s)
	if len(e.c.order) == 0 { // nothing is known of any
		e.c.grants, e.c.order = map[string]*compiled{}, make([]*compiled, 0, len(s.Grants))
		e.grants, e.sorted, e.order = make(map[types.NamespacedName]*effect, len(s.Grants)), nil, nil
	}
	e.pass++
	e.c.order = e.c.order[:0] // follow has them judged anew where claims changed
	last := e.order
	e.order = make([]*effect, 0, len(s.Grants))
	var come []*effect
	var next time.Time
	for i := range s.Grants {
		g := &s.Grants[i]
		name := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
		var known *effect
		if at := len(e.order); at < len(last) && last[at].name == name {
			known = last[at]
		} else {
			known = e.grants[name]
		}
		switch {
		case known == nil:
			known = &effect{name: name}
			e.grants[name] = known
			come = append(come, known)
		case known.pass == e.pass:
			continue // twice
		}
		e.order = append(e.order, known)
		known.pass = e.pass
		known.renew(e.c.renew(known.of, g, &s), g)
		e.c.order = append(e.c.order, known.of)
		next = earlier(next, known.next)
	}
	e.follow(come)
	out := make([]*Given, len(e.sorted))
	for i, known := range e.sorted {
		out[i] = known.given
	}
	return out, next
}

// renew what a grant gives. What means the same keeps its address.
func (e *effect) renew(now *compiled, g *Grant) {
	if e.of == now {
		return
	}
	if given := now.given(g); e.given == nil || !e.given.means(given) {
		e.given = given
	}
	e.of, e.next = now, earlier(now.expanded.next, now.judged.next())
}

// follow what came and what went.
func (e *Effects) follow(come []*effect) {
	if len(e.c.order) < len(e.sorted)+len(come) {
		left := make([]*effect, 0, len(e.c.order))
		for _, known := range e.sorted {
			if known.pass == e.pass {
				left = append(left, known)
			} else {
				delete(e.grants, known.name)
			}
		}
		e.sorted = left
	}
	if len(come) > 0 {
		slices.SortFunc(come, func(a, b *effect) int { return CompareGiven(a.given, b.given) })
		e.sorted = merged(e.sorted, come)
	}
}

// merged are two sorted lists as one.
func merged(a, b []*effect) []*effect {
	out := make([]*effect, 0, len(a)+len(b))
	for _, x := range b {
		i, _ := slices.BinarySearchFunc(a, x, func(a, b *effect) int { return CompareGiven(a.given, b.given) })
		out = append(append(out, a[:i]...), x)
		a = a[i:]
	}
	return append(out, a...)
}

// CompareGiven orders by namespace and name of the grant.
func CompareGiven(a, b *Given) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Cluster of that index into the fleet of the last snapshot, as guardrails see it.
func (e *Effects) Cluster(i int) *guardrail.Cluster { return e.c.cluster(i) }

func (c *compiled) given(g *Grant) *Given {
	out := &Given{
		Namespace: g.Namespace, Name: g.Name, Reason: g.Spec.Reason, Labels: Committed(g.Labels), NamespaceLabels: c.labels,
		Source: g.Source, Subjects: c.subjects, Clusters: c.clusters,
	}
	if g.Origin != nil {
		out.Revision = g.Origin.Revision
	}
	if c.result.Phase == Active {
		out.Ends = c.expanded.next
	}
	for _, give := range c.gives {
		out.Access = append(out.Access, give.scoped())
	}
	return out
}

func (g give) scoped() ScopedRole {
	kind, name, _ := strings.Cut(g.role.id, "/")
	if kind == "Rules" {
		kind, name = "", ""
	}
	return ScopedRole{Kind: kind, Name: name, Namespace: g.namespace, Known: !g.role.opaque(), Rules: g.role.rules}
}

// means reports whether two givens of one grant mean the same. Rules of one address
// are the same within one Effects.
func (g *Given) means(o *Given) bool {
	return g.Reason == o.Reason && g.Source == o.Source && g.Revision == o.Revision && g.Ends.Equal(o.Ends) &&
		sameLabels(g.Labels, o.Labels) && sameLabels(g.NamespaceLabels, o.NamespaceLabels) &&
		slices.Equal(g.Subjects, o.Subjects) && slices.Equal(g.Clusters, o.Clusters) &&
		slices.EqualFunc(g.Access, o.Access, func(a, b ScopedRole) bool {
			return a.Kind == b.Kind && a.Name == b.Name && a.Namespace == b.Namespace && sameRules(a.Rules, b.Rules)
		})
}

// sameRules of interned roles.
func sameRules(a, b []rbacv1.PolicyRule) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameLabels(a, b map[string]string) bool {
	return (a == nil) == (b == nil) && maps.Equal(a, b)
}
