package compile

import (
	"cmp"
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// The API groups whose clusters/proxy opens a way to members.
const (
	gatewayGroup = "proxy.sallyport.dev"
	karmadaGroup = "cluster.karmada.io"
)

// HubGroups are those for one cluster, by whether Karmada's proxy leads there.
func HubGroups(karmada bool) []string {
	if karmada {
		return []string{karmadaGroup, gatewayGroup}
	}
	return []string{gatewayGroup}
}

// way is what the hub must allow for one cluster. Clusters with the same way
// share a rule.
type way struct {
	karmada bool
	verbs   rules.Verbs
}

// hubObjects are the role and the binding of one subject: the verbs that its
// grants need on clusters/proxy, always with the names of the clusters. None if
// it needs nothing.
func hubObjects(s subject.Subject, contributors []*expanded, f *fleet.Fleet) []*Object {
	verbs := map[int]rules.Verbs{}
	for _, e := range contributors {
		for _, i := range e.clusters {
			verbs[i] |= e.verbs
		}
	}
	ways := map[way][]string{}
	for _, i := range slices.Sorted(maps.Keys(verbs)) { // by index is by name
		if m := &f.Members()[i]; verbs[i] != 0 {
			w := way{karmada: m.Paths.Has(subject.Karmada), verbs: verbs[i]}
			ways[w] = append(ways[w], m.Name)
		}
	}
	if len(ways) == 0 {
		return nil
	}
	sortedWays := slices.SortedFunc(maps.Keys(ways), func(a, b way) int {
		return cmp.Or(cmp.Compare(a.verbs, b.verbs), cmp.Compare(ways[a][0], ways[b][0]))
	})
	policy := make([]rbacv1.PolicyRule, 0, len(ways))
	for _, w := range sortedWays {
		policy = append(policy, rbacv1.PolicyRule{
			Verbs: w.verbs.Strings(), APIGroups: HubGroups(w.karmada), Resources: []string{"clusters/proxy"}, ResourceNames: ways[w],
		})
	}
	by := ownersOf(contributors)
	name := hubName(s)
	role := clusterRole(name, policy, by)
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	return []*Object{role, bindingIn("", name, ref, []rbacv1.Subject{s.RBAC()}, by)}
}

func hubName(s subject.Subject) string {
	switch s.Kind {
	case subject.ServiceAccount:
		return objectName("hub:serviceaccount", s.Namespace+":"+s.Name)
	case subject.Group:
		return objectName("hub:group", s.Name)
	default:
		return objectName("hub:user", s.Name)
	}
}

// HubRules are the rules that a controller must hold on the hub to hand them on:
// Kubernetes lets nobody give what they do not have.
func HubRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		Verbs: rules.AllVerbs.Strings(), APIGroups: []string{karmadaGroup, gatewayGroup}, Resources: []string{"clusters/proxy"},
	}}
}
