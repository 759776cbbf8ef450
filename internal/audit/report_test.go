package audit

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// shown is a report as the hub would have it.
type shown struct {
	Namespace, Name string
	Summary         orv1.ReportSummary
	Results         []orv1.ReportResult
}

func show(reports []*Report) []shown {
	var out []shown
	for _, r := range reports {
		out = append(out, shown{r.Namespace, r.Name, r.Summary, r.Results()})
	}
	return out
}

func grantRef(namespace, name string) []corev1.ObjectReference {
	return []corev1.ObjectReference{{
		APIVersion: "access.sallyport.dev/v1alpha1", Kind: "AccessGrant",
		Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + "-" + name),
	}}
}

func objectRef(kind, name string) []corev1.ObjectReference {
	return []corev1.ObjectReference{{APIVersion: "access.sallyport.dev/v1alpha1", Kind: kind, Name: name}}
}

func TestGrantResults(t *testing.T) {
	base := func(edit func(r *orv1.ReportResult)) orv1.ReportResult {
		r := orv1.ReportResult{
			Policy: "no-secrets", Rule: "spec.access[0]", Category: "Access", Source: "sallyport", Result: "fail", Severity: "high", Scored: true,
			Description: "gives secrets", Subjects: grantRef("payments", "oncall"),
			Properties: map[string]string{"enforcement": "Deny", "revision": "main@sha1:abc"},
		}
		edit(&r)
		return r
	}
	reason := func(edit func(r *guardrail.Reason)) guardrail.Reason {
		r := denies("no-secrets", "gives secrets")
		edit(&r)
		return r
	}
	cases := map[string]struct {
		reason  string
		because []guardrail.Reason
		summary orv1.ReportSummary
		want    []orv1.ReportResult
	}{
		"Passes": {
			reason:  "What passes is counted and not listed, so that reports stay small.",
			summary: orv1.ReportSummary{Pass: 1},
		},
		"Deny": {
			reason:  "A violation that refuses fails, and is scored.",
			because: []guardrail.Reason{reason(func(*guardrail.Reason) {})},
			summary: orv1.ReportSummary{Fail: 1},
			want:    []orv1.ReportResult{base(func(*orv1.ReportResult) {})},
		},
		"NoEnforcement": {
			reason:  "A guardrail that does not say what it does denies.",
			because: []guardrail.Reason{reason(func(r *guardrail.Reason) { r.Enforcement = "" })},
			summary: orv1.ReportSummary{Fail: 1},
			want:    []orv1.ReportResult{base(func(*orv1.ReportResult) {})},
		},
		"Warn": {
			reason:  "A violation that only warns is a warning, which by the API is not scored.",
			because: []guardrail.Reason{reason(func(r *guardrail.Reason) { r.Enforcement = v1alpha1.EnforcementWarn })},
			summary: orv1.ReportSummary{Warn: 1},
			want: []orv1.ReportResult{base(func(r *orv1.ReportResult) {
				r.Result, r.Severity, r.Scored, r.Properties["enforcement"] = "warn", "medium", false, "Warn"
			})},
		},
		"Audit": {
			reason:  "What only audits fails: the grant stands, and nobody else is told.",
			because: []guardrail.Reason{reason(func(r *guardrail.Reason) { r.Enforcement = v1alpha1.EnforcementAudit })},
			summary: orv1.ReportSummary{Fail: 1},
			want: []orv1.ReportResult{base(func(r *orv1.ReportResult) {
				r.Severity, r.Properties["enforcement"] = "medium", "Audit"
			})},
		},
		"Failed": {
			reason: "What cannot be evaluated is an error, and why is not for tenants.",
			because: []guardrail.Reason{{
				Guardrail: "no-secrets", Enforcement: v1alpha1.EnforcementDeny, Failed: true,
				Message: "the guardrail cannot be evaluated", Detail: `variables.token: "hunter2" is no map`,
			}},
			summary: orv1.ReportSummary{Error: 1},
			want: []orv1.ReportResult{base(func(r *orv1.ReportResult) {
				r.Result, r.Scored, r.Description = "error", false, "the guardrail cannot be evaluated"
				r.Rule = ""
			})},
		},
		"Excused": {
			reason:  "What an exception excuses is skipped, and the exception named.",
			because: []guardrail.Reason{reason(func(r *guardrail.Reason) { r.Exception = "break-glass" })},
			summary: orv1.ReportSummary{Skip: 1},
			want: []orv1.ReportResult{base(func(r *orv1.ReportResult) {
				r.Result, r.Severity, r.Scored, r.Properties["exception"] = "skip", "info", false, "break-glass"
			})},
		},
		"ExcusedFailure": {
			reason:  "A failure can be excused too.",
			because: []guardrail.Reason{reason(func(r *guardrail.Reason) { r.Failed, r.Exception = true, "break-glass" })},
			summary: orv1.ReportSummary{Skip: 1},
			want: []orv1.ReportResult{base(func(r *orv1.ReportResult) {
				r.Result, r.Severity, r.Scored, r.Properties["exception"] = "skip", "info", false, "break-glass"
			})},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := show(Reports(&Audit{Grants: []Grant{judged("payments", "oncall", tc.because...)}}))
			// The fleet's come first.
			got = got[len(got)-1:]
			want := []shown{{"payments", "sallyport-guardrails", tc.summary, tc.want}}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s\n%s", tc.reason, d)
			}
		})
	}
}

