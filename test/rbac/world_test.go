package rbac

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

var impersonator = types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}

// The fleet has a member per combination of paths that matters.
var members = []fleet.Member{
	{Name: "gateway", Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway, Labels: map[string]string{"env": "prod"}},
	{Name: "karmada", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada, Impersonator: impersonator, Labels: map[string]string{"env": "prod"}},
	{Name: "proxy", Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.ClusterProxy, Labels: map[string]string{"env": "dev"}},
	{Name: "through", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway | subject.Impersonated, Impersonator: impersonator, Labels: map[string]string{"env": "prod"}},
	{Name: "asked", Accepted: false, Delivery: fleet.ManifestWork, Paths: subject.Gateway | subject.Karmada, Impersonator: impersonator, Labels: map[string]string{"env": "prod"}},
}

// Roles that exist on every member, in namespace a and cluster-wide.
var (
	membersClusterRole = rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"delete"}, APIGroups: []string{""}, Resources: []string{"secrets"}}}}
	membersRole        = rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "a"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"deletecollection"}, APIGroups: []string{""}, Resources: []string{"secrets"}}}}
)

// The vocabulary: what grants may say, and what requests ask for.
var (
	subjects = []v1alpha1.Subject{
		{Kind: "User", Name: "alice"}, {Kind: "User", Name: "bob"}, {Kind: "Group", Name: "devs"}, {Kind: "Group", Name: "ops"},
		{Kind: "ServiceAccount", Namespace: "a", Name: "bot"}, {Kind: "ServiceAccount", Namespace: "b", Name: "bot"},
		{Kind: "Group", Name: "alice"}, {Kind: "User", Name: "devs"}, {Kind: "Group", Name: "system:serviceaccounts:b"},
		// What is refused.
		{Kind: "Group", Name: "system:masters"}, {Kind: "User", Name: "system:serviceaccount:a:bot"}, {Kind: "ServiceAccount", Name: "bot"},
	}
	verbs           = []string{"get", "list", "create", "delete", "deletecollection", "impersonate"}
	ruleVerbs       = append(slices.Clone(verbs), "*", "watch", "patch", "bind")
	groups          = []string{"", "apps", "apps.example.org"}
	ruleGroups      = append(slices.Clone(groups), "*")
	resources       = [][2]string{{"pods", ""}, {"pods", "exec"}, {"deployments", ""}, {"deployments", "exec"}, {"secrets", ""}, {"users", ""}}
	ruleResources   = []string{"pods", "pods/exec", "deployments", "*", "*/exec", "secrets", "users"}
	namespaces      = []string{"", "a", "b"}
	names           = []string{"", "web", "db"}
	paths           = []string{"/metrics", "/metrics/x", "/metricsx", "/version"}
	rulePaths       = []string{"/metrics", "/metrics/*", "*"}
	rulePathsVerbs  = []string{"get", "post", "*"}
	requestsToPaths = []string{"get", "post", "head"}
)

// identity is somebody, as the hub authenticates them.
type identity struct {
	name   string
	groups []string
	// serviceAccount is set for one of the hub.
	serviceAccount types.NamespacedName
}

func serviceAccount(namespace, name string) identity {
	return identity{
		name: "system:serviceaccount:" + namespace + ":" + name, groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace},
		serviceAccount: types.NamespacedName{Namespace: namespace, Name: name},
	}
}

var identities = []identity{
	{name: "alice", groups: []string{"devs"}},
	{name: "alice"},
	{name: "bob", groups: []string{"devs", "ops"}},
	{name: "carol", groups: []string{"ops"}},
	{name: "dave", groups: []string{"devs", "others"}},
	{name: "mallory"},
	{name: "devs"},
	{name: "ops", groups: []string{"alice"}},
	serviceAccount("a", "bot"), serviceAccount("b", "bot"), serviceAccount("c", "bot"),
}

// info is how a cluster sees the identity.
func (i identity) info() user.Info {
	return &user.DefaultInfo{Name: i.name, Groups: append(slices.Clone(i.groups), user.AllAuthenticated)}
}

