package effective

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Reach is a cluster that a user may reach, and by which grants.
type Reach struct {
	Cluster string
	Grants  []*Grant // sorted by namespace and name
}

// Reaches are the clusters, sorted by name, on which a user has any active grant at
// the instant, with these grants. Guardrails on requests have no part in it.
func (ix *Index) Reaches(u *guardrail.User, at time.Time) []Reach {
	var out []Reach
	for i, held := range ix.holds(u, at) {
		if len(held) == 0 {
			continue
		}
		r := Reach{Cluster: ix.fleet.Members()[i].Name, Grants: make([]*Grant, len(held))}
		for j, h := range held {
			r.Grants[j] = h.grant
		}
		out = append(out, r)
	}
	return out // members are sorted by name
}

// holds is what a user holds on each cluster of the fleet at an instant: sorted, each
// grant once.
func (ix *Index) holds(u *guardrail.User, at time.Time) [][]*holding {
	if ix == nil || u.Name == "" || slices.Contains(u.Groups, "") {
		return nil
	}
	var all []*holding
	ix.each(u, func(h *holdings) {
		for _, e := range h.all.held {
			if e.activeAt(at) {
				all = append(all, e.holding)
			}
		}
	})
	slices.SortFunc(all, compareHoldings)
	out := make([][]*holding, ix.fleet.Len())
	for _, h := range slices.Compact(all) {
		for _, i := range h.given.Clusters {
			if ix.fleet.Members()[i].Accepted {
				out[i] = append(out[i], h)
			}
		}
	}
	return out
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
	if !ok || !ix.fleet.Members()[i].Accepted {
		return nil
	}
	holds := func(s subject.Subject) (found bool) {
		if h := ix.held.of(s); h != nil {
			h.all.each(i, at, func(entry) { found = true })
		}
		return found
	}
	var out []string
	for _, g := range u.Groups {
		// A compiler that gave one of the refused something would be wrong; S7.
		if s := (subject.Subject{Kind: subject.Group, Name: g}); s.Refusal() == "" && holds(s) {
			out = append(out, g)
		}
	}
	if name, ok := strings.CutPrefix(u.Name, accountPrefix); ok {
		if account := subjectOf(subject.ServiceAccount, name); holds(account) {
			for _, g := range account.ImpliedGroups() {
				if slices.Contains(u.Groups, g) {
					out = append(out, g)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// names of clusters by their indexes.
func (ix *Index) names(clusters []int) []string {
	out := make([]string, len(clusters))
	for i, c := range clusters {
		out[i] = ix.fleet.Members()[c].Name
	}
	return out
}
