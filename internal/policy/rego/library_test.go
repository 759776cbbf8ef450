package rego_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// subsets of up to two of the values.
func subsets(values ...string) (out [][]string) {
	out = append(out, nil)
	for i, a := range values {
		out = append(out, []string{a})
		for _, b := range values[i+1:] {
			out = append(out, []string{a, b})
		}
	}
	return out
}

// TestLibraryGrid: S17, S18. The library means what Kubernetes means.
func TestLibraryGrid(t *testing.T) {
	verbs := []string{"get", "*"}
	groups := []string{"", "apps", "*"}
	resources := []string{"pods", "pods/exec", "*/exec", "pods/*", "deployments", "*", "execs"}
	var queries []string
	type query struct{ verb, group, resource string }
	var of []query
	for _, v := range append(verbs, "delete") {
		for _, g := range append(groups, "app") {
			for _, r := range append(resources, "nodes/exec", "pods/exec/x", "pods/", "/exec", "exec", "pod") {
				of = append(of, query{v, g, r})
				queries = append(queries, fmt.Sprintf("[%q, %q, %q]", v, g, r))
			}
		}
	}
	c := compile(t, `package p

import data.sallyport.rbac

queries := [`+strings.Join(queries, ", ")+`]

deny contains concat("", [answer |
	some q in queries
	answer := allowed(input.access[0].rules[0], q)
])

allowed(rule, q) := "y" if rbac.allows(rule, q[0], q[1], q[2])

else := "n"
`, rego.Options{})
	in := grantInput()
	for _, names := range [][]string{nil, {"web-0"}} {
		for _, v := range subsets(verbs...) {
			for _, g := range subsets(groups...) {
				for _, r := range subsets(resources...) {
					rule := rbacv1.PolicyRule{Verbs: v, APIGroups: g, Resources: r, ResourceNames: names}
					in = fresh(in)
					in.Access = []*guardrail.Access{{Field: "spec.access[0]", Known: true, Rules: []rbacv1.PolicyRule{rule}}}
					said, err := c.Check(in)
					if err != nil {
						t.Fatal(err)
					}
					for i, q := range of {
						want, _ := validation.Covers([]rbacv1.PolicyRule{rule}, []rbacv1.PolicyRule{{
							Verbs: []string{q.verb}, APIGroups: []string{q.group}, Resources: []string{q.resource}, ResourceNames: names,
						}})
						if got := said[0].Message[i] == 'y'; got != want {
							t.Fatalf("%+v allows %+v: %t, want %t", rule, q, got, want)
						}
					}
				}
			}
		}
	}
}

// TestLibrary runs the library's own tests, as opa test does.
func TestLibrary(t *testing.T) {
	modules := map[string]*ast.Module{}
	sources := rego.Library()
	raw, err := os.ReadFile("lib/rbac_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	sources["rbac_test.rego"] = string(raw)
	for file, source := range sources {
		modules[file] = ast.MustParseModuleWithOpts(source, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: rego.Capabilities()})
	}
	results, err := tester.NewRunner().SetCompiler(ast.NewCompiler().WithStrict(true)).
		SetStore(inmem.New()).SetModules(modules).RunTests(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for r := range results {
		n++
		if !r.Pass() {
			t.Errorf("%v", r)
		}
	}
	if n < 10 {
		t.Errorf("%d tests ran", n)
	}
}

func TestLibraryIsACopy(t *testing.T) {
	clear(rego.Library())
	if len(rego.Library()) == 0 {
		t.Error("the library can be changed")
	}
}
