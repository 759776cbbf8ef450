package cel_test

import (
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// TestAllows: S17, S18. rbac.allows is what Kubernetes makes of a rule, for groups
// that look alike and for subresources.
func TestAllows(t *testing.T) {
	lists := func(words ...string) (out [][]string) {
		for i, a := range words {
			out = append(out, []string{a})
			for _, b := range words[i+1:] {
				out = append(out, []string{a, b})
			}
		}
		return append(out, nil)
	}
	verbs := []string{"get", "create", "ge", "getx"}
	groups := []string{"", "apps", "app", "apps.example.com", "*.apps"}
	resources := []string{"pods", "pod", "pods/exec", "pods/log", "services/exec", "pods/", "pods/exec/x", "secrets"}
	var calls []rbacv1.PolicyRule
	p := policy()
	for _, v := range append(verbs, "*") {
		for _, g := range append(groups, "*") {
			for _, r := range append(resources, "*", "*/exec") {
				calls = append(calls, rbacv1.PolicyRule{Verbs: []string{v}, APIGroups: []string{g}, Resources: []string{r}})
				p.Validations = append(p.Validations, policy(fmt.Sprintf("!rbac.allows(input.access[0].rules[0], %q, %q, %q)", v, g, r)).Validations...)
			}
		}
	}
	check := compile(t, p)
	n := 0
	for _, v := range lists("get", "create", "*") {
		for _, g := range lists("", "apps", "*") {
			for _, r := range lists("pods", "pods/exec", "*/exec", "pods/*", "*", "secrets") {
				rule := rbacv1.PolicyRule{Verbs: v, APIGroups: g, Resources: r}
				narrow := rule
				narrow.ResourceNames = []string{"one"}
				for _, given := range []rbacv1.PolicyRule{rule, narrow} {
					in := &guardrail.Input{Access: []*guardrail.Access{{Rules: []rbacv1.PolicyRule{given}}}}
					violations, err := check.Check(in)
					if err != nil {
						t.Fatal(err)
					}
					got := map[string]bool{}
					for _, violation := range violations {
						got[violation.Message] = true
					}
					for i, call := range calls {
						want, _ := validation.Covers([]rbacv1.PolicyRule{rule}, []rbacv1.PolicyRule{call})
						if n++; got["failed: "+p.Validations[i].Expression] != want {
							t.Errorf("%v: %s: want %t", given, p.Validations[i].Expression, want)
						}
					}
				}
			}
		}
	}
	if n < 50000 {
		t.Errorf("only %d cases", n)
	}
}
