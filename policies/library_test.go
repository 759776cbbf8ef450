// Package policies_test holds the library to what its pages say.
package policies_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
	"github.com/sallyport-dev/sallyport/internal/schema"
)

var update = flag.Bool("update", false, "write anew what is made of the policies")

// files of the library.
var files = os.DirFS(".")

// library is every policy, sorted by folder.
func library(t testing.TB) []*examples.Policy {
	t.Helper()
	folders, err := examples.Find(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	out := make([]*examples.Policy, 0, len(folders))
	for _, folder := range folders {
		p, err := examples.Load(files, folder, folder)
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, p)
	}
	if len(out) < 20 {
		t.Fatalf("%d policies are no library", len(out))
	}
	return out
}

// compiled guardrail. The deadline of Rego is one that a busy machine does not
// miss: what is tested is what a policy says, and not how fast.
func compiled(t testing.TB, g *examples.Guardrail) *guardrail.Guardrail {
	t.Helper()
	out, errs := policy.Compile(g.Name, &g.Spec, policy.Options{})
	if len(errs) > 0 {
		t.Fatalf("%s: %v", g.File, errs.ToAggregate())
	}
	if g.Spec.Rego != nil {
		parameters := map[string]any{}
		if g.Spec.Parameters != nil {
			d := json.NewDecoder(bytes.NewReader(g.Spec.Parameters.Raw))
			d.UseNumber()
			if err := d.Decode(&parameters); err != nil {
				t.Fatal(err)
			}
		}
		if out.Check, errs = rego.Compile(field.NewPath("spec"), rego.Policy{
			Modules: map[string]string{"policy.rego": g.Spec.Rego.Module}, Main: "policy.rego", Parameters: parameters,
		}, rego.Options{Deadline: time.Minute}); len(errs) > 0 {
			t.Fatalf("%s: %v", g.File, errs.ToAggregate())
		}
	}
	return out
}

// TestExamples: each policy does on each of its examples what the example says,
// and the examples reach all of it.
func TestExamples(t *testing.T) {
	schemas, err := schema.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range library(t) {
		t.Run(p.Folder, func(t *testing.T) {
			for _, r := range p.Test(examples.Options{Coverage: true, Schemas: schemas}) {
				for _, problem := range r.Problems {
					t.Errorf("%s: %v", r.Guardrail.Name, problem)
				}
				for i := range r.Results {
					for _, failure := range r.Results[i].Failures {
						t.Errorf("%s: %s: %s: %s", r.Results[i].Place, r.Guardrail.Name, r.Results[i].Example.Name, failure)
					}
				}
				if r.Coverage != nil && r.Coverage.Reached < r.Coverage.Total {
					t.Errorf("%s: %d of %d parts are reached; not: %q", r.Guardrail.Name, r.Coverage.Reached, r.Coverage.Total, r.Coverage.Missed)
				}
			}
		})
	}
}

// sections of a page, in order.
var sections = []string{"What is refused", "Parameters", "Exceptions", "Adopt it", "Source"}

var (
	link    = regexp.MustCompile(`\]\((\S+?)\)`)
	section = regexp.MustCompile(`(?m)^## (.+)$`)
	name    = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
)

// TestFolders: a folder is whole, and its page says what its guardrail has.
func TestFolders(t *testing.T) {
	for _, p := range library(t) {
		t.Run(p.Folder, func(t *testing.T) {
			main := p.Guardrails[0]
			if main.Name != p.Folder || !name.MatchString(p.Folder) {
				t.Errorf("the guardrail is called %q", main.Name)
			}
			if main.Spec.Description == "" || main.Spec.Enforcement == "" {
				t.Error("the guardrail needs description and enforcement")
			}
			if len(p.Guardrails) > 1 {
				twin := p.Guardrails[1]
				if twin.Name != p.Folder+"-rego" || main.Spec.CEL == nil || twin.Spec.Rego == nil {
					t.Errorf("the twin is called %q and written in %s", twin.Name, twin.Engine())
				}
				if diff := cmp.Diff(main.Spec, twin.Spec, cmpopts.IgnoreFields(v1alpha1.GuardrailSpec{}, "CEL", "Rego")); diff != "" {
					t.Errorf("the twins differ in more than the engine (-cel +rego):\n%s", diff)
				}
			}
			want := []string{"README.md", "examples.yaml", "guardrail.yaml"}
			if g := p.Guardrails[len(p.Guardrails)-1]; g.Spec.Rego != nil {
				want = append(want, path.Base(g.File), "policy.rego", "policy_test.rego")
			}
			slices.Sort(want)
			if diff := cmp.Diff(slices.Compact(want), list(t, p.Folder)); diff != "" {
				t.Errorf("the files of the folder (-want +got):\n%s", diff)
			}
			checkPage(t, p)
		})
	}
}

