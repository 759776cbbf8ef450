package rbac

import (
	"math/rand/v2"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// indexOf what is compiled for the member.
func (w *world) index() *effective.Index {
	var b effective.Builder
	return b.Build(compile.Snapshot{
		Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Point: guardrail.Compile, Grants: w.grants, Roles: w.roles, Fleet: fleet.New(members), Now: noon,
	})
}

// to is the request of the member's API server, as the gateway decides on it.
func to(m string, i identity, r authorizer.AttributesRecord) *effective.Request {
	who := i.info()
	return &effective.Request{
		User: guardrail.User{Name: who.GetName(), Groups: who.GetGroups()}, Cluster: m, Verb: r.Verb, ResourceRequest: r.ResourceRequest,
		APIGroup: r.APIGroup, APIVersion: r.APIVersion, Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name, Path: r.Path, At: noon,
	}
}

// known reports whether a grant is known to give what was asked for by what it says.
func known(d effective.Decision) bool {
	return slices.ContainsFunc(d.Because, func(b effective.Because) bool { return b.Rule >= 0 && b.Role != "discovery" })
}

// TestIndexIsTheMembersRBAC: S15, S17, S18. On every member, for everybody and every
// request of the grid, the index decides as Kubernetes' RBAC authorizer does over the
// objects that the same grants compile to. What roles of the member give only the
// member knows: there the index says so.
func TestIndexIsTheMembersRBAC(t *testing.T) {
	grid := requests()
	answers := map[effective.Verdict]int{}
	for n := range uint64(worlds) {
		w := newWorld(rand.New(rand.NewPCG(n, 3)))
		ix, o := w.index(), w.compiled()
		for _, m := range members {
			var compiled, held cluster
			compiled.apply(t, objectsOn(o, m.Name))
			held.apply(t, objectsOn(o, m.Name))
			// What is bound to roles that are there and say nothing.
			compiled.clusterRoles = append(compiled.clusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
			ours, all := compiled.authorizer(), memberHolds(&held).authorizer()
			for _, i := range identities {
				seen := onMember(i, m)
				by := func(a authorizer.Authorizer, r authorizer.AttributesRecord) bool {
					return slices.ContainsFunc(seen, func(s identity) bool { return allows(t, a, s.info(), r) })
				}
				for _, r := range grid {
					d := ix.Decide(to(m.Name, i, r))
					if want := by(ours, r); known(d) != want {
						t.Fatalf("world %d, member %s, %s %q: %s: %s because %v, RBAC says %t", n, m.Name, i.name, i.groups, asked(r), d.Verdict, d.Because, want)
					}
					if by(all, r) && d.Verdict != effective.Allowed && d.Verdict != effective.OnMember {
						t.Fatalf("world %d, member %s, %s %q: %s: %s, and the member allows it", n, m.Name, i.name, i.groups, asked(r), d.Verdict)
					}
					answers[d.Verdict]++
				}
			}
		}
	}
	t.Logf("%d requests are allowed, of %d the member knows, and %d are not granted", answers[effective.Allowed], answers[effective.OnMember], answers[effective.NotGranted])
	if answers[effective.Allowed] < answers[effective.NotGranted]/100 || answers[effective.OnMember] == 0 {
		t.Error("hardly anything is allowed: the worlds show nothing")
	}
}

// indexed compiles one rule for alice on one member and decides.
func indexed(t *testing.T, rule v1alpha1.PolicyRule, namespaces []v1alpha1.NamespaceName) func(authorizer.AttributesRecord) bool {
	t.Helper()
	w := &world{grants: []compile.Grant{{Namespace: "t", Name: "g", Spec: &v1alpha1.AccessGrantSpec{
		Reason: "test", Subjects: []v1alpha1.Subject{{Kind: "User", Name: "alice"}},
		Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"gateway"}},
		Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{rule}, Namespaces: namespaces}},
	}}}}
	ix := w.index()
	return func(r authorizer.AttributesRecord) bool { return known(ix.Decide(to("gateway", identities[1], r))) }
}

// TestIndexIsRuleAllows is the exhaustive grid: rules of one verb, group, resource and
// name against requests of one, in every combination of what is alike, with Kubernetes'
// own RuleAllows (S17, S18).
func TestIndexIsRuleAllows(t *testing.T) {
	verbs := []string{"get", "list", "*", "gett"}
	groups := []string{"", "apps", "app", "apps.example.org", "Apps", "*"}
	resources := []string{"pods", "pods/exec", "pods/log", "pods/*", "*/exec", "*/*", "*", "pods/", "/exec", "pods/exec/x", "*/", "pod", "deployments"}
	names := [][]string{nil, {"web"}, {"*"}}
	var grid []authorizer.AttributesRecord
	for _, verb := range append(verbs, "") {
		for _, group := range groups {
			for _, res := range []string{"pods", "pod", "deployments", "*", ""} {
				for _, sub := range []string{"", "exec", "log", "*", "exec/x"} {
					for _, name := range []string{"", "web", "*"} {
						for _, ns := range []string{"", "a", "b"} {
							grid = append(grid, resource(verb, group, res, sub, ns, name))
						}
					}
				}
			}
		}
		for _, p := range []string{"/metrics", "/metrics/", "/metrics/x", "/metricsx", "/", "", "*", "/met"} {
			grid = append(grid, path(verb, p))
		}
	}
	compare := func(rule v1alpha1.PolicyRule) {
		t.Helper()
		raw := &rbacv1.PolicyRule{Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames, NonResourceURLs: rule.NonResourceURLs}
		everywhere := indexed(t, rule, nil)
		inA := func(authorizer.AttributesRecord) bool { return false }
		if len(rule.NonResourceURLs) == 0 {
			inA = indexed(t, rule, []v1alpha1.NamespaceName{"a"})
		}
		for _, r := range grid {
			want := rbac.RuleAllows(r, raw)
			if got := everywhere(r); got != want {
				t.Fatalf("%v: %s: allowed %t, RuleAllows says %t", rule, asked(r), got, want)
			}
			scoped := want && r.ResourceRequest && r.Namespace == "a"
			if got := inA(r); got != scoped {
				t.Fatalf("%v in namespace a: %s: allowed %t, RuleAllows says %t", rule, asked(r), got, scoped)
			}
		}
	}
	for _, verb := range verbs {
		for _, group := range groups {
			for _, res := range resources {
				for _, name := range names {
					compare(v1alpha1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{res}, ResourceNames: name})
				}
			}
		}
		for _, p := range []string{"/metrics", "/metrics/*", "/met*", "*", "/", "/metrics**", "/*/x", "**"} {
			compare(v1alpha1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{p}})
		}
	}
}
