package cel_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

// doubling is variables each of which is twice the one before.
func doubling(n int, first, twice, last string) *v1alpha1.CELPolicy {
	p := policy(fmt.Sprintf(last, fmt.Sprint("variables.v", n-1)))
	for i := range n {
		x := first
		if i > 0 {
			x = strings.ReplaceAll(twice, "$", fmt.Sprint("variables.v", i-1))
		}
		p.Variables = append(p.Variables, v1alpha1.CELVariable{Name: fmt.Sprint("v", i), Expression: x})
	}
	return p
}

// big is a policy in which variables.big, and variables.text and variables.same,
// which are equal, have sizes that the estimate cannot see.
func big(expression string) *v1alpha1.CELPolicy {
	p := policy(expression)
	p.Variables = []v1alpha1.CELVariable{{Name: "big", Expression: "lists.range(50000)"}}
	for _, name := range []string{"text", "same"} {
		for i, n := 8, 0; i >= 0; i, n = i-1, n+1 {
			v := v1alpha1.CELVariable{Name: fmt.Sprint(name, i), Expression: fmt.Sprintf("variables.%[1]s%[2]d + variables.%[1]s%[2]d", name, i+1)}
			if n == 0 {
				v.Expression = "'" + strings.Repeat("x", 3000) + "'"
			}
			if i == 0 {
				v.Name = name
			}
			p.Variables = append(p.Variables, v)
		}
	}
	return p
}

// TestBig: what TestHostile is made of is not too much by itself.
func TestBig(t *testing.T) {
	p := big("variables.big.size() == 50000 && variables.text.size() == 768000 && variables.same == variables.text")
	if got, err := compile(t, p).Check(grantInput()); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestHostile: S22. What asks for too much is cut off with an error: by what it asks
// for, before it gets it, and not by a clock.
func TestHostile(t *testing.T) {
	long := strings.Repeat("x", 3000)
	tests := map[string]*v1alpha1.CELPolicy{
		"Loops":            big("variables.big.all(a, variables.big.all(b, variables.big.all(c, a + b + c >= 0)))"),
		"EmptyLoops":       big("variables.big.exists(a, variables.big.filter(b, false).size() == 1)"),
		"LoopsInVariables": doubling(32, "lists.range(700).map(x, x)", "$.map(x, $.filter(y, y == 0).size())", "%s.size() == 0"),
		"Text":             doubling(32, "'"+long+"'", "$ + $", "%s == ''"),
		"TextInLoop":       big("variables.big.map(x, '" + long + "').join() == ''"),
		"Format":           doubling(20, "'"+long+"'", "'%s%s'.format([$, $])", "%s == ''"),
		"Digits":           policy("'%.999999999f'.format([1.0]) == ''"),
		"DigitsMade":       policy("('%.99999' + '9999f').format([1.0]) == ''"),
		"Replace":          big("variables.text.replace('', variables.text) == ''"),
		"ReplaceSome":      big("variables.text.replace('x', variables.text, 100000) == ''"),
		"Join":             big("variables.big.map(x, 'x').join(variables.text) == ''"),
		"Split":            doubling(12, "'"+long+"'", "$.split('').join($)", "%s == ''"),
		"Lists":            doubling(32, "[1, 2, 3]", "$ + $", "%s.exists(x, x == 5)"),
		"ListsIn":          doubling(32, "[1, 2, 3]", "$ + $", "5 in %s"),
		"NestedLists":      doubling(32, "[1]", "[$, $]", "%[1]s == %[1]s.map(x, x)"),
		"NestedDyn":        policy("[1]" + strings.Repeat(".map(x, dyn([x, x]))", 60) + " == [dyn(1)]"),
		"NestedMaps":       doubling(32, "{'a': 1}", "{'a': dyn($), 'b': dyn($)}", "%s.size() == 0"),
		"MapBuilding":      big("variables.big.transformMap(i, v, variables.big.map(x, x)).size() == 0"),
		"Sets":             big("sets.contains(variables.big, variables.big)"),
		"Distinct":         big("variables.big.map(x, [x]).distinct().size() == 0"),
		"IndexOf":          big("variables.text.indexOf(variables.text.substring(1) + 'y') == 0"),
		"Range":            big("variables.big.map(x, lists.range(10 * variables.big.size())).size() == 0"),
		"Flatten":          big("variables.big.map(x, variables.big).flatten().size() == 0"),
		"Sort":             big("variables.big.map(x, variables.big.sort()[0]).size() == 0"),
		"Pattern":          big("variables.text.matches('(x?){900}y')"),
		"MadePattern":      policy("input.version.matches('" + strings.Repeat("(a{900})", 100) + "' + 'b')"),
		"LongPattern":      big("'x'.matches(variables.text)"),
		"ManyPatterns":     big("variables.big.exists(x, 'x'.matches('(a{900})' + string(x)))"),
		"FindAll":          big("variables.big.exists(x, variables.text.findAll('x').size() == 0)"),
		"Contains":         big("variables.big.exists(x, variables.text.contains('y'))"),
		"Equal":            big("variables.big.all(x, variables.text == variables.same)"),
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			c, errs := cel.Compile(field.NewPath("spec", "cel"), p, nil, cel.Options{})
			if len(errs) > 0 && (name == "Digits" || name == "NestedDyn" || name == "Range") {
				return // refused, which is better
			}
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			got, err := c.Check(grantInput())
			if err == nil {
				t.Fatalf("got %v and no error", got)
			}
			want := "costs more than a policy may"
			if name == "MadePattern" {
				want = "regular expression is too large"
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v, want one that %s", err, want)
			}
			again, err2 := c.Check(grantInput())
			if err2 == nil || err.Error() != err2.Error() {
				t.Errorf("not the same twice: %v, %v and %v, %v", got, err, again, err2)
			}
		})
	}
}
