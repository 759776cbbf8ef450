package examples

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func TestPolicy(t *testing.T) {
	files := os.DirFS("testdata")
	folders, err := Find(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"no-exec"}, folders); diff != "" {
		t.Fatal(diff)
	}
	p, err := Load(files, "no-exec", "no-exec")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Test(Options{Coverage: true}) {
		for _, err := range r.Problems {
			t.Error(err)
		}
		for _, x := range r.Results {
			if !x.Passed() {
				t.Errorf("%s: %s: %q", x.Place, x.Example.Name, x.Failures)
			}
		}
		if c := r.Coverage; c == nil || c.Reached != c.Total || len(c.Missed) > 0 {
			t.Errorf("coverage %+v", c)
		}
	}
}

// TestProvesNothing: a policy has to be seen to refuse, and to allow.
func TestProvesNothing(t *testing.T) {
	p, err := Load(os.DirFS("testdata"), "no-exec", "no-exec")
	if err != nil {
		t.Fatal(err)
	}
	all := p.Examples.Examples
	for gone, want := range map[Expectation]error{Refused: ErrNothingRefused, Allowed: ErrNothingAllowed} {
		p.Examples.Examples = slices.DeleteFunc(slices.Clone(all), func(e Example) bool { return e.Expect == gone })
		r := p.Test(Options{})[0]
		if len(r.Problems) != 1 || !errors.Is(r.Problems[0], want) || r.Passed() {
			t.Errorf("without %s: %v", gone, r.Problems)
		}
	}
}

func TestCompareMessages(t *testing.T) {
	one, two := guardrail.Reason{Message: "a", Field: "x"}, guardrail.Reason{Message: "a", Field: "y"}
	for name, tc := range map[string]struct {
		want []Message
		got  []guardrail.Reason
		fail []string
	}{
		"Same":        {[]Message{{Message: "a"}}, []guardrail.Reason{one}, nil},
		"FieldsFirst": {[]Message{{Message: "a"}, {Message: "a", Field: "x"}}, []guardrail.Reason{one, two}, nil},
		"WrongField":  {[]Message{{Message: "a", Field: "z"}}, []guardrail.Reason{one}, []string{`does not say "a" (field z)`, `also says "a" (field x)`}},
		"More":        {[]Message{{Message: "a"}}, []guardrail.Reason{one, two}, []string{`also says "a" (field y)`}},
		"Fewer":       {[]Message{{Message: "a"}, {Message: "b"}}, []guardrail.Reason{one}, []string{`does not say "b"`}},
	} {
		if diff := cmp.Diff(tc.fail, compareMessages(tc.want, tc.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPath(t *testing.T) {
	for want, r := range map[string]Request{
		"/api/v1/namespaces/a/pods/b/exec":           {Resource: "pods", Namespace: "a", Name: "b", Subresource: "exec"},
		"/apis/apps/v1beta1/deployments":             {APIGroup: "apps", APIVersion: "v1beta1", Resource: "deployments"},
		"/apis/rbac.authorization.k8s.io/v1/roles/x": {APIGroup: "rbac.authorization.k8s.io", Resource: "roles", Name: "x"},
	} {
		if got := r.path(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestModuleDiffers(t *testing.T) {
	const module = "package x\n\ndeny contains \"a\" if false\n"
	g, err := ReadGuardrail("g.yaml", []byte("apiVersion: access.sallyport.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: x}\nspec:\n  rego:\n    module: |\n      "+
		strings.ReplaceAll(strings.TrimSpace(module), "\n", "\n      ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &Policy{Folder: "p", Guardrails: []*Guardrail{g}}
	for text, want := range map[string]string{
		module:                               "",
		strings.Replace(module, "a", "b", 2): "p/policy.rego:1: differs from the module in g.yaml",
		"package x\n":                        "p/policy.rego: shorter than the module in g.yaml",
	} {
		if err := os.WriteFile(dir+"/policy.rego", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := p.checkModule(os.DirFS(dir), "."); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
