package bundle_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const execModule = `package guardrails.no_exec

import data.sallyport.rbac

deny contains {"message": sprintf("exec is for %s", [input.parameters.team]), "field": access.field} if {
	some access in input.access
	some rule in access.rules
	rbac.allows(rule, "create", "", "pods/exec")
}
`

// three is a manifest with one guardrail for each engine.
func three() bundle.Manifest {
	r, _ := bundle.ParseRevision("42+abc")
	return bundle.Manifest{
		Name: "baseline", Description: "What everybody wants.", Revision: r,
		Guardrails: map[string]v1alpha1.GuardrailSpec{
			"no-exec": {
				Description: "A shell is everything that the pod has.",
				Parameters:  &apiextensionsv1.JSON{Raw: []byte(`{"team":"sre","n":9007199254740993}`)},
				Match:       &v1alpha1.GuardrailMatch{Verbs: []string{"create"}},
				Rego:        &v1alpha1.RegoPolicy{Module: execModule},
			},
			"reason": {
				Enforcement: v1alpha1.EnforcementWarn,
				Points:      []v1alpha1.GuardrailPoint{v1alpha1.PointAdmission},
				Exceptions:  &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Hour}},
				CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{
					Expression: `input.grant.spec.reason.contains("PAY-")`, Message: "the reason names no ticket",
				}}},
			},
			"tenants": {Ceiling: &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}}},
		},
	}
}

func build(t testing.TB, m bundle.Manifest) []byte {
	t.Helper()
	archive, err := bundle.Build(m)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func execGrant(namespace string) *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: namespace, Name: "g"}, Spec: &v1alpha1.AccessGrantSpec{Reason: "because"},
		},
		Namespace: &guardrail.Namespace{Name: namespace},
		Access: []*guardrail.Access{{
			Field: "spec.access[0]", Known: true, Namespaces: []string{"web"},
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}}},
		}},
	}
}

// accepted is a GuardrailBundle whose archive was accepted.
func accepted(archive []byte, spec v1alpha1.GuardrailBundleSpec) *v1alpha1.GuardrailBundle {
	b := &v1alpha1.GuardrailBundle{Spec: spec}
	b.Name = "base"
	b.Status.Active = &v1alpha1.ActiveBundle{Revision: "42", Digest: bundle.Digest(archive)}
	return b
}

// reasons of a judgement in short.
func reasons(j guardrail.Judgement) []string {
	var out []string
	for _, r := range j.Reasons {
		out = append(out, string(r.Enforcement)+" "+r.Guardrail+": "+r.Message)
	}
	return out
}

func judge(of []*guardrail.Guardrail, p guardrail.Point, in *guardrail.Input) []string {
	return reasons(guardrail.NewSet(of, nil, guardrail.Options{}).Judge(p, in))
}

// TestBuild: what is built is read back as what it was, from the same bytes each time.
func TestBuild(t *testing.T) {
	archive := build(t, three())
	for range 10 {
		if !bytes.Equal(archive, build(t, three())) {
			t.Fatal("the same manifest makes other bytes")
		}
	}
	b, err := bundle.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := b.Revision(); err != nil || r.Number != 42 || r.String() != "42+abc" {
		t.Errorf("revision %v, error %v", r, err)
	}
	want := []string{"guardrails/no_exec", "sallyport/guardrails", "sallyport/rbac"}
	if diff := cmp.Diff(want, b.Roots()); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
	c, err := b.Content()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]v1alpha1.GuardrailSpec{}
	for name, e := range c.Entries {
		got[name] = e.GuardrailSpec
	}
	expected := three().Guardrails
	rego := expected["no-exec"]
	rego.Rego = nil
	rego.Parameters = &apiextensionsv1.JSON{Raw: []byte(`{"n":9007199254740993,"team":"sre"}`)}
	expected["no-exec"] = rego
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("guardrails (-want +got):\n%s", diff)
	}
	if e := c.Entries["no-exec"]; e.Package != "data.guardrails.no_exec" || e.Engine() != "rego" {
		t.Errorf("package %q in %s", e.Package, e.Engine())
	}
}

