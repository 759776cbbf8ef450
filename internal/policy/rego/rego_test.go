package rego_test

import (
	"bytes"
	"cmp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/coverage"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

var (
	t0   = time.Date(2026, 11, 23, 9, 0, 0, 5e8, time.UTC)
	spec = field.NewPath("spec", "rego", "module")
)

func grantInput() *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: "payments", Name: "oncall"},
			Spec:     &v1alpha1.AccessGrantSpec{Reason: "on call", Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}}},
		},
		Namespace: &guardrail.Namespace{Name: "payments", Labels: map[string]string{"tier": "tenant"}},
		Access: []*guardrail.Access{{
			Field: "spec.access[0]", Known: true, ClusterWide: true,
			Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/exec"}}},
		}},
		Clusters: []*guardrail.Cluster{{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}}},
	}
}

func requestInput() *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Request: &guardrail.RequestInfo{
			User:    guardrail.User{Name: "alice", Groups: []string{"oncall", "dev", "staff", "system:authenticated"}},
			Cluster: &guardrail.Cluster{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}},
			Verb:    "create", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Subresource: "exec",
			Namespace: "payments", Name: "web-0", Path: "/api/v1/namespaces/payments/pods/web-0/exec",
		},
		Grants: []*guardrail.GrantInfo{{Namespace: "payments", Name: "oncall", Reason: "on call"}},
	}
}

func compile(t testing.TB, source string, o rego.Options) guardrail.Check {
	t.Helper()
	return compilePolicy(t, rego.Policy{Modules: map[string]string{"p.rego": source}, Main: "p.rego"}, o)
}

// compilePolicy with a deadline that a machine under load keeps, unless there is
// one.
func compilePolicy(t testing.TB, p rego.Policy, o rego.Options) guardrail.Check {
	t.Helper()
	o.Deadline = cmp.Or(o.Deadline, time.Minute)
	c, errs := rego.Compile(spec, p, o)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return c
}

const noExec = `package guardrails.exec

import data.sallyport.rbac

deny contains {"message": sprintf("exec on %s", [cluster.name]), "field": entry.field} if {
	some cluster in input.clusters
	cluster.labels.env == "prod"
	some entry in input.access
	some rule in entry.rules
	rbac.allows(rule, "get", "", "pods/exec")
}
`

