package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func readPods() *v1alpha1.Ceiling {
	return &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
}

func object(raw string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(raw)} }

// grantOf a resource in a namespace.
func grantOf(namespace, resource string) *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: namespace, Name: "oncall"},
			Spec:     &v1alpha1.AccessGrantSpec{Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}}},
		},
		Namespace: &guardrail.Namespace{Name: namespace},
		Access: []*guardrail.Access{{
			Field: "spec.access[0]", Known: true, Namespaces: []string{"a"},
			Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}},
		}},
	}
}

func TestCompile(t *testing.T) {
	g, errs := Compile("most", &v1alpha1.GuardrailSpec{
		Ceiling: readPods(), Exceptions: &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Hour}},
	}, Options{})
	if len(errs) > 0 || g.Err != nil {
		t.Fatal(errs, g.Err)
	}
	if g.Name != "most" || g.Enforcement != v1alpha1.EnforcementDeny || g.Points != guardrail.GrantPoints || g.Exceptions.Longest != time.Hour || !g.Ceiling {
		t.Errorf("the guardrail is %+v", g)
	}
	set := guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{RequireCeiling: true})
	for resource, want := range map[string]guardrail.Verdict{"pods": guardrail.Allowed, "secrets": guardrail.Denied} {
		if got := set.Judge(guardrail.Compile, grantOf("payments", resource)).Verdict; got != want {
			t.Errorf("%s: %v, want %v", resource, got, want)
		}
	}
}

// TestStalled: S16. What does not compile is told by its field, and is a guardrail
// that nothing passes.
func TestStalled(t *testing.T) {
	near := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Near"}}}
	tests := map[string]struct {
		reason string
		spec   v1alpha1.GuardrailSpec
		want   []string
	}{
		"Zero":        {"A guardrail has a policy.", v1alpha1.GuardrailSpec{}, []string{"spec: Invalid value: must have exactly one of"}},
		"TwoEngines":  {"And one.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Rego: &v1alpha1.RegoPolicy{Module: "package a"}}, []string{"spec: Invalid value: must have exactly one of"}},
		"Enforcement": {"An enforcement is one of three.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Enforcement: "Maybe"}, []string{`spec.enforcement: Unsupported value: "Maybe"`}},
		"Points":      {"A point is one of four.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Points: []v1alpha1.GuardrailPoint{"Plan", "Later"}}, []string{`spec.points[1]: Unsupported value: "Later"`}},
		"Selector": {"A selector is read.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Match: &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: near}}},
			[]string{`spec.match: Invalid value: match.namespaces.selector: "Near" is not a valid label selector operator`}},
		"CeilingAtRequest":     {"A ceiling is not for requests.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Points: []v1alpha1.GuardrailPoint{"Request"}}, []string{"spec.points: Forbidden: a ceiling"}},
		"CeilingMatch":         {"A ceiling is for namespaces.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Match: &v1alpha1.GuardrailMatch{Verbs: []string{"get"}}}, []string{"spec.match: Forbidden: a ceiling"}},
		"CeilingParameters":    {"A ceiling has no parameters.", v1alpha1.GuardrailSpec{Ceiling: readPods(), Parameters: object("{}")}, []string{"spec.parameters: Forbidden: a ceiling"}},
		"Ceiling":              {"The ceiling says where.", v1alpha1.GuardrailSpec{Ceiling: &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{{}}}}, []string{"spec.ceiling.rules[0]: Invalid value: a rule has no verbs"}},
		"ParametersList":       {"Parameters are an object.", v1alpha1.GuardrailSpec{CEL: &v1alpha1.CELPolicy{}, Parameters: object("[1]")}, []string{"spec.parameters: Invalid value: must be an object"}},
		"ParametersNull":       {"Which null is not.", v1alpha1.GuardrailSpec{CEL: &v1alpha1.CELPolicy{}, Parameters: object("null")}, []string{"spec.parameters: Invalid value: must be one object"}},
		"ParametersTwo":        {"One object.", v1alpha1.GuardrailSpec{CEL: &v1alpha1.CELPolicy{}, Parameters: object("{} {}")}, []string{"spec.parameters: Invalid value: must be one object"}},
		"ParametersUnreadable": {"In JSON.", v1alpha1.GuardrailSpec{CEL: &v1alpha1.CELPolicy{}, Parameters: object("{")}, []string{"spec.parameters: Invalid value: must be an object"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			g, errs := Compile("bad", &tc.spec, Options{})
			var got []string
			for i, e := range errs {
				got = append(got, e.Error())
				if i < len(tc.want) && strings.HasPrefix(got[i], tc.want[i]) {
					got[i] = tc.want[i]
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if g.Check != nil || g.Err == nil || g.Digest == "" {
				t.Errorf("the guardrail is not stalled: %+v", g)
			}
			set := guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{})
			if v := set.Judge(guardrail.Plan, grantOf("payments", "pods")).Verdict; g.Points.Has(guardrail.Plan) && v == guardrail.Allowed {
				t.Error("a grant passes a guardrail that is stalled")
			}
		})
	}
}

// TestStalledReach: S16. What is stalled refuses what it matches, and nothing else.
// What it matches is everything if that cannot be told.
func TestStalledReach(t *testing.T) {
	stalledIn := func(m *v1alpha1.GuardrailMatch) *guardrail.Set {
		bad, _ := Compile("bad", &v1alpha1.GuardrailSpec{Match: m}, Options{})
		good, errs := Compile("good", &v1alpha1.GuardrailSpec{Ceiling: readPods()}, Options{})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return guardrail.NewSet([]*guardrail.Guardrail{bad, good}, nil, guardrail.Options{})
	}
	one := stalledIn(&v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"payments"}}})
	unreadable := stalledIn(&v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Near"}},
	}}})
	for name, tc := range map[string]struct {
		set                 *guardrail.Set
		namespace, resource string
		want                guardrail.Verdict
	}{
		"Matched":        {one, "payments", "pods", guardrail.Undecided},
		"MatchedDenied":  {one, "payments", "secrets", guardrail.Denied},
		"Other":          {one, "web", "pods", guardrail.Allowed},
		"OtherDenied":    {one, "web", "secrets", guardrail.Denied},
		"UnreadableElse": {unreadable, "web", "pods", guardrail.Undecided},
	} {
		if got := tc.set.Judge(guardrail.Compile, grantOf(tc.namespace, tc.resource)).Verdict; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	lost, _ := Compile("lost", &v1alpha1.GuardrailSpec{Ceiling: readPods(), Points: []v1alpha1.GuardrailPoint{"Later"}}, Options{})
	for p := guardrail.Plan; p <= guardrail.Request; p++ {
		if !lost.Points.Has(p) {
			t.Errorf("a guardrail for a point that there is not is not asked at %v", p)
		}
	}
}

