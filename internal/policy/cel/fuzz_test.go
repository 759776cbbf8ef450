package cel_test

import (
	"math/rand/v2"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

var seeds = []string{
	"true", "input.access.all(a, a.rules.all(r, !rbac.allows(r, 'get', '', 'secrets')))", "input.request.verb in ['get', 'list']",
	"input.?grant.?spec.orValue(1)", "dyn(input)[0]", "[1, 2].map(x, x * 2).exists(x, x == input)", "{'a': 1}.transformMap(k, v, v)",
	"'%s %d'.format([input.version, 1]) == ''", "sallyport.Grant{metadata: 1} == 2", "type(input) == sallyport.Input", "optional.none().value()",
	"input.now - duration('1h') > timestamp(0)", "'a'.matches('(b{2}){3}')", "b'a' in [b'a']", "[[1]].flatten().sort()", "\x00", "((((((((", "1u + 1u",
	"[1, 'a'] == [dyn(1)]", "cidr('10.0.0.0/8').containsIP('10.0.0.1')", "input.parameters.a.b.c[0]", "has(input.grant.spec.access[0].rules)",
}

// FuzzCompile: S22. No expression makes the compiler panic, and each error is at
// the expression.
func FuzzCompile(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		p := &v1alpha1.CELPolicy{
			Variables:   []v1alpha1.CELVariable{{Name: "x", Expression: expression}},
			Validations: []v1alpha1.CELValidation{{Expression: expression, MessageExpression: expression}},
		}
		c, errs := cel.Compile(field.NewPath("spec", "cel"), p, nil, cel.Options{})
		if (c == nil) != (len(errs) > 0) {
			t.Errorf("a check and errors, or neither: %v, %v", c, errs)
		}
	})
}

// FuzzCheck: S22. No expression panics, and each has the same answer twice, of
// which the messages can be shown.
func FuzzCheck(f *testing.F) {
	for i, s := range seeds {
		f.Add(s, uint64(i))
	}
	f.Fuzz(func(t *testing.T, expression string, seed uint64) {
		p := &v1alpha1.CELPolicy{
			Variables:   []v1alpha1.CELVariable{{Name: "x", Expression: expression}},
			Validations: []v1alpha1.CELValidation{{Expression: "dyn(variables.x) == true", MessageExpression: "string(dyn(variables.x))"}},
		}
		c, errs := cel.Compile(field.NewPath("spec", "cel"), p, parameters(), cel.Options{})
		if len(errs) > 0 {
			return
		}
		in := anyInput(rand.New(rand.NewPCG(seed, 0)))
		got, err := c.Check(in)
		again, err2 := c.Check(fresh(in))
		if diff := cmp.Diff(got, again); diff != "" || (err == nil) != (err2 == nil) {
			t.Errorf("not the same twice: %s %v %v", diff, err, err2)
		}
		for _, v := range got {
			if !utf8.ValidString(v.Message) || utf8.RuneCountInString(v.Message) > 1024 || v.Message == "" {
				t.Errorf("message %q", v.Message)
			}
			for _, r := range v.Message {
				if unicode.IsControl(r) {
					t.Errorf("message %q", v.Message)
				}
			}
		}
	})
}
