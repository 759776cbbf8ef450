package effective

import (
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

// Opens is the first grant, by namespace and name, for which the hub has to allow a user
// the verb on clusters/proxy of a cluster; nil if no active grant needs it. It is what the
// hub's ClusterRoles say that the compiler makes.
func (ix *Index) Opens(u *guardrail.User, cluster, verb string, at time.Time) *Grant {
	held := ix.holds(u, at)
	i, ok := 0, false
	if held != nil {
		i, ok = ix.fleet.Index(cluster)
	}
	if !ok {
		return nil
	}
	for _, h := range held[i] {
		for k := range h.given.Access {
			verbs := rules.AllVerbs
			if a := &h.given.Access[k]; a.Known {
				verbs = rules.HubVerbs(a.Rules)
			}
			if slices.Contains(verbs.Strings(), verb) {
				return h.grant
			}
		}
	}
	return nil
}
