package examples

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/coverage"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
	"github.com/sallyport-dev/sallyport/internal/schema"
)

// Options of a test.
type Options struct {
	// Print is where print in Rego goes; nil for nowhere.
	Print io.Writer
	// Coverage has the Reports say what the examples reached.
	Coverage bool
	// Schemas by which guardrails, and grants in examples, are what the API server
	// takes; nil for whatever they are.
	Schemas *schema.Schemas
}

// Report is what became of one guardrail and its examples.
type Report struct {
	Guardrail *Guardrail
	// Problems for which the guardrail is not tested, whatever the results.
	Problems []error
	Results  []Result
	// Coverage is nil where it was not asked for or the engine does not count.
	Coverage *coverage.Report
}

// Passed reports whether everything is as it should be.
func (r *Report) Passed() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Results, func(x Result) bool { return !x.Passed() })
}

// Result of one example.
type Result struct {
	Example *Example
	Place   manifest.Place
	// Failures say what was expected and what came; none if the example passed.
	Failures []string
	// Elapsed is what compiling and judging took.
	Elapsed time.Duration
}

// Passed reports whether the example came out as expected.
func (r *Result) Passed() bool { return len(r.Failures) == 0 }

// Test each guardrail of the policy on each example.
func (p *Policy) Test(o Options) []Report {
	out := make([]Report, 0, len(p.Guardrails))
	for _, g := range p.Guardrails {
		r := p.Examples.test(g, o)
		for _, want := range []Expectation{Allowed, Refused} {
			if !slices.ContainsFunc(p.Examples.Examples, func(e Example) bool { return e.Expect == want }) {
				r.Problems = append(r.Problems, fmt.Errorf("%s: %w", p.Examples.doc.Place("examples"), errorWithout[want]))
			}
		}
		out = append(out, r)
	}
	return out
}

// Without an example of each kind, a policy is not tested.
var (
	ErrNothingRefused = errors.New("a guardrail without a refused example proves nothing")
	ErrNothingAllowed = errors.New("a guardrail without an allowed example may refuse everything")

	errorWithout = map[Expectation]error{Refused: ErrNothingRefused, Allowed: ErrNothingAllowed}
)

func (f *File) test(g *Guardrail, o Options) Report {
	r := Report{Guardrail: g}
	if problems := refusals(o.Schemas, v1alpha1.GuardrailKind, g.content, g.doc, ""); len(problems) > 0 {
		r.Problems = problems
		return r
	}
	prints := &printer{to: o.Print}
	compiled := map[string]*recorder{} // by parameters
	compiler := func(e *Example) (*recorder, error) {
		spec, key := &g.Spec, ""
		if e != nil && e.Parameters != nil {
			spec, key = spec.DeepCopy(), string(e.Parameters.Raw)
			spec.Parameters = e.Parameters
		}
		if rec := compiled[key]; rec != nil {
			return rec, nil
		}
		options := policy.Options{Coverage: o.Coverage}
		if o.Print != nil {
			options.Print = prints
		}
		rail, errs := policy.Compile(g.Name, spec, options)
		if len(errs) > 0 {
			return nil, errors.Join(g.problems(errs)...)
		}
		rec := &recorder{rail: rail, check: rail.Check}
		rail.Check = rec
		compiled[key] = rec
		return rec, nil
	}
	if _, err := compiler(nil); err != nil {
		r.Problems = append(r.Problems, err)
		return r
	}
	for i := range f.Examples {
		e := &f.Examples[i]
		result := Result{Example: e, Place: f.doc.Place(e.field)}
		prints.example = g.Name + ": " + e.Name
		start := time.Now()
		if rec, err := compiler(e); err != nil {
			result.Failures = []string{err.Error()}
		} else {
			result.Failures = f.try(rec, e)
		}
		for _, err := range refusals(o.Schemas, v1alpha1.AccessGrantKind, e.content, f.doc, e.field+".grant") {
			result.Failures = append(result.Failures, err.Error())
		}
		result.Elapsed = time.Since(start)
		r.Results = append(r.Results, result)
	}
	if o.Coverage {
		r.Coverage = covered(compiled)
	}
	return r
}

