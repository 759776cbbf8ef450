package policies_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	gocmp "github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
)

// written compares a reference with what it is made of, or with -update writes it.
func written(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what it is made of; run make generate (-file +sources):\n%s", file, diff)
	}
}

// TestIndex: docs/reference/policies.md is what the folders have.
func TestIndex(t *testing.T) {
	var b strings.Builder
	policies := library(t)
	fmt.Fprintf(&b, `# The library of guardrails

Written by `+"`make generate`"+` from [policies](../../policies). Each of the %d folders has the Guardrail, examples of what it allows
and refuses, and a page that says the risk, the parameters and the source. How to adopt one, or write your own:
[Write a guardrail](../how-to/write-a-guardrail.md).

Where there are two engines, `+"`guardrail.yaml`"+` is in the first and `+"`guardrail.rego.yaml`"+` says the same in Rego: apply one of them. Grants
are judged before the commit, at admission and where they are compiled; requests one by one, once Sallyport serves them.

| policy | the risk | engines | judges | enforcement | exceptions | parameters |
|---|---|---|---|---|---|---|
`, len(policies))
	for _, p := range policies {
		var engines []string
		for _, g := range p.Guardrails {
			engines = append(engines, engineNames[g.Engine()])
		}
		var names []string
		for _, name := range slices.Sorted(maps.Keys(parameters(t, p.Guardrails[0]))) {
			names = append(names, "`"+name+"`")
		}
		spec := &p.Guardrails[0].Spec
		exceptions := "none"
		if spec.Exceptions != nil {
			exceptions = strings.TrimSuffix(spec.Exceptions.MaxDuration.Duration.String(), "0m0s")
		}
		fmt.Fprintf(&b, "| [%s](../../policies/%s/README.md) | %s | %s | %s | %s | %s | %s |\n", p.Folder, p.Folder,
			cell(spec.Description), strings.Join(engines, ", "), judges(guardrail.PointsOf(spec.Points)), spec.Enforcement, exceptions, strings.Join(names, ", "))
	}
	written(t, "../docs/reference/policies.md", b.String())
}

var engineNames = map[string]string{"ceiling": "ceiling", "cel": "CEL", "rego": "Rego"}

func judges(p guardrail.Points) string {
	var out []string
	switch p & guardrail.GrantPoints {
	case guardrail.GrantPoints:
		out = append(out, "grants")
	case 0:
	default:
		out = append(out, "grants, where compiled")
	}
	if p.Has(guardrail.Request) {
		out = append(out, "requests")
	}
	return strings.Join(out, ", ")
}

func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(strings.Join(strings.Fields(s), " "))
}

// parts of the reference of the input, by the first field.
var parts = []struct {
	title, text string
	fields      []string
}{
	{"Always", "", []string{"version", "now", "parameters"}},
	{"Where a grant is judged", "At Plan, Admission and Compile. `has(input.grant)` is true, and `has(input.request)` is not.", []string{"grant", "namespace", "roles", "access", "clusters", "source"}},
	{"Where a request is judged", "At Request. `has(input.request)` is true, and `has(input.grant)` is not.", []string{"request", "grants"}},
}