func TestFleetResults(t *testing.T) {
	excused := denies("ceiling", "too much")
	excused.Exception = "break-glass"
	failed := guardrail.Reason{Guardrail: "office-hours", Enforcement: v1alpha1.EnforcementDeny, Failed: true, Message: "the guardrail cannot be evaluated"}
	warns := guardrail.Reason{Guardrail: "tickets", Enforcement: v1alpha1.EnforcementWarn, Message: "no ticket"}
	stalled := inForce("broken", v1alpha1.EnforcementDeny)
	stalled.Check, stalled.Err = nil, errors.New(`spec.cel.validations[0].expression:1:7: undeclared reference to "inptu"`)
	a := &Audit{
		Grants: []Grant{
			judged("a", "one", denies("ceiling", "too much"), denies("ceiling", "and too long")),
			judged("a", "two", denies("ceiling", "too much"), failed, warns),
			judged("b", "three", excused),
			judged("b", "four", denies(guardrail.RequireCeiling, "no ceiling")),
		},
		Guardrails: []*guardrail.Guardrail{
			inForce("ceiling", v1alpha1.EnforcementDeny), inForce("office-hours", v1alpha1.EnforcementDeny), inForce("tickets", v1alpha1.EnforcementWarn),
			inForce("baseline/no-exec", v1alpha1.EnforcementAudit), stalled,
		},
		Bundles: []Bundle{{Name: "baseline"}, {Name: "extra", Err: errors.New("the signature does not verify")}},
	}
	counts := func(enforcement, violated, failed, excused string) map[string]string {
		return map[string]string{"enforcement": enforcement, "violated": violated, "failed": failed, "excused": excused}
	}
	want := shown{
		Name: "sallyport-guardrails", Summary: orv1.ReportSummary{Pass: 1, Fail: 2, Warn: 1, Error: 3},
		Results: []orv1.ReportResult{
			{
				Policy: "baseline/no-exec", Result: "pass", Severity: "info", Description: "no grant violates it",
				Subjects: objectRef("GuardrailBundle", "baseline"), Properties: counts("Audit", "0", "0", "0"),
			},
			{
				Policy: "broken", Result: "error", Severity: "high",
				Description: "the guardrail cannot be evaluated: spec.cel.validations[0].expression:1:7: undeclared reference to ”inptu”",
				Subjects:    objectRef("Guardrail", "broken"), Properties: counts("Deny", "0", "0", "0"),
			},
			{
				Policy: "ceiling", Result: "fail", Severity: "high", Scored: true, Description: "2 grants violate it, 1 grant is excused from it",
				Subjects: objectRef("Guardrail", "ceiling"), Properties: counts("Deny", "2", "0", "1"),
			},
			{
				Policy: "extra", Result: "error", Severity: "high", Description: "the bundle cannot be loaded: the signature does not verify",
				Subjects: objectRef("GuardrailBundle", "extra"),
			},
			{
				Policy: "office-hours", Result: "error", Severity: "high", Description: "1 grant cannot be judged by it",
				Subjects: objectRef("Guardrail", "office-hours"), Properties: counts("Deny", "0", "1", "0"),
			},
			{
				Policy: "require-ceiling", Result: "fail", Severity: "high", Scored: true, Description: "1 grant violates it",
				Properties: counts("Deny", "1", "0", "0"),
			},
			{
				Policy: "tickets", Result: "warn", Severity: "medium", Description: "1 grant violates it",
				Subjects: objectRef("Guardrail", "tickets"), Properties: counts("Warn", "1", "0", "0"),
			},
		},
	}
	for i := range want.Results {
		want.Results[i].Category, want.Results[i].Source = "Access", "sallyport"
	}
	got := show(Reports(a))
	if d := cmp.Diff(want, got[0]); d != "" {
		t.Error(d)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.Namespace+"/"+r.Name)
	}
	if d := cmp.Diff([]string{"/sallyport-guardrails", "a/sallyport-guardrails", "b/sallyport-guardrails"}, names); d != "" {
		t.Error(d)
	}
}

