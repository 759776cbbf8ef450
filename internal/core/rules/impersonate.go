package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// OnBehalf is what an impersonator must be allowed so that people whom it
// impersonates in Kubernetes' constrained mode (KEP-5284) can do what the rules
// say: the same rules under the verbs impersonate-on:user-info:VERB. The star is
// spelled out, since RBAC has no wildcard within a verb.
func OnBehalf(in []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	out := make([]rbacv1.PolicyRule, 0, len(in))
	for _, r := range in {
		star := resourceVerbs
		if len(r.NonResourceURLs) > 0 {
			star = nonResourceVerbs
		}
		r.Verbs = onBehalf(r.Verbs, star)
		if len(r.Verbs) > 0 {
			out = append(out, r)
		}
	}
	return out
}

const onUserInfo = "impersonate-on:user-info:"

var (
	resourceVerbs    = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	nonResourceVerbs = []string{"delete", "get", "head", "options", "patch", "post", "put"}
)

func onBehalf(verbs, star []string) []string {
	var out []string
	for _, v := range verbs {
		if v == rbacv1.VerbAll {
			out = append(out, star...)
			continue
		}
		// A verb that is itself about impersonation is never passed on.
		if !strings.HasPrefix(v, "impersonate") {
			out = append(out, v)
		}
	}
	out = canonical(out)
	for i := range out {
		out[i] = onUserInfo + out[i]
	}
	return out
}

// Everyone is what every authenticated identity may do on a cluster by
// Kubernetes' own default roles system:discovery, system:basic-user and
// system:public-info-viewer. Clients such as kubectl cannot work without it.
func Everyone() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}},
		{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
		{Verbs: []string{"get"}, NonResourceURLs: []string{"/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"}},
	}
}

// Impersonate allows impersonating exactly the names, in the mode that every
// Kubernetes has. Nil for no names.
func Impersonate(resource string, names []string) []rbacv1.PolicyRule {
	if len(names) == 0 {
		return nil
	}
	return []rbacv1.PolicyRule{{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: names}}
}

// ImpersonateMembers allows impersonating, in constrained mode, whoever the hub
// says is a member of the groups, as a member of these groups and no others.
//
// RBAC cannot say "alice if she is in payments", and only the hub knows who is.
// Constrained mode makes it safe: what the impersonator may then do is bounded by
// OnBehalf, so that it has no power which the grants do not give to somebody.
// Members older than Kubernetes 1.36 ignore these verbs, which refuses.
func ImpersonateMembers(groups []string) []rbacv1.PolicyRule {
	if len(groups) == 0 {
		return nil
	}
	return []rbacv1.PolicyRule{
		{Verbs: []string{asUserInfo}, APIGroups: []string{authentication}, Resources: []string{"groups"}, ResourceNames: groups},
		{Verbs: []string{asUserInfo}, APIGroups: []string{authentication}, Resources: []string{"users"}},
	}
}

const (
	authentication = "authentication.k8s.io"
	asUserInfo     = "impersonate:user-info"
)

// ExtraKeys are the keys that Kubernetes' own authenticators put into the extra of
// an identity, sorted: of a client certificate the first, of a token of a service
// account all. They say which credential it was. An impersonator may present these,
// and others only where they are named.
func ExtraKeys() []string {
	const prefix = "authentication.kubernetes.io/"
	return []string{prefix + "credential-id", prefix + "node-name", prefix + "node-uid", prefix + "pod-name", prefix + "pod-uid"}
}

// CheckExtraKey says why a key cannot be one more of those that are presented: members
// read keys in lower case, from the name of a header, and RBAC names them.
func CheckExtraKey(key string) error {
	switch {
	case key == "":
		return errors.New("a key of extra is empty")
	case key != strings.ToLower(key):
		return fmt.Errorf("the key of extra %q is not in lower case, in which members read keys", key)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' }):
		return fmt.Errorf("the key of extra %q has a star, white space, or what is not ASCII", key)
	}
	return nil
}

// ImpersonateCredentials allows presenting the UID and extra of those whom
// Impersonate names, the extra by ExtraKeys and more of them. By themselves they are
// nobody, and RBAC gives nothing to them. Their values are many and change, so none is
// named.
func ImpersonateCredentials(more []string) []rbacv1.PolicyRule {
	return credentials("impersonate", more)
}

// ImpersonateMembersCredentials is the same for ImpersonateMembers.
func ImpersonateMembersCredentials(more []string) []rbacv1.PolicyRule {
	return credentials(asUserInfo, more)
}

func credentials(verb string, more []string) []rbacv1.PolicyRule {
	keys := slices.Concat(ExtraKeys(), more)
	slices.Sort(keys)
	resources := []string{"uids"}
	for _, key := range slices.Compact(keys) {
		resources = append(resources, "userextras/"+key)
	}
	return []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{authentication}, Resources: resources}}
}