// TestInputReference: docs/reference/guardrail-input.md is what the types of the
// input say.
func TestInputReference(t *testing.T) {
	fields, err := cel.Fields()
	if err != nil {
		t.Fatal(err)
	}
	docs := documentation(t)
	var b strings.Builder
	fmt.Fprintf(&b, `# The input of a guardrail

Written by `+"`make generate`"+`. Version `+"`%s`"+`. A change that could change the answer of a policy makes another version.

Policies see one document as `+"`input`"+`: in CEL typed as below, so that a misspelt field does not compile; in Rego as JSON. A field that may
be absent is absent where it is empty. Ask first, `+"`has(input.source)`"+` in CEL; in Rego what is absent is undefined, and so is an expression that
needs it. There is no other source of data, and no clock but `+"`input.now`"+`.

Both languages have a function for rules: `+"`rbac.allows(rule, verb, apiGroup, resource)`"+` is true where a rule of `+"`input.access[].rules`"+` or
`+"`input.roles[KEY].rules`"+` gives the verb on the resource to some object, exactly as Kubernetes decides: `+"`*`"+` is every verb, group and resource,
`+"`*/exec`"+` the subresource of every resource, and `+"`pods`"+` does not give `+"`pods/exec`"+`. Names of objects are left aside. In Rego it comes with
`+"`import data.sallyport.rbac`"+`.

`+"`[]`"+` stands for the elements of a list, `+"`[KEY]`"+` for the values of a map.
`, guardrail.InputVersion)
	fields, same, all := once(fields)
	seen := 0
	for _, part := range parts {
		fmt.Fprintf(&b, "\n## %s\n", part.title)
		if part.text != "" {
			fmt.Fprintf(&b, "\n%s\n", part.text)
		}
		b.WriteString("\n| field | in CEL | in JSON | present | meaning |\n|---|---|---|---|---|\n")
		for _, f := range fields {
			top, _, _ := strings.Cut(strings.TrimPrefix(f.Path, "input."), ".")
			if top, _, _ = strings.Cut(top, "["); !slices.Contains(part.fields, top) {
				continue
			}
			seen++
			doc := docs(f)
			if doc == "" {
				t.Errorf("%s has no documentation", f.Path)
			}
			if of := same[f.Path]; of != "" {
				doc += " Its fields are those of `" + of + "`."
			}
			present := "always"
			if f.Optional {
				present = "if not empty"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Path, f.Type, inJSON(f.Type), present, cell(doc))
		}
	}
	if seen != len(fields) || seen == all {
		t.Errorf("%d of %d fields, %d with those that are said once, have a place", seen, len(fields), all)
	}
	grant, request := exampleInputs(t)
	fmt.Fprintf(&b, "\n## A grant\n\nThe example *exec by get* of [no-exec-without-ticket](../../policies/no-exec-without-ticket/README.md), as YAML:\n\n```yaml\n%s```\n", grant)
	fmt.Fprintf(&b, "\n## A request\n\nThe example *a shell by a grant without one*:\n\n```yaml\n%s```\n", request)
	written(t, "../docs/reference/guardrail-input.md", b.String())
}

// once leaves out the fields of a type that has been described, and says where.
// all counts them too.
func once(fields []cel.Field) (out []cel.Field, same map[string]string, all int) {
	first := map[reflect.Type]string{}
	same = map[string]string{}
	for _, f := range fields {
		parent := f.Path[:strings.LastIndex(f.Path, ".")]
		of := parent
		if f.Go != nil {
			if first[f.Go] == "" {
				first[f.Go] = parent
			}
			of = first[f.Go]
		}
		if of == parent {
			out = append(out, f)
			continue
		}
		if whole := strings.TrimSuffix(strings.TrimSuffix(parent, "[]"), "[KEY]"); !strings.HasPrefix(whole, of) {
			same[whole] = of
		}
	}
	return out, same, len(fields)
}

func inJSON(t string) string {
	switch {
	case strings.HasPrefix(t, "list("):
		return "array"
	case strings.HasPrefix(t, "map("), t == "object", t == "dyn":
		return "object"
	case t == "bool":
		return "boolean"
	case t == "int":
		return "number"
	case t == "timestamp":
		return "string, RFC 3339"
	}
	return t
}

