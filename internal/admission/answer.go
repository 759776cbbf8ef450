package admission

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Bounds of what is told. The API server shortens warnings to 256 characters once
// they come to more than 4096.
const (
	maxReasons  = 16
	maxMessage  = 1024
	maxWarning  = 256
	maxWarnings = 4096
)

// answer to the API server. The zero answer refuses.
type answer struct {
	verdict  verdict
	status   *metav1.Status // of a refusal
	warnings []string
	audit    map[string]string
}

// verdict is what an answer comes to, as metrics have it.
type verdict string

const (
	allowed   verdict = "Allowed"
	unchanged verdict = "Unchanged"
	denied    verdict = "Denied"
	undecided verdict = "Undecided"
	invalid   verdict = "Invalid"
	failed    verdict = "Failed"
)

func allow(warnings ...string) answer { return answer{verdict: allowed, warnings: warnings} }

func refuse(v verdict, message string) answer {
	return answer{verdict: v, status: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: message,
	}}
}

// fail is the answer where what it takes to judge cannot be read. Why is for
// operators.
func fail() answer {
	a := refuse(failed, "the guardrails cannot be asked at the moment; try again")
	a.status.Code, a.status.Reason = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable
	return a
}

func refuseFields(kind schema.GroupKind, name string, errs field.ErrorList) answer {
	for _, e := range errs {
		e.Detail = clean(e.Detail, maxMessage)
	}
	status := apierrors.NewInvalid(kind, name, errs[:min(len(errs), maxReasons)]).Status()
	return answer{verdict: invalid, status: &status}
}

func (a answer) response() admission.Response {
	r := admissionv1.AdmissionResponse{AuditAnnotations: a.audit}
	total := 0
	for _, w := range a.warnings {
		w = clean(w, maxWarning)
		if total += len(w); total > maxWarnings {
			break
		}
		r.Warnings = append(r.Warnings, w)
	}
	switch a.verdict {
	case allowed, unchanged:
		r.Allowed = true
	default:
		if r.Result = a.status; r.Result == nil {
			r.Result = fail().status
		}
	}
	return admission.Response{AdmissionResponse: r}
}

// tell one reason.
func tell(r *guardrail.Reason) string { return clean(r.String(), maxMessage) }

// tellAll of the reasons, or of the first where there are many.
func tellAll(reasons []guardrail.Reason) string {
	told := make([]string, 0, min(len(reasons), maxReasons)+1)
	for i := range reasons {
		if i == maxReasons {
			told = append(told, fmt.Sprintf("and %d more", len(reasons)-i))
			break
		}
		told = append(told, tell(&reasons[i]))
	}
	return strings.Join(told, "; ")
}

// clean makes text safe for a terminal and for a header, of at most limit bytes:
// what policies say may quote what tenants wrote.
func clean(s string, limit int) string {
	s = guardrail.OneLine(s)
	if len(s) <= limit {
		return s
	}
	const more = "…"
	end := limit - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}