// requests is the whole grid.
func requests() []authorizer.AttributesRecord {
	var out []authorizer.AttributesRecord
	for _, verb := range verbs {
		for _, group := range groups {
			for _, res := range resources {
				for _, namespace := range namespaces {
					for _, name := range names {
						out = append(out, resource(verb, group, res[0], res[1], namespace, name))
					}
				}
			}
		}
	}
	for _, verb := range requestsToPaths {
		for _, p := range paths {
			out = append(out, path(verb, p))
		}
	}
	return out
}

// world is a snapshot, and the straightforward reading of it.
type world struct {
	grants []compile.Grant
	roles  map[string]*v1alpha1.AccessRoleSpec
}

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

func some[T any](rnd *rand.Rand, upTo int, from []T) []T {
	var out []T
	for _, i := range rnd.Perm(len(from))[:1+rnd.IntN(upTo)] {
		out = append(out, from[i])
	}
	return out
}

func newWorld(rnd *rand.Rand) *world {
	w := &world{roles: map[string]*v1alpha1.AccessRoleSpec{"x": {Rules: someRules(rnd, true)}, "y": {Rules: someRules(rnd, false)}}}
	for i := range 1 + rnd.IntN(5) {
		w.grants = append(w.grants, someGrant(rnd, i))
	}
	return w
}

func someRules(rnd *rand.Rand, nonResource bool) []v1alpha1.PolicyRule {
	var out []v1alpha1.PolicyRule
	for range 1 + rnd.IntN(2) {
		if nonResource && rnd.IntN(4) == 0 {
			out = append(out, v1alpha1.PolicyRule{Verbs: some(rnd, 2, rulePathsVerbs), NonResourceURLs: some(rnd, 2, rulePaths)})
			continue
		}
		r := v1alpha1.PolicyRule{Verbs: some(rnd, 3, ruleVerbs), APIGroups: some(rnd, 2, ruleGroups), Resources: some(rnd, 2, ruleResources)}
		if rnd.IntN(3) == 0 {
			r.ResourceNames = some(rnd, 1, names[1:])
		}
		out = append(out, r)
	}
	return out
}

func someGrant(rnd *rand.Rand, i int) compile.Grant {
	spec := &v1alpha1.AccessGrantSpec{Reason: "test", Subjects: some(rnd, 3, subjects)}
	if rnd.IntN(3) == 0 {
		spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": pick(rnd, []string{"prod", "dev"})}}
	} else {
		for _, m := range some(rnd, 3, members) {
			spec.Clusters.Names = append(spec.Clusters.Names, v1alpha1.ClusterName(m.Name))
		}
	}
	for range 1 + rnd.IntN(3) {
		spec.Access = append(spec.Access, someEntry(rnd))
	}
	switch rnd.IntN(8) {
	case 0:
		spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon}}
	case 1:
		spec.Validity = &v1alpha1.Validity{NotBefore: &metav1.Time{Time: noon.Add(time.Second)}}
	case 2:
		spec.Validity = &v1alpha1.Validity{NotBefore: &metav1.Time{Time: noon}, NotAfter: &metav1.Time{Time: noon.Add(1)}}
	}
	return compile.Grant{Namespace: "t", Name: fmt.Sprint("g", i), Spec: spec}
}

func someEntry(rnd *rand.Rand) v1alpha1.AccessEntry {
	var e v1alpha1.AccessEntry
	switch rnd.IntN(6) {
	case 0:
		e.RoleRef = &v1alpha1.RoleReference{Kind: v1alpha1.ClusterRoleRef, Name: "x"}
	case 1:
		e.RoleRef = &v1alpha1.RoleReference{Kind: v1alpha1.RoleRef, Name: "x"}
	case 2:
		e.RoleRef = &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: pick(rnd, []string{"x", "y", "missing"})}
	default:
		e.Rules = someRules(rnd, rnd.IntN(2) == 0)
	}
	if rnd.IntN(2) == 0 {
		for _, ns := range some(rnd, 2, namespaces[1:]) {
			e.Namespaces = append(e.Namespaces, v1alpha1.NamespaceName(ns))
		}
	}
	return e
}

func (w *world) compiled() compile.Output {
	return compile.Grants(compile.Snapshot{Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Grants: w.grants, Roles: w.roles, Fleet: fleet.New(members), Now: noon})
}

