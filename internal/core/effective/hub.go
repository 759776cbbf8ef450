package effective

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// ThroughHub are the grants, active at the instant, for which the hub has to let a user
// use clusters/proxy of a cluster in an API group with a verb: exactly those for which
// the compiler makes RBAC there that does. Sorted by namespace and name.
//
// What is asked of the member is not known to the hub, and so guardrails on requests have
// no part in it: they are for whoever stands between hub and member.
func (ix *Index) ThroughHub(u *guardrail.User, apiGroup, cluster, verb string, at time.Time) []*Grant {
	need := rules.VerbOf(verb)
	if ix == nil || need == 0 || u.Name == "" || slices.Contains(u.Groups, "") {
		return nil
	}
	i, ok := ix.fleet.Index(cluster)
	if !ok {
		return nil
	}
	if m := &ix.fleet.Members()[i]; !m.Accepted || !slices.Contains(compile.HubGroups(m.Paths.Has(subject.Karmada)), apiGroup) {
		return nil
	}
	var out []*Grant
	ix.each(u, func(h *holdings) {
		h.all.each(i, at, func(e entry) {
			if hubVerbs(e.given)&need != 0 {
				out = append(out, e.grant)
			}
		})
	})
	slices.SortFunc(out, func(a, b *Grant) int { return strings.Compare(a.Key(), b.Key()) })
	return slices.Compact(out)
}

// hubVerbs that a grant needs on clusters/proxy.
func hubVerbs(g *compile.Given) (v rules.Verbs) {
	for i := range g.Access {
		if !g.Access[i].Known {
			return rules.AllVerbs
		}
		v |= rules.HubVerbs(g.Access[i].Rules)
	}
	return v
}
