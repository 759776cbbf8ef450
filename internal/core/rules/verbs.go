package rules

import rbacv1 "k8s.io/api/rbac/v1"

// Spelled are the verbs of a rule, with the verbs of requests in the place of a star.
// The list is not to be changed.
func Spelled(r *rbacv1.PolicyRule) []string {
	for _, v := range r.Verbs {
		if v != rbacv1.VerbAll {
			continue
		}
		if len(r.NonResourceURLs) > 0 {
			return nonResourceVerbs
		}
		return resourceVerbs
	}
	return r.Verbs
}
