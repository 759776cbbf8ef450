package rbac

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func compiledAlone(spec *v1alpha1.AccessGrantSpec) compile.Output {
	return compile.Grants(compile.Snapshot{Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Grants: []compile.Grant{{Namespace: "t", Name: "g", Spec: spec}}, Fleet: fleet.New(members), Now: noon})
}

// granted compiles one rule for alice on one member and asks there.
func granted(t *testing.T, rule v1alpha1.PolicyRule, namespaces []v1alpha1.NamespaceName) *rbac.RBACAuthorizer {
	t.Helper()
	spec := &v1alpha1.AccessGrantSpec{
		Reason: "test", Subjects: []v1alpha1.Subject{{Kind: "User", Name: "alice"}},
		Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"gateway"}},
		Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{rule}, Namespaces: namespaces}},
	}
	o := compiledAlone(spec)
	if r, _ := o.Result("t/g"); len(r.Rejections) > 0 {
		t.Fatalf("the grant is rejected: %v", r)
	}
	var held cluster
	held.apply(t, objectsOn(o, "gateway"))
	return held.authorizer()
}

// compareToRuleAllows asks about the whole grid and compares with Kubernetes' own
// reading of the rule.
func compareToRuleAllows(t *testing.T, rule v1alpha1.PolicyRule, grid []authorizer.AttributesRecord) {
	t.Helper()
	raw := &rbacv1.PolicyRule{Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames, NonResourceURLs: rule.NonResourceURLs}
	everywhere := granted(t, rule, nil)
	var inA *rbac.RBACAuthorizer
	if len(rule.NonResourceURLs) == 0 {
		inA = granted(t, rule, []v1alpha1.NamespaceName{"a"})
	}
	alice := identities[1].info()
	for _, r := range grid {
		want := rbac.RuleAllows(r, raw)
		if got := allows(t, everywhere, alice, r); got != want {
			t.Errorf("%v: %s: allowed %t, RuleAllows says %t", rule, asked(r), got, want)
		}
		if inA == nil {
			continue
		}
		if got, want := allows(t, inA, alice, r), want && r.Namespace == "a"; got != want {
			t.Errorf("%v in namespace a: %s: allowed %t, RuleAllows says %t", rule, asked(r), got, want)
		}
	}
}

// TestS17Groups: groups are exact. Those that look alike, that begin or end alike,
// the core group and the star are all told apart.
func TestS17Groups(t *testing.T) {
	all := []string{"", "apps", "app", "apps.example.org", "extensions.apps", "Apps", "*"}
	var grid []authorizer.AttributesRecord
	for _, g := range all {
		for _, ns := range []string{"", "a", "b"} {
			grid = append(grid, resource("get", g, "deployments", "", ns, "web"))
		}
	}
	for _, g := range all {
		t.Run("group "+g, func(t *testing.T) {
			compareToRuleAllows(t, v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{g}, Resources: []string{"deployments"}}, grid)
			compareToRuleAllows(t, v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"batch", g}, Resources: []string{"deployments"}}, grid)
		})
	}
}

// TestS18Subresources: a resource gives no subresource, a subresource no resource,
// and each spelling with a star is what Kubernetes reads it as.
func TestS18Subresources(t *testing.T) {
	var grid []authorizer.AttributesRecord
	for _, verb := range []string{"get", "list", "create"} {
		for _, group := range []string{"", "apps"} {
			for _, res := range []string{"pods", "pod", "deployments"} {
				for _, sub := range []string{"", "exec", "log", "*"} {
					for _, name := range []string{"", "web"} {
						for _, ns := range []string{"", "a", "b"} {
							grid = append(grid, resource(verb, group, res, sub, ns, name))
						}
					}
				}
			}
		}
	}
	for _, res := range []string{"pods", "pods/exec", "pods/log", "pods/*", "*/exec", "*/*", "*", "pods/", "/exec"} {
		t.Run(res, func(t *testing.T) {
			for _, verbs := range [][]string{{"get"}, {"create", "list"}, {"*"}} {
				for _, groups := range [][]string{{""}, {"apps"}, {"*"}} {
					for _, names := range [][]string{nil, {"web"}} {
						compareToRuleAllows(t, v1alpha1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: []string{res}, ResourceNames: names}, grid)
					}
				}
			}
		})
	}
}

// TestS18TheRowItself: pods does not give pods/exec.
func TestS18TheRowItself(t *testing.T) {
	a := granted(t, v1alpha1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"pods"}}, nil)
	if alice := identities[1].info(); allows(t, a, alice, resource("create", "", "pods", "exec", "a", "web")) || !allows(t, a, alice, resource("create", "", "pods", "", "a", "")) {
		t.Error("pods has to give pods and not pods/exec")
	}
}

// TestPaths: nonResourceURLs are exact, but for a star at the end.
func TestPaths(t *testing.T) {
	var grid []authorizer.AttributesRecord
	for _, verb := range []string{"get", "post", "head"} {
		for _, p := range []string{"/metrics", "/metrics/", "/metrics/x", "/metricsx", "/", "", "/met"} {
			grid = append(grid, path(verb, p))
		}
	}
	grid = append(grid, resource("get", "", "pods", "", "a", "web"))
	for _, p := range []string{"/metrics", "/metrics/*", "/met*", "*", "/"} {
		t.Run(p, func(t *testing.T) {
			compareToRuleAllows(t, v1alpha1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{p}}, grid)
			compareToRuleAllows(t, v1alpha1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{p}}, grid)
		})
	}
}
