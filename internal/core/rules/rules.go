// Package rules derives what follows from RBAC policy rules: the verbs that the
// hub must allow, and what an impersonator must be allowed to do on behalf of
// others.
package rules

import (
	"cmp"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Verbs is a set of verbs on clusters/proxy at the hub. The order of the bits is
// the order of Strings.
type Verbs uint8

// The verbs that a request to clusters/NAME/proxy can have. The hub's API server
// makes them from the HTTP method, so that there are no others: never list,
// watch or deletecollection, since the request names a cluster.
const (
	Create Verbs = 1 << iota
	Delete
	Get
	Patch
	Update

	// AllVerbs is what a role whose rules the hub cannot see may need.
	AllVerbs = Create | Delete | Get | Patch | Update
)

var verbNames = [...]string{"create", "delete", "get", "patch", "update"}

// Strings lists the verbs in order of the alphabet.
func (v Verbs) Strings() []string {
	var out []string
	for i, name := range verbNames {
		if v&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// VerbOf is the set of one such verb. It is empty for any other, of which there are no
// requests.
func VerbOf(name string) Verbs {
	if i := slices.Index(verbNames[:], name); i >= 0 {
		return 1 << i
	}
	return 0
}

// HubVerbs are the verbs on clusters/proxy without which requests that the rules
// allow on a member could not reach it. Verbs that no request carries, such as
// bind, escalate and impersonate, need none.
func HubVerbs(rules []rbacv1.PolicyRule) Verbs {
	var v Verbs
	for i := range rules {
		nonResource := len(rules[i].NonResourceURLs) > 0
		for _, verb := range rules[i].Verbs {
			v |= hubVerb(verb, nonResource)
		}
	}
	return v
}

func hubVerb(verb string, nonResource bool) Verbs {
	switch verb {
	case rbacv1.VerbAll:
		return AllVerbs
	case "get":
		return Get
	case "patch":
		return Patch
	case "delete":
		return Delete
	}
	if nonResource { // HTTP methods in lower case
		switch verb {
		case "head":
			return Get
		case "post":
			return Create
		case "put":
			return Update
		}
		return 0
	}
	switch verb {
	case "list", "watch":
		return Get
	case "create":
		return Create
	case "update":
		return Update
	case "deletecollection":
		return Delete
	}
	return 0
}

// Of converts the rules of a grant or role to RBAC's type, each list sorted and
// without repetition, the rules too: rules that mean the same in the same words
// become identical.
func Of(in []v1alpha1.PolicyRule) []rbacv1.PolicyRule {
	out := make([]rbacv1.PolicyRule, 0, len(in))
	for _, r := range in {
		out = append(out, rbacv1.PolicyRule{
			Verbs:           canonical(r.Verbs),
			APIGroups:       canonical(r.APIGroups),
			Resources:       canonical(r.Resources),
			ResourceNames:   canonical(r.ResourceNames),
			NonResourceURLs: canonical(r.NonResourceURLs),
		})
	}
	slices.SortFunc(out, Compare)
	return slices.CompactFunc(out, func(a, b rbacv1.PolicyRule) bool { return Compare(a, b) == 0 })
}

func canonical(in []string) []string {
	if len(in) == 0 {
		return nil
	}
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// Compare orders rules by what they are about, then by their verbs.
func Compare(a, b rbacv1.PolicyRule) int {
	return cmp.Or(
		slices.Compare(a.APIGroups, b.APIGroups),
		slices.Compare(a.Resources, b.Resources),
		slices.Compare(a.NonResourceURLs, b.NonResourceURLs),
		slices.Compare(a.ResourceNames, b.ResourceNames),
		slices.Compare(a.Verbs, b.Verbs),
	)
}

// NonResource reports whether any rule has nonResourceURLs.
func NonResource(rules []rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return len(r.NonResourceURLs) > 0 })
}

// Problem says what is wrong with a rule that RBAC would refuse or read in a way
// that nobody means, or "".
func Problem(in []v1alpha1.PolicyRule) string {
	for _, r := range in {
		switch {
		case len(r.Verbs) == 0:
			return "a rule has no verbs"
		case len(r.Resources) == 0 && len(r.NonResourceURLs) == 0:
			return "a rule has neither resources nor nonResourceURLs"
		case len(r.Resources) > 0 && len(r.NonResourceURLs) > 0:
			return "a rule has both resources and nonResourceURLs"
		case len(r.Resources) > 0 && len(r.APIGroups) == 0:
			return "a rule has resources and no apiGroups"
		case len(r.NonResourceURLs) > 0 && len(r.APIGroups)+len(r.ResourceNames) > 0:
			return "a rule has nonResourceURLs with apiGroups or resourceNames"
		case slices.Contains(r.Verbs, ""):
			return "a rule has an empty verb"
		}
	}
	return ""
}
