package guardrail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Verdict is what guardrails make of a grant or a request. The zero Verdict
// denies, so that a forgotten assignment fails closed.
type Verdict uint8

// The verdicts, the worst first.
const (
	// Denied: a guardrail that is to deny is violated. A grant that stands is
	// revoked.
	Denied Verdict = iota
	// Undecided: a guardrail that may have denied could not be evaluated. A request
	// is refused; a grant keeps what stands, and does not widen.
	Undecided
	// Allowed: no guardrail denies. It gives no access by itself.
	Allowed
)

// String is the verdict in a word.
func (v Verdict) String() string {
	switch v {
	case Undecided:
		return "Undecided"
	case Allowed:
		return "Allowed"
	}
	return "Denied"
}

// Violation is one thing that a guardrail objects to.
type Violation struct {
	// Message for the person who asked for the access.
	Message string
	// Field of the grant that it is about, such as spec.access[0]; may be empty.
	Field string
}

// Reason is what one guardrail has to say.
type Reason struct {
	// Guardrail by name; BUNDLE/NAME for one of a bundle.
	Guardrail   string
	Enforcement v1alpha1.Enforcement
	Message     string
	Field       string
	// Failed: the guardrail could not be evaluated. Message says no more than that;
	// Detail says why, for operators and not for clients.
	Failed bool
	Detail string
	// Exception that excuses it, by name; empty if none does.
	Exception string
}

// Counts reports whether the reason is one for which access is refused.
func (r *Reason) Counts() bool {
	return r.Exception == "" && r.Enforcement != v1alpha1.EnforcementWarn && r.Enforcement != v1alpha1.EnforcementAudit
}

// Judgement is the outcome of asking all guardrails.
type Judgement struct {
	Verdict Verdict
	// Reasons of all guardrails that object or could not be evaluated, those that
	// only warn or audit and those that are excused included: sorted.
	Reasons []Reason
	// Next is the earliest instant at which an exception begins or ends, and so the
	// verdict may be another; zero if there is none.
	Next time.Time
	// Timed: a guardrail that was asked looks at the instant, so that the verdict
	// may change at any time.
	Timed bool
}

// Because are the reasons that count.
func (j *Judgement) Because() []Reason {
	return slices.DeleteFunc(slices.Clone(j.Reasons), func(r Reason) bool { return !r.Counts() })
}

// rank sorts what refuses before what could not be evaluated, then what warns,
// then what audits, then what is excused.
func (r *Reason) rank() int {
	switch {
	case r.Exception != "":
		return 5
	case r.Enforcement == v1alpha1.EnforcementAudit:
		return 4
	case r.Enforcement == v1alpha1.EnforcementWarn:
		return 3
	case r.Failed:
		return 2
	}
	return 1
}

func compareReasons(a, b Reason) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), strings.Compare(a.Guardrail, b.Guardrail),
		strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message), strings.Compare(a.Exception, b.Exception))
}

// String is the reason as people are told it, by every point in the same words.
func (r *Reason) String() string {
	s := fmt.Sprintf("guardrail %q: %s", r.Guardrail, r.Message)
	if r.Field != "" {
		s += " (" + r.Field + ")"
	}
	return s
}