func TestCheck(t *testing.T) {
	message := func(s ...string) (out []guardrail.Violation) {
		for _, m := range s {
			out = append(out, guardrail.Violation{Message: m})
		}
		return out
	}
	tests := map[string]struct {
		reason     string
		source     string
		parameters map[string]any
		want       []guardrail.Violation
		err        string
	}{
		"Library": {
			reason: "A policy sees the input and the library, and says which field it means.",
			source: noExec,
			want:   []guardrail.Violation{{Message: "exec on prod-eu-1", Field: "spec.access[0]"}},
		},
		"Passed": {
			reason: "A set without elements objects to nothing.",
			source: "package p\n\ndeny contains \"no\" if input.grant.spec.suspend\n",
		},
		"Strings": {
			reason: "Elements are sorted, whatever their order in the policy.",
			source: "package p\n\ndeny contains \"b\"\n\ndeny contains \"a\"\n\ndeny contains {\"msg\": \"c\"}\n",
			want:   message("a", "b", "c"),
		},
		"Parameters": {
			reason:     "Parameters are in the input.",
			source:     "package p\n\ndeny contains sprintf(\"%d\", [input.parameters.most]) if count(input.clusters) > input.parameters.most\n",
			parameters: map[string]any{"most": 0},
			want:       message("0"),
		},
		"NoParameters": {
			reason: "Without parameters there is an empty object.",
			source: "package p\n\ndeny contains \"empty\" if input.parameters == {}\n",
			want:   message("empty"),
		},
		"Instant": {
			reason: "The instant is that of the input.",
			source: "package p\n\ndeny contains input.now\n",
			want:   message("2026-11-23T09:00:00.5Z"),
		},
		"Numbers": {
			reason: "What is no message cannot be shown: the policy is wrong, and not passed.",
			source: "package p\n\ndeny contains 1\n",
			err:    "deny contains number",
		},
		"ObjectWithoutMessage": {
			reason: "As above.",
			source: "package p\n\ndeny contains {\"text\": \"no\"}\n",
			err:    "object without message",
		},
		"MessageOfAnotherKind": {
			reason: "As above.",
			source: "package p\n\ndeny contains {\"message\": [\"no\"]}\n",
			err:    "whose message is array",
		},
		"FieldOfAnotherKind": {
			reason: "As above.",
			source: "package p\n\ndeny contains {\"message\": \"no\", \"field\": 1}\n",
			err:    "whose field is number",
		},
		"Error": {
			reason: "A function that fails fails the policy, where OPA would pass over the rule.",
			source: "package p\n\ndeny contains \"late\" if time.parse_rfc3339_ns(input.grant.spec.reason) > 0\n",
			err:    "parse_rfc3339_ns",
		},
		"Conflict": {
			reason: "Two values for one name are an error.",
			source: "package p\n\nx := 1 if input.grant\n\nx := 2 if input.clusters\n\ndeny contains \"x\" if x == 1\n",
			err:    "produced conflicting values",
		},
		"Text": {
			reason: "S25: a message is one line of valid text without control characters.",
			source: "package p\n\ndeny contains \"a\\u0000b\\n\\u001b[31mc\\u202e\"\n",
			want:   message("ab [31mc"),
		},
		"LongText": {
			reason: "A message has an end.",
			source: "package p\n\ndeny contains concat(\"\", [\"é\" | some _ in numbers.range(1, 2000)])\n",
			want:   message(strings.Repeat("é", 1023) + "…"),
		},
		"Print": {
			reason: "In force, print is not there.",
			source: "package p\n\ndeny contains \"a\" if print(input.x.y)\n",
			want:   message("a"),
		},
		"With": {
			reason: "Parts of the input may be replaced.",
			source: "package p\n\nreason := input.grant.spec.reason\n\ndeny contains x if x := reason with input.grant.spec.reason as \"b\"\n",
			want:   message("b"),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := compilePolicy(t, rego.Policy{Modules: map[string]string{"p.rego": tc.source}, Main: "p.rego", Parameters: tc.parameters}, rego.Options{})
			got, err := c.Check(grantInput())
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%s\nerror %v, want one with %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s\n%v", tc.reason, err)
			}
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	c := compile(t, "package p\n\ndeny contains \"a\" if print(\"reason\", input.grant.spec.reason)\n", rego.Options{Print: &out})
	if _, err := c.Check(grantInput()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "reason on call\n" {
		t.Errorf("printed %q", got)
	}
}

func TestCoverage(t *testing.T) {
	c := compile(t, `package p

deny contains "a" if {
	input.grant
	x := input.grant.metadata.name
	x == "other"
}

deny contains "b" if {
	input.request
	input.request.verb == "get"
}
`, rego.Options{Coverage: true})
	if _, err := c.Check(grantInput()); err != nil {
		t.Fatal(err)
	}
	want := coverage.Report{Reached: 4, Total: 7, Missed: []string{"line 3", "line 9", "line 11"}}
	if diff := gocmp.Diff(want, c.(coverage.Counter).Coverage()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTimed(t *testing.T) {
	for body, want := range map[string]bool{
		`input.now > "2026"`:                        true,
		`input["now"] > "2026"`:                     true,
		`x := input; x.now > "2026"`:                true,
		`some k; input[k] == 1`:                     true,
		`walk(input, [_, "x"])`:                     true,
		`helper`:                                    true,
		`input.grant.now == 1`:                      false,
		`input.request.verb == "get"`:               false,
		`every g in input.grants { g.name == "x" }`: false,
		`every g in input.grants { input.now > g }`: true,
		`count([x | some x in [input.now]]) == 1`:   true,
		`elsewhere`:                                 true,
	} {
		c := compile(t, "package p\n\nunused if input.now\n\nhelper if input.now\n\nelsewhere if input.grant.x\n\nelse if input.now\n\ndeny contains \"a\" if {\n"+body+"\n}\n", rego.Options{})
		if got := c.Timed(); got != want {
			t.Errorf("%s: timed %t, want %t", body, got, want)
		}
	}
}