// memberHolds adds the roles that were on the member before.
func memberHolds(c *cluster) *cluster {
	c.clusterRoles = append(c.clusterRoles, &membersClusterRole)
	c.roles = append(c.roles, &membersRole)
	return c
}

// What follows reads the grants as a person would, with no thought of bindings.

// give is one entry of a grant that holds on a cluster.
type give struct {
	subjects []v1alpha1.Subject
	rules    []rbacv1.PolicyRule
	// namespaces in which it holds; nil for everywhere.
	namespaces []string
	// ofMember: the rules are those of a role that exists on the member, which the
	// hub does not know.
	ofMember bool
}

// gives are the entries that hold on the member at noon.
func (w *world) gives(m fleet.Member) []give {
	var out []give
	for _, g := range w.grants {
		if !active(g.Spec.Validity) || !selects(g.Spec.Clusters, m) {
			continue
		}
		for _, e := range g.Spec.Access {
			if one, ok := w.give(e); ok {
				one.subjects = g.Spec.Subjects
				out = append(out, one)
			}
		}
	}
	return out
}

func active(v *v1alpha1.Validity) bool {
	return v == nil || (v.NotBefore == nil || !noon.Before(v.NotBefore.Time)) && (v.NotAfter == nil || noon.Before(v.NotAfter.Time))
}

func selects(c v1alpha1.ClusterSelection, m fleet.Member) bool {
	if !m.Accepted || m.Delivery == fleet.None {
		return false
	}
	return slices.Contains(c.Names, v1alpha1.ClusterName(m.Name)) || c.Selector != nil && c.Selector.MatchLabels["env"] == m.Labels["env"]
}

// give of an entry, unless it is one that cannot be.
func (w *world) give(e v1alpha1.AccessEntry) (give, bool) {
	var out give
	for _, ns := range e.Namespaces {
		out.namespaces = append(out.namespaces, string(ns))
	}
	rules := e.Rules
	if e.RoleRef != nil {
		switch e.RoleRef.Kind {
		case v1alpha1.ClusterRoleRef:
			out.ofMember, out.rules = true, membersClusterRole.Rules
			return out, true
		case v1alpha1.RoleRef:
			// It is in namespace a: bound elsewhere it gives nothing.
			out.ofMember, out.rules = true, membersRole.Rules
			bound := out.namespaces != nil
			out.namespaces = slices.DeleteFunc(out.namespaces, func(ns string) bool { return ns != "a" })
			return out, bound
		default:
			role, ok := w.roles[e.RoleRef.Name]
			if !ok {
				return out, false
			}
			rules = role.Rules
		}
	}
	for _, r := range rules {
		if len(r.NonResourceURLs) > 0 && out.namespaces != nil {
			return out, false
		}
		out.rules = append(out.rules, rbacv1.PolicyRule{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames, NonResourceURLs: r.NonResourceURLs})
	}
	return out, true
}

// covers reports whether the scope of the entry has the request in it.
func (g *give) covers(r authorizer.AttributesRecord) bool {
	return g.namespaces == nil || r.ResourceRequest && slices.Contains(g.namespaces, r.Namespace)
}

func (g *give) allows(r authorizer.AttributesRecord) bool {
	return g.covers(r) && rbac.RulesAllow(r, g.rules...)
}

func (g *give) to(i identity) bool { return slices.ContainsFunc(g.subjects, i.is) }

// is reports whether the subject of a grant means the identity.
func (i identity) is(s v1alpha1.Subject) bool {
	switch s.Kind {
	case "User":
		return s.Name == i.name && !strings.HasPrefix(s.Name, "system:")
	case "Group":
		return slices.Contains(i.groups, s.Name) && s.Name != "system:masters" && s.Name != "system:nodes"
	case "ServiceAccount":
		return s.Namespace != "" && i.serviceAccount == types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	}
	return false
}

// allowed is whether the grants let somebody do it on the member.
func allowed(gives []give, i identity, r authorizer.AttributesRecord) bool {
	return slices.ContainsFunc(gives, func(g give) bool { return g.to(i) && g.allows(r) })
}