func TestBuildRefuses(t *testing.T) {
	rego := func(module string) v1alpha1.GuardrailSpec {
		return v1alpha1.GuardrailSpec{Rego: &v1alpha1.RegoPolicy{Module: module}}
	}
	tests := map[string]struct {
		reason     string
		guardrails map[string]v1alpha1.GuardrailSpec
		want       string
	}{
		"Nothing":     {"A bundle without guardrails guards nothing.", nil, "holds no guardrails"},
		"SamePackage": {"Each would refuse what the other does.", map[string]v1alpha1.GuardrailSpec{"a": rego(module), "b": rego(module)}, `guardrails "a" and "b" are both of the package data.guardrails.exec`},
		"NoDeny":      {"It would never refuse.", map[string]v1alpha1.GuardrailSpec{"a": rego("package a\n\nallow := true\n")}, `guardrail "a": the module has no set deny`},
		"Library":     {"It would replace what others call.", map[string]v1alpha1.GuardrailSpec{"a": rego("package sallyport.rbac\n\ndeny contains 1\n")}, "is of the library"},
		"Network":     {"S20: also in a bundle.", map[string]v1alpha1.GuardrailSpec{"a": rego("package a\n\ndeny contains http.send({\"method\": \"get\", \"url\": \"x\"}).body\n")}, "http.send"},
		"NoEngine":    {"It says nothing.", map[string]v1alpha1.GuardrailSpec{"a": {}}, "not exactly one of ceiling, cel and package"},
		"BadCEL":      {"It does not compile.", map[string]v1alpha1.GuardrailSpec{"a": {CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "1 +"}}}}}, "a: spec.cel.validations[0].expression"},
		"Name":        {"A name with a slash is that of another bundle's guardrail.", map[string]v1alpha1.GuardrailSpec{"a/b": three().Guardrails["tenants"]}, `of the name "a/b"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := three()
			m.Guardrails = tc.guardrails
			_, err := bundle.Build(m)
			check(t, tc.reason, tc.want, err)
		})
	}
}

// TestContent: what the API server refuses of a Guardrail is refused of one in a
// bundle, where no API server looks.
func TestContent(t *testing.T) {
	entries := func(text string) []byte {
		return archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "guardrails/exec/policy.rego", content: module},
			entry{name: "data.json", content: `{"sallyport":{"guardrails":{"a":` + text + `}}}`})
	}
	const ceiling = `"ceiling":{}`
	tests := map[string]struct {
		reason  string
		archive []byte
		want    string
	}{
		"Package":        {"A package of the bundle.", entries(`{"package":"data.guardrails.exec"}`), ""},
		"Elsewhere":      {"Data may be in a file of its own.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "sallyport/guardrails/a/data.json", content: `{"ceiling":{}}`}), ""},
		"OtherPackage":   {"One that is not there would never refuse.", entries(`{"package":"data.guardrails.other"}`), `package: "data.guardrails.other" has no set deny`},
		"TwoEngines":     {"Which of them counts?", entries(`{"package":"data.guardrails.exec",` + ceiling + `}`), "not exactly one"},
		"InlineRego":     {"A module is a file, which opa test finds.", entries(`{"rego":{"module":"package a"}}`), "rego: a module is a file"},
		"UnknownField":   {"It may be one that a newer version knows.", entries(`{"point":["Request"],` + ceiling + `}`), `unknown field "guardrails.a.point"`},
		"Enforcement":    {"It would be taken for something.", entries(`{"enforcement":"deny",` + ceiling + `}`), `enforcement: Unsupported value: "deny"`},
		"Points":         {"S16: a point that is none is one at which nobody asks.", entries(`{"points":["Plans"],"package":"data.guardrails.exec"}`), `points[0]: Unsupported value: "Plans"`},
		"Exceptions":     {"No time at all.", entries(`{"exceptions":{"maxDuration":"0s"},` + ceiling + `}`), "must be positive"},
		"CeilingRequest": {"A ceiling is not asked about requests.", entries(`{"points":["Request"],` + ceiling + `}`), "points: Forbidden: a ceiling bounds grants"},
		"CeilingMatch":   {"A ceiling is for namespaces.", entries(`{"match":{"verbs":["get"]},` + ceiling + `}`), "match: Forbidden: a ceiling is for namespaces"},
		"CeilingParams":  {"A ceiling has no parameters.", entries(`{"parameters":{},` + ceiling + `}`), "parameters: Forbidden: a ceiling has no parameters"},
		"NoGuardrails":   {"Data of that name and nothing in it.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "data.json", content: `{"sallyport":{"guardrails":{}}}`}), "holds no guardrails"},
		"NoObject":       {"Something else of that name.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "data.json", content: `{"sallyport":[]}`}), "has data.sallyport that cannot be read"},
		"BadModule":      {"A module that nobody asks is no reason to overlook it.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "x.rego", content: "package"}, entry{name: "data.json", content: data}), "x.rego"},
		"OurLibrary": {"What a bundle says is the library is not: an older one may be in it, or none.", archive(t, entry{name: ".manifest", content: manifest42},
			entry{name: "a/sallyport/rbac.rego", content: "package sallyport.rbac\n\nallows(_, _, _, _) := false\n"}, entry{name: "data.json", content: `{"sallyport":{"guardrails":{"a":{"ceiling":{}}}}}`}), ""},
		"OtherLibrary": {"Nor does another file add to it.", archive(t, entry{name: ".manifest", content: manifest42},
			entry{name: "x.rego", content: "package sallyport.rbac\n\nallows(_, _, _, _) := false\n"}, entry{name: "data.json", content: data}), "is of the library"},
		"Roots":  {"OPA would refuse it.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "other/data.json", content: "{}"}), "manifest roots"},
		"Nested": {"Brackets are not to exhaust the stack.", archive(t, entry{name: ".manifest", content: manifest42}, entry{name: "x.rego", content: "package x\na := " + strings.Repeat("[", 100_000)}), "nested"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.Open(tc.archive)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Content()
			check(t, tc.reason, tc.want, err)
		})
	}
}

// TestGuardrails: how a GuardrailBundle and what is in the bundle go together.
func TestGuardrails(t *testing.T) {
	full := build(t, three())
	plain := archive(t, entry{name: "/.manifest", content: `{"revision":"1","roots":[""]}`},
		entry{name: "/data.json", content: `{"teams":["sre"],"guardrails":{"words":{"bad":"because"}}}`},
		entry{name: "/a.rego", content: "package guardrails.shell\n\nimport data.sallyport.rbac\n\ndeny contains \"no shell\" if rbac.allows(input.access[0].rules[0], \"create\", \"\", \"pods/exec\")\n"},
		entry{name: "/b.rego", content: "package other[\"kebab-case\"]\n\ndeny contains msg if {\n\tinput.grant.spec.reason == data.guardrails.words.bad\n\tmsg := \"no reason\"\n}\n"},
		entry{name: "/c.rego", content: "package lib\n\nhelp := 1\n"},
		entry{name: "/a_test.rego", content: "package guardrails.shell_test\n\ntest_it if true\n"})
	const exec, reason, ceiling = "base/no-exec: exec is for sre", "base/reason: the reason names no ticket", "base/tenants: "
	tests := map[string]struct {
		reason  string
		archive []byte
		spec    v1alpha1.GuardrailBundleSpec
		at      guardrail.Point
		in      *guardrail.Input
		want    []string
	}{
		"Compile": {"Each at its points; without any, where grants are judged.", full, v1alpha1.GuardrailBundleSpec{}, guardrail.Compile, execGrant("web"),
			[]string{"Deny " + exec, "Deny " + ceiling}},
		"Admission": {"What a guardrail says itself counts.", full, v1alpha1.GuardrailBundleSpec{Enforcement: v1alpha1.EnforcementAudit}, guardrail.Admission, execGrant("web"),
			[]string{"Warn " + reason, "Audit " + exec, "Audit " + ceiling}},
		"Points": {"Those that do not say themselves are asked where the bundle says; a ceiling never about requests.", full,
			v1alpha1.GuardrailBundleSpec{Points: []v1alpha1.GuardrailPoint{v1alpha1.PointPlan, v1alpha1.PointRequest}}, guardrail.Plan, execGrant("web"),
			[]string{"Deny " + exec, "Deny " + ceiling}},
		"OtherPoint": {"And only there.", full,
			v1alpha1.GuardrailBundleSpec{Points: []v1alpha1.GuardrailPoint{v1alpha1.PointPlan}}, guardrail.Compile, execGrant("web"), nil},
		"Match": {"The bundle narrows each.", full,
			v1alpha1.GuardrailBundleSpec{Match: &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"web"}}}},
			guardrail.Admission, execGrant("shop"), nil},
		"Plain": {"Of a bundle that knows nothing of Sallyport, each package with a set deny is a guardrail; it has the data, and the library.", plain,
			v1alpha1.GuardrailBundleSpec{Enforcement: v1alpha1.EnforcementWarn}, guardrail.Compile, execGrant("web"),
			[]string{"Warn base/guardrails.shell: no shell", "Warn base/other.kebab-case: no reason"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := judge(bundle.InForce(accepted(tc.archive, tc.spec), tc.archive), tc.at, tc.in)
			for i := range got { // what a ceiling says is its own business
				if at := strings.Index(got[i], ceiling); at >= 0 {
					got[i] = got[i][:at+len(ceiling)]
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\nreasons (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	raw := build(t, three())
	terms := &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Minute}}
	got := map[string]time.Duration{}
	for _, g := range bundle.InForce(accepted(raw, v1alpha1.GuardrailBundleSpec{Exceptions: terms}), raw) {
		got[g.Name] = g.Exceptions.Longest
	}
	want := map[string]time.Duration{"base/no-exec": time.Minute, "base/reason": time.Hour, "base/tenants": time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("longest exceptions (-want +got):\n%s", diff)
	}
}

// TestInForce: S16. Where the bundle is not there, or another, nothing that it
// matches is passed at any point, and nothing else is touched. What the bundle says
// of enforcement and points does not count, since each guardrail of it may say
// otherwise; nor is a namespace one without a ceiling, since one of them may be it.
func TestInForce(t *testing.T) {
	raw := build(t, three())
	web := v1alpha1.GuardrailBundleSpec{
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest}, Enforcement: v1alpha1.EnforcementAudit,
		Match: &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"web"}}},
	}
	none := accepted(raw, web)
	none.Status.Active = nil
	broken := archive(t, entry{name: ".manifest", content: manifest42})
	tests := map[string]struct {
		reason  string
		bundle  *v1alpha1.GuardrailBundle
		archive []byte
		want    string
	}{
		"NotYet":  {"No bundle was accepted.", none, raw, `no bundle "base" has been accepted yet`},
		"Lost":    {"Its archive is lost.", accepted(raw, web), nil, "is not there"},
		"Other":   {"S25: its archive is another.", accepted(raw, web), build(t, bundle.Manifest{Revision: three().Revision, Guardrails: map[string]v1alpha1.GuardrailSpec{"a": {Ceiling: &v1alpha1.Ceiling{}}}}), "was accepted"},
		"Corrupt": {"What was accepted cannot be read any more.", accepted(raw[:200], web), raw[:200], "cannot be unpacked"},
		"Empty":   {"Nor is there anything in it.", accepted(broken, web), broken, "holds no guardrails"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			all := bundle.InForce(tc.bundle, tc.archive)
			if len(all) != 1 || all[0].Name != "base" || all[0].Check != nil || all[0].Err == nil {
				t.Fatalf("%s\nin force %+v", tc.reason, all)
			}
			check(t, tc.reason, tc.want, all[0].Err)
			set := guardrail.NewSet(all, nil, guardrail.Options{})
			strict := guardrail.NewSet(all, nil, guardrail.Options{RequireCeiling: true})
			for p := guardrail.Plan; p <= guardrail.Request; p++ {
				if v := set.Judge(p, execGrant("web")).Verdict; v != guardrail.Undecided {
					t.Errorf("%s\nat %v what it matches is %v", tc.reason, p, v)
				}
				if v := strict.Judge(p, execGrant("web")).Verdict; v != guardrail.Undecided {
					t.Errorf("%s\nat %v what it matches is %v where a ceiling is required", tc.reason, p, v)
				}
				if v := set.Judge(p, execGrant("shop")).Verdict; v != guardrail.Allowed {
					t.Errorf("%s\nat %v what it does not match is %v", tc.reason, p, v)
				}
			}
			if v := strict.Judge(guardrail.Compile, execGrant("shop")).Verdict; v != guardrail.Denied {
				t.Errorf("%s\nwhat has no ceiling is %v where one is required", tc.reason, v)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	raw := build(t, three())
	digest := func(spec v1alpha1.GuardrailBundleSpec, archive []byte) string {
		return guardrail.NewSet(bundle.InForce(accepted(archive, spec), archive), nil, guardrail.Options{}).Digest()
	}
	same := digest(v1alpha1.GuardrailBundleSpec{}, raw)
	if digest(v1alpha1.GuardrailBundleSpec{Interval: metav1.Duration{Duration: time.Hour}}, raw) != same {
		t.Error("the policy is another where only the interval is")
	}
	if digest(v1alpha1.GuardrailBundleSpec{Points: []v1alpha1.GuardrailPoint{v1alpha1.PointPlan}}, raw) == same {
		t.Error("asked at other points, the policy is the same")
	}
	m := three()
	m.Description = "Other"
	if digest(v1alpha1.GuardrailBundleSpec{}, build(t, m)) == same {
		t.Error("another archive is the same policy")
	}
}

func BenchmarkInForce(b *testing.B) {
	raw := build(b, three())
	object := accepted(raw, v1alpha1.GuardrailBundleSpec{})
	for b.Loop() {
		if len(bundle.InForce(object, raw)) != 3 {
			b.Fatal("not in force")
		}
	}
}