// refusals of the API server for an object at a field of a document.
func refusals(s *schema.Schemas, kind string, object map[string]any, doc *manifest.Document, at string) []error {
	if s == nil || object == nil {
		return nil
	}
	errs, err := s.Validate(context.Background(), kind, object)
	if err != nil {
		return []error{err}
	}
	out := make([]error, 0, len(errs))
	for _, e := range errs {
		if e.Type == field.ErrorTypeForbidden && kind == v1alpha1.AccessGrantKind {
			continue // what is never granted, a guardrail may refuse as well
		}
		out = append(out, doc.Errorf(strings.Join(nonEmpty(at, e.Field), "."), "%s", schema.Refusal(e)))
	}
	return out
}

// covered by all examples together: a part is missed that each set of parameters
// missed.
func covered(compiled map[string]*recorder) *coverage.Report {
	var all *coverage.Report
	for _, rec := range compiled {
		c, counts := rec.check.(coverage.Counter)
		if !counts {
			return nil
		}
		report := c.Coverage()
		if all == nil {
			all = &report
			continue
		}
		all.Missed = slices.DeleteFunc(slices.Clone(all.Missed), func(m string) bool { return !slices.Contains(report.Missed, m) })
		all.Reached = all.Total - len(all.Missed)
	}
	return all
}

// try one example, and say what is not as expected. A failure is tried once more: a
// deadline that was missed on a busy machine says nothing of the policy.
func (f *File) try(rec *recorder, e *Example) []string {
	failures := f.tryOnce(rec, e)
	if len(failures) > 0 && rec.failed {
		failures = f.tryOnce(rec, e)
	}
	return failures
}

func (f *File) tryOnce(rec *recorder, e *Example) []string {
	now := e.Now
	if now.IsZero() {
		now = f.Now
	}
	rec.asked, rec.failed = 0, false
	var j guardrail.Judgement
	if e.Grant != nil {
		var problems []string
		if j, problems = f.judgeGrant(rec.rail, e, now); len(problems) > 0 {
			return problems
		}
	} else {
		j = guardrail.NewSet([]*guardrail.Guardrail{rec.rail}, nil, guardrail.Options{}).Judge(guardrail.Request, f.input(e, now))
	}
	return compare(e, rec.asked > 0, j.Reasons)
}

func compare(e *Example, asked bool, reasons []guardrail.Reason) []string {
	got := Allowed
	switch {
	case !asked:
		got = Unasked
	case slices.ContainsFunc(reasons, func(r guardrail.Reason) bool { return r.Failed }):
		got = Failed
	case len(reasons) > 0:
		got = Refused
	}
	if got == e.Expect {
		if got == Refused {
			return compareMessages(e.Messages, reasons)
		}
		return nil
	}
	failures := []string{fmt.Sprintf("expected %s, was %s", e.Expect, got)}
	switch got {
	case Unasked:
		failures[0] += ": neither match nor points of the guardrail select it"
	default:
		for _, r := range reasons {
			failures = append(failures, "says "+quote(r.Message, r.Field)+detail(r))
		}
	}
	return failures
}

func detail(r guardrail.Reason) string {
	if r.Detail == "" {
		return ""
	}
	return ": " + r.Detail
}

func quote(message, field string) string {
	if field == "" {
		return fmt.Sprintf("%q", message)
	}
	return fmt.Sprintf("%q (field %s)", message, field)
}