func checkPage(t *testing.T, p *examples.Policy) {
	page := read(t, path.Join(p.Folder, "README.md"))
	if !strings.HasPrefix(page, "# "+p.Folder+"\n") {
		t.Error("the page has another title")
	}
	var have []string
	for _, m := range section.FindAllStringSubmatch(page, -1) {
		have = append(have, m[1])
	}
	if diff := cmp.Diff(sections, have); diff != "" {
		t.Errorf("the sections of the page (-want +got):\n%s", diff)
	}
	for parameter := range parameters(t, p.Guardrails[0]) {
		if !strings.Contains(page, "\n| `"+parameter+"` |") {
			t.Errorf("the page does not describe the parameter %s", parameter)
		}
	}
	_, sources, _ := strings.Cut(page, "\n## Source\n")
	if !strings.Contains(sources, "](https://") {
		t.Error("the page names no source")
	}
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		if to := m[1]; !strings.HasPrefix(to, "https://") {
			read(t, path.Join(p.Folder, to))
		}
	}
}

func list(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func read(t testing.TB, file string) string {
	t.Helper()
	data, err := fs.ReadFile(files, file)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func parameters(t testing.TB, g *examples.Guardrail) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	if g.Spec.Parameters != nil {
		if err := json.Unmarshal(g.Spec.Parameters.Raw, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestModules: the module of a Guardrail is policy.rego, which -update writes into
// it.
func TestModules(t *testing.T) {
	modules, err := fs.Glob(files, "*/policy.rego")
	if err != nil || len(modules) == 0 {
		t.Fatalf("there are no modules: %v", err)
	}
	for _, file := range modules {
		folder := path.Dir(file)
		in := path.Join(folder, "guardrail.rego.yaml")
		if _, err := fs.Stat(files, in); errors.Is(err, fs.ErrNotExist) {
			in = path.Join(folder, "guardrail.yaml")
		}
		const module = "\n    module: |\n"
		was := read(t, in)
		head, _, ok := strings.Cut(was, module)
		if !ok {
			t.Errorf("%s: has no module in a block", in)
			continue
		}
		var want strings.Builder
		want.WriteString(head + module)
		for line := range strings.Lines(read(t, file)) {
			if line != "\n" {
				line = "      " + line
			}
			want.WriteString(line)
		}
		if *update {
			if err := os.WriteFile(in, []byte(want.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(want.String(), was); diff != "" {
			t.Errorf("%s: run make generate (-policy.rego +yaml):\n%s", in, diff)
		}
	}
}

// TestRego is opa fmt, opa check --strict and opa test.
func TestRego(t *testing.T) {
	modules, err := fs.Glob(files, "*/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	parsed := map[string]*ast.Module{}
	for file, source := range rego.Library() {
		parsed[file] = ast.MustParseModule(source)
	}
	var tests int
	for _, file := range modules {
		source := read(t, file)
		formatted, err := format.Source(file, []byte(source))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(formatted), source); diff != "" {
			t.Errorf("%s: not formatted (-opa fmt +file):\n%s", file, diff)
		}
		m, err := ast.ParseModuleWithOpts(file, source, ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		if err != nil {
			t.Error(err)
			continue
		}
		if want := "data.guardrails." + strings.ReplaceAll(path.Dir(file), "-", "_"); strings.TrimSuffix(m.Package.Path.String(), "_test") != want {
			t.Errorf("%s: is package %s", file, m.Package.Path)
		}
		parsed[file] = m
	}
	if t.Failed() {
		return
	}
	c := ast.NewCompiler().WithStrict(true).WithCapabilities(rego.Capabilities()).WithEnablePrintStatements(true)
	results, err := tester.NewRunner().SetCompiler(c).SetModules(parsed).RaiseBuiltinErrors(true).RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for r := range results {
		tests++
		if !r.Pass() {
			t.Errorf("%s: %s.%s: %s", r.Location, r.Package, r.Name, wrong(r))
		}
	}
	if tests < len(modules) {
		t.Errorf("%d tests for %d modules", tests, len(modules))
	}
}

// wrong with a test.
func wrong(r *tester.Result) string {
	if r.Error != nil {
		return r.Error.Error()
	}
	return "failed"
}

// TestMissingParameters: who leaves a parameter out, or makes nonsense of it, does
// not open what the policy closes.
func TestMissingParameters(t *testing.T) {
	for _, p := range library(t) {
		for _, g := range p.Guardrails {
			own := parameters(t, g)
			for parameter := range own {
				for what, broken := range map[string]func(map[string]json.RawMessage){
					"missing": func(m map[string]json.RawMessage) { delete(m, parameter) },
					"null":    func(m map[string]json.RawMessage) { m[parameter] = json.RawMessage("null") },
				} {
					with := maps.Clone(own)
					broken(with)
					t.Run(g.Name+"/"+parameter+"/"+what, func(t *testing.T) { checkStillRefused(t, p, g, with) })
				}
			}
		}
	}
}

func checkStillRefused(t *testing.T, p *examples.Policy, g *examples.Guardrail, with map[string]json.RawMessage) {
	raw, err := json.Marshal(with)
	if err != nil {
		t.Fatal(err)
	}
	changed := *g
	changed.Guardrail = g.DeepCopy()
	changed.Spec.Parameters = &apiextensionsv1.JSON{Raw: raw}
	rail := compiled(t, &changed)
	file := *p.Examples
	refused := 0
	for _, e := range file.Examples {
		if e.Expect != examples.Refused || e.Parameters != nil {
			continue
		}
		refused++
		if j := judge(t, rail, &file, &e); len(j.Reasons) == 0 {
			t.Errorf("%s is allowed", e.Name)
		}
	}
	if refused == 0 {
		t.Error("there is no refused example")
	}
}

// TestSameAtEveryPoint: S15. The same grant has the same judgement in CI, at
// admission and at compile time.
func TestSameAtEveryPoint(t *testing.T) {
	policies := library(t)
	for _, p := range policies {
		for _, g := range p.Guardrails {
			rail := *compiled(t, g)
			if !rail.Points.Has(guardrail.Compile) {
				continue
			}
			rail.Points |= guardrail.GrantPoints
			for _, e := range p.Examples.Examples {
				if e.Grant == nil || e.Parameters != nil {
					continue
				}
				checkPoints(t, g.Name+": "+e.Name, snapshot(p.Examples, &e), &rail)
			}
		}
	}
	rails := everyGuardrail(t, policies)
	for _, r := range rails {
		r.Points = guardrail.GrantPoints
	}
	rnd := newRandom(15)
	for i := range 100 {
		checkPoints(t, fmt.Sprintf("grant %d", i), rnd.grant(), rails...)
	}
}

// TestDecided: whatever a grant or a request is, a policy has an answer: none of
// the library is ever undecided.
func TestDecided(t *testing.T) {
	rails := everyGuardrail(t, library(t))
	rnd := newRandom(1)
	said := map[string]int{}
	for i := range 500 {
		for _, in := range []*guardrail.Input{inputOf(t, rnd.grant()), rnd.request()} {
			for _, r := range rails {
				if in.Request != nil && !r.Points.Has(guardrail.Request) || in.Grant != nil && r.Points&guardrail.GrantPoints == 0 {
					continue
				}
				got, err := r.Check.Check(in)
				if err != nil {
					t.Fatalf("%s has no answer to input %d: %v\n%s", r.Name, i, err, show(in))
				}
				said[r.Name] += len(got)
			}
		}
	}
	for _, r := range rails {
		if said[r.Name] == 0 {
			t.Errorf("%s has never said anything: the inputs are not what it is about", r.Name)
		}
	}
}

// TestLargest: S22. The largest grant that is judged costs no policy more than it
// may, whatever its shape, and whether the policy finds nothing, or something to look
// closer at in each rule, or to refuse: nobody makes one undecided by length. How
// long it takes is logged, and not tested.
func TestLargest(t *testing.T) {
	rails := everyGuardrail(t, library(t))
	took := map[string]time.Duration{}
	said := 0
	for shape, l := range shapes {
		for what, first := range map[string][3]string{
			"nothing": {}, "verbs": {"*", "", ""}, "everything": {"*", "*", "*"},
		} {
			s := l.grant(first[0], first[1], first[2])
			in := inputOf(t, s)
			for _, r := range rails {
				if r.Points&guardrail.GrantPoints == 0 {
					continue
				}
				begin := time.Now()
				got, err := r.Check.Check(in)
				took[r.Name] = max(took[r.Name], time.Since(begin))
				if err != nil {
					t.Errorf("%s: %s, with stars for %s: %v", r.Name, shape, what, err)
				}
				said += len(got)
			}
			rule := &s.Grants[0].Spec.Access[0].Rules[0]
			rule.Verbs = append(rule.Verbs, "more")
			if r := compile.Judge(s.Snapshot)[0].Judgement.Reasons; len(r) != 1 || r[0].Guardrail != compile.SizeGuardrail {
				t.Errorf("%s: it is not the largest: %v", shape, r)
			}
		}
	}
	if said == 0 {
		t.Error("nothing is refused of any")
	}
	slowest := slices.SortedFunc(maps.Keys(took), func(a, b string) int { return int(took[b] - took[a]) })
	for _, name := range slowest[:5] {
		t.Logf("%s took at most %v", name, took[name])
	}
}

// TestTwins: what is written in both languages says the same, word for word.
func TestTwins(t *testing.T) {
	twins := 0
	for _, p := range library(t) {
		if len(p.Guardrails) < 2 {
			continue
		}
		twins++
		t.Run(p.Folder, func(t *testing.T) {
			t.Parallel()
			a, b := compiled(t, p.Guardrails[0]), compiled(t, p.Guardrails[1])
			if a.Check.Timed() != b.Check.Timed() {
				t.Errorf("one looks at the instant: %t in CEL, %t in Rego", a.Check.Timed(), b.Check.Timed())
			}
			rnd := newRandom(2)
			for i := range 1500 {
				in := inputOf(t, rnd.grant())
				if a.Points.Has(guardrail.Request) && (i%2 == 0 || a.Points&guardrail.GrantPoints == 0) {
					in = rnd.request()
				}
				want, err := a.Check.Check(in)
				if err != nil {
					t.Fatal(err)
				}
				got, err := b.Check.Check(in)
				if err != nil {
					t.Fatal(err)
				}
				byMessage := cmpopts.SortSlices(func(x, y guardrail.Violation) bool { return x.Message < y.Message })
				if diff := cmp.Diff(want, got, byMessage, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("the twins differ on input %d (-cel +rego):\n%s\n%s", i, diff, show(in))
				}
			}
		})
	}
	if twins < 5 {
		t.Errorf("%d policies have a twin", twins)
	}
}

func everyGuardrail(t *testing.T, policies []*examples.Policy) []*guardrail.Guardrail {
	t.Helper()
	var out []*guardrail.Guardrail
	for _, p := range policies {
		for _, g := range p.Guardrails {
			out = append(out, compiled(t, g))
		}
	}
	return out
}

func checkPoints(t *testing.T, what string, s compileSnapshot, rails ...*guardrail.Guardrail) {
	t.Helper()
	set := guardrail.NewSet(rails, nil, guardrail.Options{})
	want := s.at(guardrail.Compile, set)
	for _, p := range []guardrail.Point{guardrail.Plan, guardrail.Admission} {
		if diff := cmp.Diff(want, s.at(p, set)); diff != "" {
			t.Errorf("%s: judged differently (-Compile +%s):\n%s", what, p, diff)
		}
	}
}

// judge an example as its guardrail would, at a point that it has.
func judge(t *testing.T, rail *guardrail.Guardrail, f *examples.File, e *examples.Example) guardrail.Judgement {
	t.Helper()
	set := guardrail.NewSet([]*guardrail.Guardrail{rail}, nil, guardrail.Options{})
	if e.Grant != nil {
		return snapshot(f, e).at(guardrail.Compile, set)
	}
	return set.Judge(guardrail.Request, requestOf(f, e))
}

func show(in *guardrail.Input) string {
	raw, err := json.MarshalIndent(in, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
