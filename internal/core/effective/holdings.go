package effective

import (
	"math/bits"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// clusterSet is a set of clusters by their index into the fleet.
type clusterSet []uint64

func setOf(clusters []int) clusterSet {
	if len(clusters) == 0 {
		return nil
	}
	s := make(clusterSet, clusters[len(clusters)-1]/64+1) // they are sorted
	for _, i := range clusters {
		s[i/64] |= 1 << (i % 64)
	}
	return s
}

func (s clusterSet) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

// each calls with the clusters in order.
func (s clusterSet) each(f func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// holding is an active grant as its subjects hold it. It is immutable, and one
// address for one compile.Given.
type holding struct {
	grant    *Grant
	given    *compile.Given
	clusters clusterSet
	ends     time.Time // zero for never
}

func (h *holding) activeAt(at time.Time) bool { return h.ends.IsZero() || at.Before(h.ends) }

func newHolding(g *compile.Given) *holding {
	h := &holding{given: g, clusters: setOf(g.Clusters), ends: g.Ends}
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

// scoped is a role that a holding gives in one scope.
type scoped struct {
	*holding
	role  string // as Because has it
	known bool
	rules []rbacv1.PolicyRule
}

// holdings of one subject. It is immutable.
type holdings struct {
	all []*holding // sorted by key
	// in lists what is held by namespace; "" is cluster-wide.
	in map[string]*scope
}

// scope is what one subject holds in one namespace of members.
type scope struct {
	all []scoped
	// on lists it by cluster, where there is so much of it that looking at all would
	// take longer than looking up; nil otherwise.
	on map[int][]scoped
}

// many is how much is looked at rather than looked up.
const many = 16

// at is what may be held on a cluster: some of it need not be on that one.
func (s *scope) at(cluster int) []scoped {
	switch {
	case s == nil:
		return nil
	case s.on != nil:
		return s.on[cluster]
	}
	return s.all
}

// newHoldings of a subject: what it is given, sorted by key.
func newHoldings(all []*holding) *holdings {
	h := &holdings{all: all, in: map[string]*scope{}}
	for _, g := range all {
		for i := range g.given.Access {
			a := &g.given.Access[i]
			in := h.in[a.Namespace]
			if in == nil {
				in = &scope{}
				h.in[a.Namespace] = in
			}
			in.all = append(in.all, scoped{holding: g, role: roleName(a), known: a.Known, rules: a.Rules})
		}
	}
	for _, in := range h.in {
		if len(in.all) > many {
			in.on = map[int][]scoped{}
			for _, s := range in.all {
				s.clusters.each(func(i int) { in.on[i] = append(in.on[i], s) })
			}
		}
	}
	return h
}

func roleName(a *compile.ScopedRole) string {
	if a.Kind == "" {
		return "rules"
	}
	return a.Kind + " " + a.Name
}

// shards of what subjects hold. A change copies the shards that it reaches and shares
// the others with the index before it.
type shards [256]map[subject.Subject]*holdings

// shardOf is stable within a process; it only has to spread.
func shardOf(s subject.Subject) uint8 {
	h := uint32(2166136261)
	for i := range len(s.Name) {
		h = (h ^ uint32(s.Name[i])) * 16777619
	}
	return uint8(h ^ h>>8 ^ h>>16 ^ uint32(s.Kind))
}

func (s *shards) get(sub subject.Subject) *holdings { return s[shardOf(sub)][sub] }

func compareHoldings(a, b *holding) int { return strings.Compare(a.given.Key(), b.given.Key()) }

// without and with change a sorted list by making another.
func without(list []*holding, h *holding) []*holding {
	if i, ok := slices.BinarySearchFunc(list, h, compareHoldings); ok && list[i] == h {
		return slices.Concat(list[:i], list[i+1:])
	}
	return list
}

func with(list []*holding, h *holding) []*holding {
	i, _ := slices.BinarySearchFunc(list, h, compareHoldings)
	return slices.Concat(list[:i], []*holding{h}, list[i:])
}
