package ceiling

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// maxComparisons bounds what one input costs: how often one combination of verb,
// group, resource and name is compared with one rule. A few hundred bytes of YAML
// make millions of combinations. What is within a single rule of the ceiling is
// decided without going through them.
const maxComparisons = 1 << 16

// demand is a rule that a grant gives, which has to be covered.
type demand struct {
	rule rbacv1.PolicyRule
	// spelled: only by rules that spell its verbs out.
	spelled bool
	// diagonal has every verb, group, resource, name and path of the rule at least
	// once. Because a single rule covers combinations if and only if it covers each
	// part of them, it covers the rule if and only if it covers the diagonal.
	diagonal []rbacv1.PolicyRule
	// combinations that the rule has.
	combinations int
}

type demandsKey struct{}

// demands of each entry of the access, which are the same for all ceilings.
func demands(in *guardrail.Input) [][]demand {
	return in.Memo(demandsKey{}, func() any {
		out := make([][]demand, len(in.Access))
		for i, a := range in.Access {
			for _, r := range a.Rules {
				out[i] = append(out[i], demandsOf(r)...)
			}
		}
		return out
	}).([][]demand)
}

func demandsOf(r rbacv1.PolicyRule) (out []demand) {
	var plain, special []string
	for _, v := range r.Verbs {
		if isSpecial(v) {
			special = append(special, v)
		} else {
			plain = append(plain, v)
		}
	}
	add := func(r rbacv1.PolicyRule, verbs []string, spelled bool) {
		if len(verbs) > 0 {
			r.Verbs = verbs
			out = append(out, newDemand(r, spelled))
		}
	}
	add(r, plain, false)
	add(r, special, true)
	if slices.Contains(r.Verbs, rbacv1.VerbAll) {
		for _, implied := range impliedBy(r) {
			add(implied, implied.Verbs, true)
		}
	}
	return out
}

func newDemand(r rbacv1.PolicyRule, spelled bool) demand {
	d := demand{rule: r, spelled: spelled, combinations: len(r.Verbs) * (len(r.APIGroups)*len(r.Resources)*max(1, len(r.ResourceNames)) + len(r.NonResourceURLs))}
	one := func(list []string, i int) []string {
		if len(list) == 0 {
			return nil
		}
		i %= len(list)
		return list[i : i+1]
	}
	// A rule is of resources or of paths. One that is of both is none that RBAC
	// accepts, and is compared as two.
	if n := max(len(r.APIGroups), len(r.Resources)); n > 0 {
		for i := range max(n, len(r.Verbs), len(r.ResourceNames)) {
			d.diagonal = append(d.diagonal, rbacv1.PolicyRule{
				Verbs: one(r.Verbs, i), APIGroups: one(r.APIGroups, i), Resources: one(r.Resources, i), ResourceNames: one(r.ResourceNames, i),
			})
		}
	}
	if n := len(r.NonResourceURLs); n > 0 {
		for i := range max(n, len(r.Verbs)) {
			d.diagonal = append(d.diagonal, rbacv1.PolicyRule{Verbs: one(r.Verbs, i), NonResourceURLs: one(r.NonResourceURLs, i)})
		}
	}
	return d
}

// uncovered are the combinations that none of the owner's rules covers. It is
// false if there are too many to tell.
func (d *demand) uncovered(owner []rbacv1.PolicyRule, left *int) (missing []rbacv1.PolicyRule, ok bool) {
	var near []rbacv1.PolicyRule
	for i := range owner {
		if !overlap(&owner[i], &d.rule) {
			continue // Fewer rules cover less: what is left out by mistake refuses.
		}
		if covered, _ := validation.Covers(owner[i:i+1], d.diagonal); covered {
			return nil, true
		}
		near = append(near, owner[i])
	}
	if *left -= d.combinations * (1 + len(near)); *left < 0 {
		return nil, false
	}
	_, missing = validation.Covers(near, []rbacv1.PolicyRule{d.rule})
	return missing, true
}

// overlap reports whether an owner's rule can cover anything of another.
func overlap(owner, r *rbacv1.PolicyRule) bool {
	return share(owner.Verbs, r.Verbs) && (share(owner.APIGroups, r.APIGroups) || len(owner.NonResourceURLs) > 0 && len(r.NonResourceURLs) > 0)
}

// share reports whether two lists have an item in common, or the first a star.
func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return s == "*" || slices.Contains(b, s) })
}

const (
	escalate    = "escalate"
	bind        = "bind"
	impersonate = "impersonate"
)

// isSpecial verbs have to be spelled out.
func isSpecial(verb string) bool {
	return verb == escalate || verb == bind || verb == impersonate ||
		strings.HasPrefix(verb, impersonate+":") || strings.HasPrefix(verb, impersonate+"-on:")
}

// spelled is what rules say of special verbs.
func spelled(rules []rbacv1.PolicyRule) (out []rbacv1.PolicyRule) {
	for _, r := range rules {
		r.Verbs = slices.DeleteFunc(slices.Clone(r.Verbs), func(v string) bool { return !isSpecial(v) })
		if len(r.Verbs) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// meanings of the special verbs: where an API server asks for them.
var meanings = []struct {
	verbs     []string
	group     string
	resources []string
}{
	{[]string{bind, escalate}, rbacv1.GroupName, []string{"clusterroles", "roles"}},
	{[]string{impersonate}, "", []string{"groups", "serviceaccounts", "users"}},
	{[]string{impersonate}, "authentication.k8s.io", []string{"groups", "nodes", "serviceaccounts", "uids", userExtras + "*", "users"}},
}

// userExtras are impersonated as userextras/KEY.
const userExtras = "userextras/"

// impliedBy are the rules with special verbs that a rule with the verb * also
// gives.
func impliedBy(r rbacv1.PolicyRule) (out []rbacv1.PolicyRule) {
	for _, m := range meanings {
		if !slices.Contains(r.APIGroups, m.group) && !slices.Contains(r.APIGroups, rbacv1.APIGroupAll) {
			continue
		}
		var resources []string
		for _, known := range m.resources {
			for _, given := range r.Resources {
				if narrowed, ok := narrow(given, known); ok {
					resources = append(resources, narrowed)
				}
			}
		}
		if len(resources) > 0 {
			slices.Sort(resources)
			out = append(out, rbacv1.PolicyRule{
				Verbs: m.verbs, APIGroups: []string{m.group}, Resources: slices.Compact(resources), ResourceNames: r.ResourceNames,
			})
		}
	}
	return out
}

// narrow a resource of a rule to what it has of a known one.
func narrow(given, known string) (string, bool) {
	switch {
	case given == known || given == rbacv1.ResourceAll:
		return known, true
	case known != userExtras+"*":
		return "", false
	case strings.HasPrefix(given, userExtras):
		return given, true
	case strings.HasPrefix(given, "*/"):
		return userExtras + strings.TrimPrefix(given, "*/"), true
	}
	return "", false
}
