package effective

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// allows is Kubernetes' RuleAllows (plugin/pkg/auth/authorizer/rbac): test/rbac
// compares the two.
func allows(r *rbacv1.PolicyRule, q *Request) bool {
	if !has(r.Verbs, q.Verb, rbacv1.VerbAll) {
		return false
	}
	if !q.ResourceRequest {
		return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return matchesURL(url, q.Path) })
	}
	return has(r.APIGroups, q.APIGroup, rbacv1.APIGroupAll) && matchesResource(r.Resources, q) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, q.Name))
}

func has(list []string, want, all string) bool {
	for _, s := range list {
		if s == want || s == all {
			return true
		}
	}
	return false
}

// matchesResource: a subresource is a resource of its own, and only the rule
// "*/SUBRESOURCE" gives it on all.
func matchesResource(resources []string, q *Request) bool {
	for _, r := range resources {
		switch {
		case r == rbacv1.ResourceAll:
			return true
		case q.Subresource == "":
			if r == q.Resource {
				return true
			}
		case isJoined(r, q.Resource, q.Subresource), isJoined(r, rbacv1.ResourceAll, q.Subresource):
			return true
		}
	}
	return false
}

// isJoined reports whether s is RESOURCE/SUBRESOURCE, without making that.
func isJoined(s, resource, subresource string) bool {
	return len(s) == len(resource)+1+len(subresource) && s[len(resource)] == '/' &&
		strings.HasPrefix(s, resource) && strings.HasSuffix(s, subresource)
}

func matchesURL(url, path string) bool {
	if url == rbacv1.NonResourceAll || url == path {
		return true
	}
	return strings.HasSuffix(url, "*") && strings.HasPrefix(path, strings.TrimRight(url, "*"))
}
