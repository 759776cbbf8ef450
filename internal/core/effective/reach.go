package effective

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Reaches are the clusters, sorted by name, on which a user has any active grant at
// the instant, with these grants. Guardrails on requests have no part in it.
func (ix *Index) Reaches(u *guardrail.User, at time.Time) []Reach {
	if ix == nil || u.Name == "" {
		return nil
	}
	on := make([][]*Grant, ix.fleet.Len())
	ix.each(u, func(h *holdings) {
		if h == nil {
			return
		}
		for _, g := range h.all {
			if g.activeAt(at) {
				g.clusters.each(func(i int) { on[i] = append(on[i], g.grant) })
			}
		}
	})
	var out []Reach
	for i, grants := range on { // members are sorted by name
		if m := &ix.fleet.Members()[i]; len(grants) > 0 && m.Accepted {
			out = append(out, Reach{Cluster: m.Name, Grants: sortedGrants(grants)})
		}
	}
	return out
}

// sortedGrants sorts in place, each once.
func sortedGrants(grants []*Grant) []*Grant {
	slices.SortFunc(grants, func(a, b *Grant) int { return strings.Compare(a.Key(), b.Key()) })
	return slices.Compact(grants)
}

// Groups of a user that any grant active at the instant names on the cluster: the only
// ones that are told to the member. The groups that Kubernetes itself adds to a service
// account are among them where a grant names the account. Sorted; system:masters and
// system:nodes never.
func (ix *Index) Groups(u *guardrail.User, cluster string, at time.Time) []string {
	if ix == nil {
		return nil
	}
	i, ok := ix.fleet.Index(cluster)
	if !ok {
		return nil
	}
	var out []string
	holds := func(s subject.Subject) bool {
		h := ix.held.get(s)
		return h != nil && slices.ContainsFunc(h.all, func(g *holding) bool { return g.clusters.has(i) && g.activeAt(at) })
	}
	for _, g := range u.Groups {
		if s := (subject.Subject{Kind: subject.Group, Name: g}); s.Refusal() == "" && holds(s) {
			out = append(out, g)
		}
	}
	if account, ok := accountOf(u.Name); ok && holds(account) {
		for _, g := range account.ImpliedGroups() {
			if slices.Contains(u.Groups, g) {
				out = append(out, g)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
