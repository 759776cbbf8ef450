package compile

import (
	"maps"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

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
	c     Compiler
	given map[string]effect // by key of the grant
}

// effect of a grant, and what it was told of.
type effect struct {
	of *compiled
	*Given
}

// Of the grants of a snapshot, sorted by key, and the earliest instant at which time
// alone changes them; zero if it never does. As with Compiler.Grants, specs are kept
// and not to be changed.
func (e *Effects) Of(s Snapshot) ([]*Given, time.Time) {
	e.c.follow(&s)
	if len(e.c.grants) == 0 { // everything is new
		e.given = make(map[string]effect, len(s.Grants))
	}
	before := e.given
	e.given = make(map[string]effect, len(s.Grants))
	grants := make(map[string]*compiled, len(s.Grants))
	order := make([]*compiled, 0, len(s.Grants)) // follow has them judged anew where claims changed
	out := make([]*Given, 0, len(s.Grants))
	var next time.Time
	for i := range s.Grants {
		g := &s.Grants[i]
		key := g.Key()
		if _, twice := grants[key]; twice {
			continue
		}
		now := e.c.renew(e.c.grants[key], g, &s)
		grants[key] = now
		order = append(order, now)
		known := before[key]
		if known.of != now {
			given := now.given(g)
			if known.Given == nil || !known.means(given) {
				known.Given = given
			}
			known.of = now
		}
		e.given[key] = known
		out = append(out, known.Given)
		next = earlier(next, earlier(now.expanded.next, now.judged.next()))
	}
	e.c.grants, e.c.order = grants, order
	slices.SortFunc(out, func(a, b *Given) int { return strings.Compare(a.Key(), b.Key()) })
	return out, next
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