func TestNothingStands(t *testing.T) {
	if got := Reports(&Audit{}); len(got) != 0 {
		t.Errorf("got %v, want no reports", show(got))
	}
}

// The order of what is audited makes no difference, nor is it changed.
func TestReportsAreIndependentOfOrder(t *testing.T) {
	a := fleetOf(2000, 3)
	a.Bundles = []Bundle{{Name: "x", Err: errors.New("late")}, {Name: "y", Err: errors.New("late")}}
	first := Reports(a)
	want := show(first)
	for seed := range uint64(5) {
		b := shuffled(a, seed)
		before := fmt.Sprint(b.Grants)
		second := Reports(b)
		if d := cmp.Diff(want, show(second)); d != "" {
			t.Fatal(d)
		}
		for i := range second {
			if first[i].Digest != second[i].Digest {
				t.Errorf("report %s/%s has another digest in another order", second[i].Namespace, second[i].Name)
			}
		}
		if fmt.Sprint(b.Grants) != before {
			t.Error("the audit was changed")
		}
	}
}

// One grant that comes, changes or goes is the business of one report, unless that
// one has to be divided.
func TestOneGrantIsOneReport(t *testing.T) {
	a := fleetOf(500, 3)
	base := map[string][32]byte{}
	for _, r := range Reports(a) {
		base[r.Namespace+"/"+r.Name] = r.Digest
	}
	if len(base) < 5 {
		t.Fatalf("got %d reports of 1500 results, want some to choose from", len(base))
	}
	differ := func(b *Audit) (reports []string, divided bool) {
		now := Reports(b)
		for _, r := range now {
			k := r.Namespace + "/" + r.Name
			was, ok := base[k]
			divided = divided || !ok
			if r.Namespace != "" && was != r.Digest {
				reports = append(reports, k)
			}
		}
		return reports, divided || len(now) != len(base)
	}
	for i := range 50 {
		added := shuffled(a, 1)
		added.Grants = append(added.Grants, judged("tenant-000", fmt.Sprintf("new-%d", i), denies("guardrail-0", "too much")))
		if got, divided := differ(added); !divided && len(got) != 1 {
			t.Errorf("adding a grant changes reports %v, want one", got)
		}
		changed := shuffled(a, 1)
		changed.Grants[i].Judgement.Reasons = nil
		if got, divided := differ(changed); !divided && len(got) != 1 {
			t.Errorf("changing a grant changes reports %v, want one", got)
		}
		passed := shuffled(a, 1)
		passed.Grants = append(passed.Grants, judged("tenant-000", fmt.Sprintf("fine-%d", i)))
		if got, divided := differ(passed); divided || len(got) != 1 {
			t.Errorf("adding a grant that passes changes reports %v (divided: %t), want one", got, divided)
		}
	}
}

