package snapshot

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// openings are the clusters that the hub lets anybody through to because of a grant,
// by the label of the grant.
//
// The controller knows by its carriers what stands where. Who only decides on requests
// does not read those, which are large and many, and takes the hub's own ClusterRoles
// for them. These are few: one for each subject. They say no less, since the hub is
// opened before a member is and cut before it too. They may say more, since a role has
// the clusters of all grants of its subject. So of a grant that is held, or cannot be
// judged, no more is left than it selects today, and the member, where nothing stands
// that was never delivered, has the last word. A cluster that a held grant does not
// select any more is lost to requests through the gateway while it is held.
type openings map[string][]string

func openingsOf(roles []rbacv1.ClusterRole) openings {
	out := openings{}
	for i := range roles {
		role := &roles[i]
		if !strings.HasPrefix(role.Name, compile.HubPrefix) || !role.DeletionTimestamp.IsZero() {
			continue
		}
		var clusters []string
		for j := range role.Rules {
			if slices.Contains(role.Rules[j].Resources, "clusters/proxy") {
				clusters = append(clusters, role.Rules[j].ResourceNames...)
			}
		}
		for label := range role.Labels {
			if strings.HasPrefix(label, v1alpha1.GrantLabelPrefix) {
				out[label] = append(out[label], clusters...)
			}
		}
	}
	for label := range out {
		slices.Sort(out[label])
		out[label] = slices.Compact(out[label])
	}
	return out
}

// of the grant with that key: the clusters, sorted.
func (o openings) of(key string) []string { return o[compile.GrantLabel(key)] }

// within are those of one sorted list that another one has.
func within(a, b []string) []string {
	var out []string
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); ok {
			out = append(out, x)
		}
	}
	return out
}
