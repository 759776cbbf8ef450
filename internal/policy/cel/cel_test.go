package cel_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
	"github.com/sallyport-dev/sallyport/internal/policy/coverage"
)

func number(s string) json.Number { return json.Number(s) }

func TestCompileErrors(t *testing.T) {
	variable := func(name, expression string) v1alpha1.CELVariable {
		return v1alpha1.CELVariable{Name: name, Expression: expression}
	}
	tests := map[string]struct {
		reason string
		policy *v1alpha1.CELPolicy
		want   []string
	}{
		"Field": {
			reason: "A misspelt field is found before it is ever evaluated.",
			policy: policy("input.gramt.spec.reason != ''"),
			want:   []string{"validations[0].expression: 1:6: undefined field 'gramt'"},
		},
		"DeepField": {
			reason: "So it is in a list, on the line on which it is.",
			policy: policy("true", "input.access.all(a,\n  a.rules.all(r, r.verb != '*'))"),
			want:   []string{"validations[1].expression: 2:19: undefined field 'verb'"},
		},
		"ObjectMeta": {
			reason: "What is in Kubernetes' metadata and not in the document is not there.",
			policy: policy("input.grant.metadata.uid == ''"),
			want:   []string{"validations[0].expression: 1:21: undefined field 'uid'"},
		},
		"Type": {
			reason: "Types are checked.",
			policy: policy("input.now == 'noon'"),
			want:   []string{"validations[0].expression: 1:11: found no matching overload for '_==_' applied to '(timestamp, string)'"},
		},
		"Syntax": {
			reason: "What cannot be parsed is told where.",
			policy: policy("input.grant &&"),
			want:   []string{"validations[0].expression: 1:15: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"},
		},
		"NotBool": {
			reason: "A validation is true or false.",
			policy: policy("input.grant.spec.reason"),
			want:   []string{"validations[0].expression: 1:1: must be of type bool and is of type string"},
		},
		"Dyn": {
			reason: "What may be anything may be no bool.",
			policy: policy("input.parameters.on"),
			want:   []string{"validations[0].expression: 1:1: must be of type bool and is of type dyn"},
		},
		"MessageNotString": {
			reason: "A message is a string.",
			policy: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "true", MessageExpression: "1 + 1"}}},
			want:   []string{"validations[0].messageExpression: 1:1: must be of type string and is of type int"},
		},
		"Variables": {
			reason: "Variables are known to those after them, with their types, and every error is told.",
			policy: &v1alpha1.CELPolicy{
				Variables:   []v1alpha1.CELVariable{variable("a", "variables.b"), variable("b", "input.access"), variable("b", "1"), variable("c", "variables.b[0].nothing")},
				Validations: policy("variables.d == 1").Validations,
			},
			want: []string{
				"variables[0].expression: 1:1: undeclared reference to 'variables' (in container '')",
				"variables[2].name: Duplicate value: \"b\"",
				"variables[3].expression: 1:15: undefined field 'nothing'",
				"validations[0].expression: 1:1: undeclared reference to 'variables' (in container '')",
			},
		},
		"Pattern": {
			reason: "A regular expression is compiled with the policy.",
			policy: policy("input.version.matches('a(')"),
			want:   []string{"validations[0].expression: 1:23: error parsing regexp: missing closing ): `a(`"},
		},
		"HugePattern": {
			reason: "S22: a regular expression that would take a gigabyte is not even compiled.",
			policy: policy("input.version.matches('" + strings.Repeat("(a{1000}b{1000})", 100) + "')"),
			want:   []string{"validations[0].expression: 1:23: the regular expression is too large"},
		},
		"Cost": {
			reason: "S22: what is too expensive on any large grant is refused.",
			policy: policy("input.access.all(a, input.access.all(b, input.access.all(c, input.access.all(d, input.access.all(e, a == b && c == d && a == e)))))"),
			want:   []string{"validations[0].expression: 1:1: its loops in one another are too many, or go through too much"},
		},
		"Empty": {
			reason: "A policy that objects to nothing is a mistake.",
			policy: &v1alpha1.CELPolicy{},
			want:   []string{"validations: Required value: without any, nothing is refused"},
		},
		"VariableName": {
			reason: "What is no name cannot be declared.",
			policy: &v1alpha1.CELPolicy{Variables: []v1alpha1.CELVariable{variable("a.b", "1")}, Validations: policy("true").Validations},
			want:   []string{"variables[0].name: must be the name of a variable"},
		},
		"Rule": {
			reason: "rbac.allows is typed as well.",
			policy: policy("rbac.allows(input.grant, 'get', '', 'pods')"),
			want:   []string{"validations[0].expression: 1:12: found no matching overload for 'rbac.allows' applied to '(sallyport.Grant, string, string, string)'"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, errs := cel.Compile(field.NewPath("spec", "cel"), tc.policy, nil, cel.Options{})
			var got []string
			for _, e := range errs {
				s := strings.TrimPrefix(e.Error(), "spec.cel.")
				got = append(got, strings.Replace(s, "Invalid value: ", "", 1))
			}
			same := cmp.Comparer(func(a, b string) bool {
				return a == b || name == "Cost" && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
			})
			if diff := cmp.Diff(tc.want, got, same); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		expression string
		in         *guardrail.Input
		want       string // true, false, or what is in the error
	}{
		"Reason":        {"input.grant.spec.reason.matches('[A-Z]+-[0-9]+')", grantInput(), "true"},
		"Labels":        {"input.grant.metadata.labels.team == input.namespace.name", grantInput(), "true"},
		"LabelByKey":    {"input.namespace.labels['tier'] == 'tenant'", grantInput(), "true"},
		"Subjects":      {"input.grant.spec.subjects.all(s, s.kind != 'User')", grantInput(), "true"},
		"SubjectsIn":    {"input.grant.spec.subjects.exists(s, has(s.namespace) && s.namespace == 'ci')", grantInput(), "true"},
		"Exec":          {"!input.access.exists(a, a.rules.exists(r, rbac.allows(r, 'create', '', 'pods/exec')))", grantInput(), "true"},
		"Log":           {"input.access.exists(a, a.rules.exists(r, rbac.allows(r, 'get', '', 'pods/log')))", grantInput(), "true"},
		"Spec":          {"input.grant.spec.access.exists(a, has(a.rules) && a.rules.exists(r, '/metrics' in r.nonResourceURLs))", grantInput(), "true"},
		"SpecRule":      {"input.grant.spec.access.all(a, !has(a.rules) || a.rules.all(r, !rbac.allows(r, 'get', '', 'pods')))", grantInput(), "true"},
		"Role":          {"input.roles['view'].rules.size() == 2", grantInput(), "true"},
		"Roles":         {"input.roles.all(name, input.roles[name].rules.size() > 0)", grantInput(), "true"},
		"TwoVariables":  {"input.roles.all(name, role, role.rules.all(i, r, i < 2 && size(r.verbs) > 0))", grantInput(), "true"},
		"Wildcards":     {"input.access.all(a, a.rules.all(r, !('*' in r.verbs)))", grantInput(), "true"},
		"Validity":      {"input.grant.spec.validity.notAfter - input.now <= duration('24h')", grantInput(), "true"},
		"TooLong":       {"input.grant.spec.validity.notAfter - input.now < duration('24h')", grantInput(), "false"},
		"Clusters":      {"input.clusters.all(c, c.labels['env'] == 'prod' && c.claims.version.startsWith('1.'))", grantInput(), "true"},
		"Names":         {"input.clusters.map(c, c.name) == ['prod-1']", grantInput(), "true"},
		"Source":        {"input.source.author.endsWith('@' + string(input.parameters.domains[0]))", grantInput(), "true"},
		"Number":        {"input.parameters.hours == 8 && input.parameters.hours < 8.5 && input.parameters.share == 0.5 && input.parameters.on == true", grantInput(), "true"},
		"NoParameter":   {"has(input.parameters.minutes)", grantInput(), "false"},
		"Selector":      {"input.grant.spec.clusters.selector.matchLabels['env'] == 'prod'", grantInput(), "true"},
		"Equal":         {"input.access[0].rules == input.roles['view'].rules", grantInput(), "true"},
		"NotEqual":      {"input.access[0] != input.access[1]", grantInput(), "true"},
		"InObjects":     {"input.access[1] in input.access", grantInput(), "true"},
		"Optional":      {"input.grant.spec.?validity.?notBefore.orValue(input.now) == input.now", grantInput(), "true"},
		"OptionalFull":  {"input.?namespace.?labels['tier'].or(optional.of('x')).value() == 'tenant'", grantInput(), "true"},
		"OptionalError": {"optional.none().orValue(1 / 0) == 1", grantInput(), "division by zero"},
		"OptionalLazy":  {"optional.of(2).orValue(1 / 0) == 2", grantInput(), "true"},
		"Whole":         {"dyn(input).version == 'v1alpha1' && has(dyn(input).grant) && !has(dyn(input).request) && input == input", grantInput(), "true"},
		"WholeRequest":  {"[input.request].all(r, r.verb == 'create' && r.user.name == 'ann') && dyn(input.request).verb == 'create'", requestInput(), "true"},
		"Map":           {"{'b': 1, 'a': 2}.map(k, k) == ['a', 'b'] && input.clusters[0].labels.map(k, k) == ['env', 'region']", grantInput(), "true"},
		"Lists":         {"[3, 1, 2].sort() == [1, 2, 3] && sets.contains([1, 2], [1]) && [1, 2].exists_one(x, x > 1) && [1, 1].distinct() == [1]", grantInput(), "true"},
		"Kubernetes":    {"quantity('1Ki').isGreaterThan(quantity('1')) && ip('10.0.0.1').family() == 4 && url('https://a/b').getHost() == 'a' && !format.dns1123Label().validate('A').hasValue() == false", grantInput(), "true"},
		"Texts":         {"'%s-%d'.format(['a', 1]) == 'a-1' && 'a,b'.split(',').join('+') == 'a+b' && 'aXb'.replace('X', '') == 'ab' && 'abc'.find('b.') == 'bc' && 'abab'.findAll('ab', 1) == ['ab']", grantInput(), "true"},
		"DynPattern":    {"input.source.author.matches('.*@' + input.parameters.domains[0])", grantInput(), "true"},
		"BadPattern":    {"input.source.author.matches('a' + '(')", grantInput(), "missing closing"},
		"Hours":         {"input.now.getHours('Europe/Berlin') == 6 && input.now.getDayOfWeek() == 3", grantInput(), "true"},
		"Request":       {"input.request.verb == 'create' && input.request.subresource in ['exec', 'attach'] && input.request.resourceRequest", requestInput(), "true"},
		"Groups":        {"'oncall' in input.request.user.groups && !('admin' in input.request.user.groups)", requestInput(), "true"},
		"Extra":         {"input.request.user.extra['scopes'].exists(s, s == 'b')", requestInput(), "true"},
		"Cluster":       {"input.request.cluster.labels.env == 'prod'", requestInput(), "true"},
		"Grants":        {"input.grants.exists(g, g.reason.contains('OPS-') && !has(g.notAfter))", requestInput(), "true"},

		// S15: what is absent is so in both languages.
		"HasRequest":     {"has(input.request)", grantInput(), "false"},
		"HasGrant":       {"has(input.grant)", requestInput(), "false"},
		"AbsentRequest":  {"input.request.verb == 'get'", grantInput(), "request is absent"},
		"AbsentGrants":   {"input.grants.size() == 0", grantInput(), "grants is absent"},
		"AbsentLabels":   {"has(input.grant.metadata.annotations)", grantInput(), "false"},
		"AbsentLabel":    {"input.namespace.labels['nothing'] == ''", grantInput(), "no such key"},
		"AbsentSuspend":  {"input.grant.spec.suspend", grantInput(), "suspend is absent"},
		"HasSuspend":     {"has(input.grant.spec.suspend)", grantInput(), "false"},
		"AbsentRoleRef":  {"input.grant.spec.access.all(a, has(a.roleRef) != has(a.rules))", grantInput(), "true"},
		"AbsentValidity": {"has(input.grant.spec.validity.notBefore)", grantInput(), "false"},
		"PresentEmpty":   {"has(input.request.apiGroup) && input.request.apiGroup == '' && has(input.request.user.uid)", requestInput(), "true"},
		"NilList":        {"has(input.access) && input.access[1].namespaces == []", grantInput(), "true"},
		"AbsentOr":       {"input.request.verb == 'get' || true", grantInput(), "true"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, policy(tc.expression)).Check(tc.in)
			switch {
			case tc.want == "true" && (err != nil || len(got) > 0), tc.want == "false" && (err != nil || len(got) != 1),
				tc.want != "true" && tc.want != "false" && (err == nil || len(got) > 0 || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%s: got %v, %v; want %s", tc.expression, got, err, tc.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	validation := func(v v1alpha1.CELValidation) *v1alpha1.CELPolicy {
		return &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{v}}
	}
	tests := map[string]struct {
		reason string
		policy *v1alpha1.CELPolicy
		want   []guardrail.Violation
		err    string
	}{
		"Expression": {
			reason: "Without a message the expression is one.",
			policy: policy("has(input.request)"),
			want:   []guardrail.Violation{{Message: "failed: has(input.request)"}},
		},
		"Message": {
			reason: "The message and the field are as they are given.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", Message: "no", Field: "spec.validity"}),
			want:   []guardrail.Violation{{Message: "no", Field: "spec.validity"}},
		},
		"MessageExpression": {
			reason: "A messageExpression goes first.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", Message: "no", MessageExpression: "'not for ' + input.namespace.name"}),
			want:   []guardrail.Violation{{Message: "not for payments"}},
		},
		"MessageExpressionFails": {
			reason: "One that fails leaves the message.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", Message: "no", MessageExpression: "input.request.verb"}),
			want:   []guardrail.Violation{{Message: "no"}},
		},
		"MessageExpressionEmpty": {
			reason: "One that is empty leaves the expression.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", MessageExpression: "'  '"}),
			want:   []guardrail.Violation{{Message: "failed: false"}},
		},
		"Control": {
			reason: "S25: a message cannot write to a terminal, nor on other lines.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", MessageExpression: `'a\nb\u001b[31mred\u202e\u0000'`}),
			want:   []guardrail.Violation{{Message: "a b[31mred"}},
		},
		"Long": {
			reason: "A message is 1,024 runes at most.",
			policy: validation(v1alpha1.CELValidation{Expression: "false", MessageExpression: "lists.range(2000).map(i, 'ä').join()"}),
			want:   []guardrail.Violation{{Message: strings.Repeat("ä", 1023) + "…"}},
		},
		"All": {
			reason: "Every validation is evaluated.",
			policy: policy("false", "true", "1 > 2"),
			want:   []guardrail.Violation{{Message: "failed: false"}, {Message: "failed: 1 > 2"}},
		},
		"ViolationAndError": {
			reason: "A definite objection is no less so where another validation fails.",
			policy: policy("input.request.verb == ''", "false"),
			want:   []guardrail.Violation{{Message: "failed: false"}},
		},
		"Errors": {
			reason: "Where nothing is violated, every error is told.",
			policy: policy("input.request.verb == ''", "true", "1 / 0 == 1"),
			err:    "validations[0]: request is absent\nvalidations[2]: division by zero",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, tc.policy).Check(grantInput())
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("%s Got error %v.", tc.reason, err)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	p := &v1alpha1.CELPolicy{
		Variables: []v1alpha1.CELVariable{
			{Name: "rules", Expression: "input.access.map(a, a.rules).flatten()"},
			{Name: "verbs", Expression: "variables.rules.map(r, r.verbs).flatten()"},
			{Name: "broken", Expression: "input.request.verb"},
		},
		Validations: policy("variables.rules[0].verbs[0] == 'get'", "'watch' in variables.verbs && !('*' in variables.verbs)",
			"has(input.grant) || variables.broken == ''").Validations,
	}
	if got, err := compile(t, p).Check(grantInput()); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
	p.Validations = policy("variables.broken == ''").Validations
	if _, err := compile(t, p).Check(grantInput()); err == nil || !strings.Contains(err.Error(), "request is absent") {
		t.Errorf("a variable that fails: got error %v", err)
	}
}

