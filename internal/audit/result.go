package audit

import (
	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// The results of openreports.io.
const (
	pass orv1.Result = "pass"
	fail orv1.Result = "fail"
	warn orv1.Result = "warn"
	bad  orv1.Result = "error"
	skip orv1.Result = "skip"
)

// Properties of a result.
const (
	enforcementProperty = "enforcement"
	exceptionProperty   = "exception"
	revisionProperty    = "revision"
	moreProperty        = "more"
	violatedProperty    = "violated"
	failedProperty      = "failed"
	excusedProperty     = "excused"
)

const (
	source   = "sallyport"
	category = "Access"
)

// maxPerGrant is how many results one grant has at most; how many more there are
// is a property of the last. The worst come first.
const maxPerGrant = 64

// resultOf says what a reason is to a report. What only audits is a failure like
// what denies: the grant stands, and nobody but the reports has been told.
func resultOf(r *guardrail.Reason) orv1.Result {
	switch {
	case r.Exception != "":
		return skip
	case r.Failed:
		return bad
	case r.Enforcement == v1alpha1.EnforcementWarn:
		return warn
	}
	return fail
}

func severityOf(result orv1.Result, e v1alpha1.Enforcement) orv1.ResultSeverity {
	switch {
	case result == skip || result == pass:
		return "info"
	case e == v1alpha1.EnforcementWarn || e == v1alpha1.EnforcementAudit:
		return "medium"
	}
	return "high"
}

// enforcementOf spells an enforcement out: without one, a guardrail denies.
func enforcementOf(e v1alpha1.Enforcement) string {
	if e == "" {
		e = v1alpha1.EnforcementDeny
	}
	return string(e)
}

// entry is what a report is made of: a grant, or the tally of a guardrail.
type entry interface {
	// key tells it from others in the report.
	key() string
	// count adds it to a summary.
	count(s *orv1.ReportSummary)
	// weigh is how many results it has, and how many bytes at most they take.
	weigh() (results, bytes int)
	// appendDigest adds what the results are made of.
	appendDigest(to []byte) []byte
	// appendResults adds the results, in order, without timestamps.
	appendResults(to []orv1.ReportResult) []orv1.ReportResult
}

func (g *Grant) key() string { return g.Name }

// count a grant once as passed, or each of the reasons against it.
func (g *Grant) count(s *orv1.ReportSummary) {
	if len(g.Judgement.Reasons) == 0 {
		s.Pass++
	}
	for i := range g.Judgement.Reasons {
		add(s, resultOf(&g.Judgement.Reasons[i]))
	}
}

func add(s *orv1.ReportSummary, result orv1.Result) {
	switch result {
	case pass:
		s.Pass++
	case fail:
		s.Fail++
	case warn:
		s.Warn++
	case bad:
		s.Error++
	case skip:
		s.Skip++
	}
}

// overhead of a result: the names of its fields, the constants and the timestamp.
const overhead = 512

func (g *Grant) weigh() (results, bytes int) {
	reasons := g.Judgement.Reasons[:min(len(g.Judgement.Reasons), maxPerGrant)]
	each := overhead + len(g.Namespace) + len(g.Name) + len(g.UID) + bound(g.Revision, maxName)
	for i := range reasons {
		r := &reasons[i]
		bytes += each + bound(r.Guardrail, maxName) + bound(r.Field, maxName) + bound(r.Message, maxMessage) + bound(r.Exception, maxName)
	}
	return len(reasons), bytes
}

func (g *Grant) appendDigest(to []byte) []byte {
	to = appendStrings(to, g.Namespace, g.Name, string(g.UID), g.Revision)
	to = appendInts(to, len(g.Judgement.Reasons))
	for i := range g.Judgement.Reasons {
		r := &g.Judgement.Reasons[i]
		to = appendStrings(to, string(resultOf(r)), r.Guardrail, string(r.Enforcement), r.Field, r.Message, r.Exception)
	}
	return to
}

func (g *Grant) appendResults(to []orv1.ReportResult) []orv1.ReportResult {
	all := g.Judgement.Reasons
	reasons := all[:min(len(all), maxPerGrant)]
	for i := range reasons {
		to = append(to, g.result(&reasons[i]))
	}
	if more := len(all) - len(reasons); more > 0 {
		to[len(to)-1].Properties[moreProperty] = decimal(more)
	}
	return to
}

func (g *Grant) result(r *guardrail.Reason) orv1.ReportResult {
	result := resultOf(r)
	return orv1.ReportResult{
		// policy-reporter tells results apart by policy, rule, message and resource,
		// and one guardrail can say the same of two fields.
		Policy: plain(r.Guardrail, maxName), Rule: plain(r.Field, maxName), Category: category, Source: source,
		Result: result, Severity: severityOf(result, r.Enforcement), Scored: result == fail,
		// What an evaluation failed of is for operators, and tenants read this.
		Description: plain(r.Message, maxMessage),
		Properties: properties(
			enforcementProperty, enforcementOf(r.Enforcement), exceptionProperty, r.Exception,
			revisionProperty, g.Revision,
		),
		Subjects: []corev1.ObjectReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.AccessGrantKind,
			Namespace: g.Namespace, Name: g.Name, UID: g.UID,
		}},
	}
}

// properties of keys and values in turn, without those that are empty.
func properties(kv ...string) map[string]string {
	m := make(map[string]string, len(kv)/2)
	for i := 0; i < len(kv); i += 2 {
		if v := plain(kv[i+1], maxName); v != "" {
			m[kv[i]] = v
		}
	}
	return m
}

// identity of a result: it is the same one as long as nothing else of it changes.
// A commit that leaves the grant as objectionable as it was does not make another.
type identity struct {
	policy, rule, message, enforcement, exception string
	result                                        orv1.Result
	subject                                       corev1.ObjectReference
}

func identify(r *orv1.ReportResult) identity {
	id := identity{
		policy: r.Policy, rule: r.Rule, message: r.Description, enforcement: r.Properties[enforcementProperty],
		exception: r.Properties[exceptionProperty], result: r.Result,
	}
	if len(r.Subjects) > 0 {
		id.subject = r.Subjects[0]
	}
	return id
}

// date gives each result the timestamp that it had before, or else the present.
func date(results []orv1.ReportResult, now metav1.Timestamp, before ...[]orv1.ReportResult) {
	since := map[identity]metav1.Timestamp{}
	for _, was := range before {
		for i := range was {
			since[identify(&was[i])] = was[i].Timestamp
		}
	}
	for i := range results {
		r := &results[i]
		r.Timestamp = now
		if t, ok := since[identify(r)]; ok && t.Seconds > 0 {
			r.Timestamp = t
		}
	}
}