// TestStalledCeiling: S16. A ceiling that cannot be read is one all the same: where
// ceilings are required the grants below it do not widen, but none is revoked.
func TestStalledCeiling(t *testing.T) {
	near := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Near"}}}
	for name, spec := range map[string]v1alpha1.GuardrailSpec{
		"Rules":       {Ceiling: &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{{}}}},
		"Match":       {Ceiling: readPods(), Match: &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: near}}},
		"Parameters":  {Ceiling: readPods(), Parameters: object("{}")},
		"Enforcement": {Ceiling: readPods(), Enforcement: "Maybe"},
	} {
		g, errs := Compile("bad", &spec, Options{})
		if len(errs) == 0 {
			t.Fatalf("%s: it compiles", name)
		}
		set := guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{RequireCeiling: true})
		if got := set.Judge(guardrail.Compile, grantOf("payments", "pods")).Verdict; got != guardrail.Undecided {
			t.Errorf("%s: %v, want %v", name, got, guardrail.Undecided)
		}
	}
}

// TestDigest: S14. Whatever changes in a guardrail, its digest does: each field of
// the API, down to the last.
func TestDigest(t *testing.T) {
	seen := map[string]string{}
	note := func(what string, spec *v1alpha1.GuardrailSpec) {
		g, _ := Compile("g", spec, Options{})
		if again, _ := Compile("g", spec.DeepCopy(), Options{}); again.Digest != g.Digest {
			t.Errorf("%s: the digest of a copy is another", what)
		}
		if other, ok := seen[g.Digest]; ok {
			t.Errorf("%s and %s have one digest", what, other)
		}
		seen[g.Digest] = what
	}
	note("zero", &v1alpha1.GuardrailSpec{})
	changes := 0
	vary(reflect.TypeFor[v1alpha1.GuardrailSpec](), "spec", func(what string, v reflect.Value) {
		changes++
		spec := v.Interface().(v1alpha1.GuardrailSpec)
		note(what, &spec)
	})
	if changes < 40 {
		t.Errorf("only %d fields are changed", changes)
	}
	for _, raw := range []string{"{", "[", "{} {}", `{"a":1}`, `{"a":2}`} {
		note("parameters "+raw, &v1alpha1.GuardrailSpec{Parameters: object(raw)})
	}
}

// vary yields values of a type that each have one thing set, below which all else
// is zero.
func vary(typ reflect.Type, path string, yield func(string, reflect.Value)) {
	set := func(v any) {
		out := reflect.New(typ).Elem()
		out.Set(reflect.ValueOf(v).Convert(typ))
		yield(path, out)
	}
	switch typ {
	case reflect.TypeFor[metav1.Duration]():
		set(metav1.Duration{Duration: time.Minute})
		return
	case reflect.TypeFor[apiextensionsv1.JSON]():
		set(apiextensionsv1.JSON{Raw: []byte(`{"b":true}`)})
		return
	}
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			vary(typ.Field(i).Type, path+"."+typ.Field(i).Name, func(what string, v reflect.Value) {
				out := reflect.New(typ).Elem()
				out.Field(i).Set(v)
				yield(what, out)
			})
		}
	case reflect.Pointer:
		vary(typ.Elem(), path, func(what string, v reflect.Value) {
			out := reflect.New(typ.Elem())
			out.Elem().Set(v)
			yield(what, out)
		})
	case reflect.Slice:
		vary(typ.Elem(), path+"[0]", func(what string, v reflect.Value) { yield(what, reflect.Append(reflect.Zero(typ), v)) })
	case reflect.Map:
		vary(typ.Elem(), path+"[a]", func(what string, v reflect.Value) {
			out := reflect.MakeMap(typ)
			out.SetMapIndex(reflect.ValueOf("a").Convert(typ.Key()), v)
			yield(what, out)
		})
	case reflect.Bool:
		set(true)
	case reflect.String:
		set("x")
	default:
		panic("a field of a kind that is not varied: " + path)
	}
}