// documentation of fields: the comments in our sources, and what Kubernetes keeps
// of its own.
func documentation(t *testing.T) func(cel.Field) string {
	comments := map[string]string{}
	for pkg, folder := range map[string]string{
		"github.com/sallyport-dev/sallyport/internal/core/guardrail": "../internal/core/guardrail",
		"github.com/sallyport-dev/sallyport/api/v1alpha1":            "../api/v1alpha1",
	} {
		sources, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if st, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, name := range f.Names {
							comments[pkg+"."+spec.Name.Name+"."+name.Name] = prose(f.Doc.Text())
						}
					}
				}
				return false
			})
		}
	}
	return func(f cel.Field) string {
		if f.Go == nil {
			return "Parameters of the guardrail: its spec.parameters, or an empty object."
		}
		if doc := comments[f.Go.PkgPath()+"."+f.Go.Name()+"."+f.GoField]; doc != "" {
			return doc
		}
		if swagger, ok := reflect.New(f.Go).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
			return swagger.SwaggerDoc()[f.Path[strings.LastIndexAny(f.Path, ".")+1:]]
		}
		return ""
	}
}

// prose of a comment, without the markers of code generators.
func prose(comment string) string {
	var out []string
	for line := range strings.Lines(comment) {
		if !strings.HasPrefix(line, "+") {
			out = append(out, line)
		}
	}
	return strings.Join(strings.Fields(strings.Join(out, " ")), " ")
}

// exampleInputs are a grant and a request as policies see them.
func exampleInputs(t *testing.T) (grant, request string) {
	t.Helper()
	p, err := examples.Load(files, "no-exec-without-ticket", "no-exec-without-ticket")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Examples.Examples {
		switch e.Name {
		case "exec by get":
			e.Source = &guardrail.Source{
				Kind: "GitSync", Namespace: "sallyport-system", Name: "sallyport-sync",
				Revision: "main@sha1:9b1e5a3c4f0d2b7a8e6c1d3f5a7b9c0d2e4f6a8b", Author: "Ann <ann@example.com>",
			}
			grant = document(t, p.Guardrails[0], inputOf(t, snapshot(p.Examples, &e)))
		case "a shell by a grant without one":
			in := requestOf(p.Examples, &e)
			in.Request.Path = "/api/v1/namespaces/payments/pods/api-0/exec"
			in.Request.APIVersion = "v1"
			request = document(t, p.Guardrails[0], in)
		}
	}
	return grant, request
}

// document that the guardrail sees.
func document(t *testing.T, g *examples.Guardrail, in *guardrail.Input) string {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	out["parameters"] = parameters(t, g)
	text, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const howTo = "../docs/how-to/write-a-guardrail.md"

// TestHowTo: what the guide shows is what works. Its first three guardrails are one
// in each engine, and its examples are of the second and the third.
func TestHowTo(t *testing.T) {
	guide, err := os.ReadFile(howTo)
	if err != nil {
		t.Fatal(err)
	}
	var guardrails []string
	var examplesFile string
	for _, block := range strings.Split(string(guide), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		switch {
		case strings.Contains(block, "\nkind: Guardrail\n"):
			guardrails = append(guardrails, block)
		case strings.Contains(block, "\nexamples:\n"):
			examplesFile = block
		}
	}
	var engines []string
	for i, source := range guardrails {
		g, err := examples.ReadGuardrail(fmt.Sprintf("guardrails[%d]", i), []byte(source))
		if err != nil {
			t.Fatal(err)
		}
		compiled(t, g)
		engines = append(engines, g.Engine())
	}
	if diff := gocmp.Diff([]string{"ceiling", "cel", "rego"}, engines); diff != "" {
		t.Fatalf("the guardrails of the guide (-want +got):\n%s", diff)
	}
	for _, source := range guardrails[1:] {
		folder := fstest.MapFS{
			"guardrail.yaml": {Data: []byte(source)},
			"examples.yaml":  {Data: []byte(examplesFile)},
		}
		p, err := examples.Load(folder, ".", "guide")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Test(examples.Options{Coverage: true}) {
			if !r.Passed() || r.Coverage == nil || r.Coverage.Reached < r.Coverage.Total {
				t.Errorf("%s: %+v", r.Guardrail.Engine(), r)
			}
		}
	}
}