func TestTimed(t *testing.T) {
	for expression, want := range map[string]bool{
		"has(input.grant)":                                 false,
		"input.request.verb == 'now'":                      false,
		"input.now > timestamp(0)":                         true,
		"has(input.now)":                                   true,
		"dyn(input).version == ''":                         true,
		"[input].exists(i, has(i.grant))":                  true,
		"input.?request.hasValue()":                        true,
		"variables.late":                                   true,
		"input.access.exists(a, a == a)":                   false,
		"timestamp('2026-01-01T00:00:00Z') > timestamp(0)": false,
	} {
		p := policy(expression)
		if strings.HasPrefix(expression, "variables") {
			p.Variables = []v1alpha1.CELVariable{{Name: "late", Expression: "input.now.getHours() > 20"}}
		}
		if got := compile(t, p).Timed(); got != want {
			t.Errorf("%s: timed %t, want %t", expression, got, want)
		}
	}
	if !compile(t, &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "false", MessageExpression: "string(input.now)"}}}).Timed() {
		t.Error("a message that tells the time is not timed")
	}
}

func TestCoverage(t *testing.T) {
	p := policy("has(input.grant)", "true", "has(input.request)")
	p.Validations[2].MessageExpression = "'no request'"
	c, errs := cel.Compile(field.NewPath("spec", "cel"), p, nil, cel.Options{Coverage: true})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	report := func() coverage.Report { return c.(coverage.Counter).Coverage() }
	if diff := cmp.Diff(coverage.Report{Total: 7}, report(), cmpopts.IgnoreFields(coverage.Report{}, "Missed")); diff != "" {
		t.Error(diff)
	}
	for _, in := range []*guardrail.Input{grantInput(), requestInput()} {
		if _, err := c.Check(in); err != nil {
			t.Fatal(err)
		}
	}
	want := coverage.Report{Reached: 6, Total: 7, Missed: []string{"validations[1]: never false"}}
	if diff := cmp.Diff(want, report()); diff != "" {
		t.Error(diff)
	}
	if _, ok := compile(t, p).(coverage.Counter); ok {
		t.Error("a policy in force counts")
	}
}

// TestMemo: an input is converted once, and the conversion is not of one policy.
func TestMemo(t *testing.T) {
	in := grantInput()
	for range 3 {
		for hours, want := range map[string]int{"24": 0, "23": 1} {
			c, errs := cel.Compile(field.NewPath("spec", "cel"),
				policy("input.grant.spec.validity.notAfter - input.now <= duration(string(input.parameters.hours) + 'h')"),
				map[string]any{"hours": number(hours)}, cel.Options{})
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if got, err := c.Check(in); err != nil || len(got) != want {
				t.Errorf("%s hours: got %v, %v", hours, got, err)
			}
		}
	}
	later := grantInput()
	later.Now = t0.Add(-time.Hour)
	if got, err := compile(t, policy("input.grant.spec.validity.notAfter - input.now <= duration('24h')")).Check(later); err != nil || len(got) != 1 {
		t.Errorf("later: got %v, %v", got, err)
	}
}
