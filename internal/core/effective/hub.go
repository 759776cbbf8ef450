package effective

import (
	"slices"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// ThroughHub decides on a request to the hub itself, of which Cluster says nothing. It is
// Allowed where it is for clusters/proxy of a member, by a verb that a grant needs there:
// exactly where the compiler makes RBAC on the hub that allows it. Everything else is
// NotGranted.
//
// What is asked of the member is not known to the hub, and so guardrails on requests have
// no part in it: they are for whoever stands between hub and member.
func (ix *Index) ThroughHub(q *Request) Decision {
	if ix == nil || ix.policy == nil {
		return refusedBy("snapshot", "what is granted is not known yet")
	}
	d := Decision{Verdict: NotGranted, Snapshot: ix.number, Policy: ix.digest}
	need := rules.VerbOf(q.Verb)
	i, known := ix.fleet.Index(q.Name)
	if !known || need == 0 || !q.ResourceRequest || q.Resource != "clusters" || q.Subresource != "proxy" || q.User.Name == "" || slices.Contains(q.User.Groups, "") {
		return d
	}
	if m := &ix.fleet.Members()[i]; !m.Accepted || !slices.Contains(compile.HubGroups(m.Paths.Has(subject.Karmada)), q.APIGroup) {
		return d
	}
	ix.each(&q.User, func(h *holdings) {
		h.all.each(i, q.At, func(e entry) {
			if hubVerbs(e.given)&need == 0 {
				return
			}
			d.Because = append(d.Because, Because{Grant: e.grant, Role: throughHub, Rule: -1})
			if ends := e.grant.NotAfter; ends != nil {
				d.Until = earlier(d.Until, *ends)
			}
		})
	})
	if len(d.Because) > 0 {
		d.Verdict = Allowed
	}
	slices.SortFunc(d.Because, compareBecause)
	d.Because = slices.CompactFunc(d.Because, func(a, b Because) bool { return a.Grant == b.Grant })
	return d
}

// throughHub is the role by which a grant gives the way to a member.
const throughHub = "clusters/proxy"

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