// Whatever policies say, and however many grants there are, no report is larger
// than the bounds.
func TestReportsAreBounded(t *testing.T) {
	worst := func(n int, text string) *Audit {
		a := &Audit{}
		for g := range n {
			var reasons []guardrail.Reason
			for v := range 200 {
				reasons = append(reasons, guardrail.Reason{
					Guardrail: fmt.Sprintf("%s/%d-%s", strings.Repeat("b", 253), v, long("n")), Enforcement: v1alpha1.EnforcementDeny,
					Message: long(text), Field: long(text), Exception: long("e"),
				})
			}
			grant := judged(strings.Repeat("n", 63), fmt.Sprintf("%s-%d", strings.Repeat("g", 248), g), reasons...)
			grant.Revision = long(text)
			a.Grants = append(a.Grants, grant)
			a.Guardrails = append(a.Guardrails, &guardrail.Guardrail{Name: fmt.Sprintf("%s/%d", strings.Repeat("b", 253), g), Err: errors.New(long(text))})
		}
		return a
	}
	cases := map[string]struct {
		audit   *Audit
		results int // listed, of grants
	}{
		"Thousands":   {audit: fleetOf(10_000, 5), results: 50_000},
		"Quotes":      {audit: worst(20, `"`), results: 20 * 64},
		"Backslashes": {audit: worst(20, `\`), results: 20 * 64},
		"Brackets":    {audit: worst(20, "<"), results: 20 * 64},
		"Wide":        {audit: worst(20, "𝕏"), results: 20 * 64},
		"Broken":      {audit: worst(20, "\xff"), results: 20 * 64},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			listed, most, largest := 0, 0, 0
			reports := Reports(tc.audit)
			for _, r := range reports {
				results := r.Results()
				date(results, metav1.Timestamp{Seconds: 1 << 40})
				if r.Namespace != "" {
					listed += len(results)
				}
				object := contentOf(PolicyReportKind, r, results)
				object.Name, object.Namespace = r.Name, r.Namespace
				text, err := json.Marshal(object)
				if err != nil {
					t.Fatal(err)
				}
				// Go's JSON writes < and its like in six bytes: what is there of these is a defect.
				most, largest = max(most, len(results)), max(largest, len(text))
				for _, result := range results {
					if len(result.Description) > 512 {
						t.Errorf("a message of %d bytes", len(result.Description))
					}
				}
			}
			t.Logf("%d reports, at most %d results and %d bytes", len(reports), most, largest)
			if most > MaxResults || largest > MaxBytes {
				t.Errorf("a report has %d results and %d bytes, want at most %d and %d", most, largest, MaxResults, MaxBytes)
			}
			if listed != tc.results {
				t.Errorf("%d results are listed, want %d", listed, tc.results)
			}
		})
	}
}

// What is left out of a grant with very many objections is counted, and said.
func TestManyObjectionsToOneGrant(t *testing.T) {
	a := fleetOf(1, 70)
	got := Reports(a)
	r := got[len(got)-1]
	results := r.Results()
	if r.Summary.Fail != 70 || len(results) != 64 || results[63].Properties["more"] != "6" {
		t.Errorf("got %d failures in the summary, %d results, the last with %v", r.Summary.Fail, len(results), results[len(results)-1].Properties)
	}
}

func TestWeightsAreBounds(t *testing.T) {
	for _, text := range []string{"", "plain", `say "no"`, "<&>'", "\x1b[31mred\x1b[0m", long("é"), long("\xff"), long(`\"`), long("a\n")} {
		for _, limit := range []int{maxMessage, maxName} {
			written := strings.ReplaceAll(plain(text, limit), `\`, `\\`)
			if got := bound(text, limit); got < len(written) {
				t.Errorf("bound(%.20q, %d) = %d, and it takes %d", text, limit, got, len(written))
			}
		}
	}
}

func TestDate(t *testing.T) {
	stamp := func(s int64) metav1.Timestamp { return metav1.Timestamp{Seconds: s} }
	of := func(a Grant) []orv1.ReportResult {
		reports := Reports(&Audit{Grants: []Grant{a}})
		return reports[len(reports)-1].Results()
	}
	was := of(judged("a", "one", denies("ceiling", "too much"), denies("ceiling", "too long")))
	date(was, stamp(100))

	moved := judged("a", "one", denies("ceiling", "too much"), denies("ceiling", "too wide"))
	moved.Revision = "main@sha1:def"
	now := of(moved)
	date(now, stamp(200), nil, was)
	if now[0].Timestamp != stamp(100) || now[1].Timestamp != stamp(200) {
		t.Errorf("got %v and %v, want what is the same as of 100, what is new as of 200", now[0].Timestamp, now[1].Timestamp)
	}
	another := judged("a", "one", denies("ceiling", "too much"))
	another.UID = "another"
	again := of(another)
	date(again, stamp(300), was)
	if again[0].Timestamp != stamp(300) {
		t.Error("a grant that was deleted and made anew has the timestamp of the old one")
	}
}

// policy-reporter knows a result by these, and drops the second of two alike.
func TestResultsAreToldApart(t *testing.T) {
	one, two := denies("no-stars", "gives every verb"), denies("no-stars", "gives every verb")
	two.Field = "spec.access[1]"
	type known struct {
		policy, rule, category, message, name string
		result                                orv1.Result
		uid                                   types.UID
	}
	seen := map[known]bool{}
	a := &Audit{Grants: []Grant{judged("a", "one", one, two), judged("b", "one", one)}}
	for _, r := range Reports(a) {
		for _, result := range r.Results() {
			k := known{policy: result.Policy, rule: result.Rule, category: result.Category, message: result.Description, result: result.Result}
			if len(result.Subjects) > 0 {
				k.name, k.uid = result.Subjects[0].Name, result.Subjects[0].UID
			}
			if seen[k] {
				t.Errorf("two results are %+v", k)
			}
			seen[k] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("got %d results, want 4", len(seen))
	}
}

var update = flag.Bool("update", false, "write testdata anew")

// The example in docs/reference/policy-reports.md.
func TestExample(t *testing.T) {
	grant := judged("payments", "oncall",
		guardrail.Reason{
			Guardrail: "no-secrets-in-prod", Enforcement: v1alpha1.EnforcementAudit, Field: "spec.access[0]",
			Message: `role "pod-operator" may get secrets on cluster "prod-eu-1"`,
		},
		guardrail.Reason{
			Guardrail: "longest-duration", Enforcement: v1alpha1.EnforcementDeny, Field: "spec.validity", Exception: "quarter-end",
			Message: "access to prod lasts 720h0m0s, and may last 168h0m0s",
		})
	grant.UID, grant.Revision = "8e0c4b8d-3c5f-4a57-9d60-6d7a0d9f6a10", "main@sha1:5c1f0f7e"
	reports := Reports(&Audit{Grants: []Grant{grant, judged("payments", "viewers")}})
	r := reports[len(reports)-1]
	results := r.Results()
	date(results, metav1.Timestamp{Seconds: 1772366400})
	o := newObject(ReportKind, r)
	if err := write(contentOf(ReportKind, r, results), o); err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/report.yaml", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/report.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}