// compareMessages pairs each message with a reason; those that name a field choose
// first.
func compareMessages(want []Message, got []guardrail.Reason) (failures []string) {
	want = slices.Clone(want)
	slices.SortStableFunc(want, func(a, b Message) int { return -strings.Compare(a.Field, b.Field) })
	left := slices.Clone(got)
	for _, m := range want {
		i := slices.IndexFunc(left, func(r guardrail.Reason) bool {
			return r.Message == m.Message && (m.Field == "" || r.Field == m.Field)
		})
		if i < 0 {
			failures = append(failures, "does not say "+quote(m.Message, m.Field))
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, r := range left {
		failures = append(failures, "also says "+quote(r.Message, r.Field))
	}
	return failures
}

// judgeGrant compiles the grant, as it would be in force. Problems are those of the
// example, and not for guardrails to find.
func (f *File) judgeGrant(g *guardrail.Guardrail, e *Example, now time.Time) (j guardrail.Judgement, problems []string) {
	point := guardrail.Compile
	for _, p := range []guardrail.Point{guardrail.Compile, guardrail.Admission, guardrail.Plan} {
		if g.Points.Has(p) {
			point = p
			break
		}
	}
	members := make([]fleet.Member, 0, len(f.Fleet))
	for _, c := range f.Fleet {
		members = append(members, fleet.Member{
			Name: c.Name, Labels: c.Labels, Claims: c.Claims,
			Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway,
		})
	}
	roles := map[string]*v1alpha1.AccessRoleSpec{}
	for name, rules := range f.Roles {
		roles[name] = &v1alpha1.AccessRoleSpec{Rules: rules}
	}
	namespaces := map[string]map[string]string{}
	for name, ns := range f.Namespaces {
		namespaces[name] = ns.Labels
	}
	out := compile.Grants(compile.Snapshot{
		Grants: []compile.Grant{{
			Namespace: e.Grant.Namespace, Name: e.Grant.Name, Spec: &e.Grant.Spec,
			Labels: e.Grant.Labels, Annotations: e.Grant.Annotations, Origin: e.Source,
		}},
		Roles: roles, Fleet: fleet.New(members), Namespaces: namespaces, Now: now,
		Guardrails: guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{}), Point: point,
	})
	result := out.Results[0]
	if result.Phase == compile.Expired {
		return j, []string{fmt.Sprintf("the grant has expired at %s, and what has expired is not judged", now.UTC().Format(time.RFC3339))}
	}
	for _, r := range result.Rejections {
		if r.Reason != v1alpha1.FailureForbidden { // as in refusals
			problems = append(problems, "the grant does not compile: "+strings.Join(nonEmpty(r.Cluster, r.Message), ": "))
		}
	}
	return result.Judgement, problems
}

func nonEmpty(in ...string) []string {
	return slices.DeleteFunc(in, func(s string) bool { return s == "" })
}

// input is what guardrails see of the request of an example.
func (f *File) input(e *Example, now time.Time) *guardrail.Input {
	r := e.Request
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: now.UTC(),
		Request: &guardrail.RequestInfo{
			User: r.User, Verb: r.Verb, ResourceRequest: r.Resource != "",
			APIGroup: r.APIGroup, APIVersion: r.APIVersion, Resource: r.Resource, Subresource: r.Subresource,
			Namespace: r.Namespace, Name: r.Name, Path: cmp.Or(r.Path, r.path()),
		},
	}
	if in.Request.ResourceRequest {
		in.Request.APIVersion = cmp.Or(r.APIVersion, "v1")
	}
	if in.Request.User.Groups == nil {
		in.Request.User.Groups = []string{}
	}
	if in.Request.User.Extra == nil {
		in.Request.User.Extra = map[string][]string{}
	}
	for _, c := range f.Fleet {
		if c.Name == r.Cluster {
			in.Request.Cluster = &guardrail.Cluster{Name: c.Name, Labels: orEmpty(c.Labels), Claims: orEmpty(c.Claims)}
		}
	}
	for i := range e.Grants {
		g := e.Grants[i]
		if g.NamespaceLabels == nil {
			g.NamespaceLabels = f.Namespaces[g.Namespace].Labels
		}
		in.Grants = append(in.Grants, &g)
	}
	slices.SortFunc(in.Grants, func(a, b *guardrail.GrantInfo) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return in
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// path of a request to a resource.
func (r *Request) path() string {
	version := cmp.Or(r.APIVersion, "v1")
	steps := []string{"", "api", version}
	if r.APIGroup != "" {
		steps = []string{"", "apis", r.APIGroup, version}
	}
	if r.Namespace != "" {
		steps = append(steps, "namespaces", r.Namespace)
	}
	return strings.Join(append(steps, nonEmpty(r.Resource, r.Name, r.Subresource)...), "/")
}

// recorder notes whether a guardrail is asked, and whether it could answer.
type recorder struct {
	rail   *guardrail.Guardrail
	check  guardrail.Check
	asked  int
	failed bool
}

// Check asks the policy.
func (r *recorder) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	r.asked++
	violations, err := r.check.Check(in)
	r.failed = r.failed || err != nil
	return violations, err
}

// Timed is that of the policy.
func (r *recorder) Timed() bool { return r.check.Timed() }

// printer says which example a policy prints for.
type printer struct {
	to      io.Writer
	example string
}

// Write what one print prints.
func (p *printer) Write(b []byte) (int, error) {
	if _, err := fmt.Fprintf(p.to, "%s: %s\n", p.example, strings.TrimRight(string(b), "\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}
