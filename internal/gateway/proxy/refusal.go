package proxy

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// refusal of a request, and by which layer.
type refusal struct {
	layer string
	code  int
	// message for the person; of guardrails the reasons follow.
	message string
	reasons []guardrail.Reason
	retry   time.Duration
}

// The types of the causes in the details of a refusal's Status.
const (
	// CauseLayer has the layer that refused as its message.
	CauseLayer metav1.CauseType = "SallyportLayer"
	// CauseGuardrail has a guardrail's name as its field, and what it says as its message.
	CauseGuardrail metav1.CauseType = "SallyportGuardrail"
)

// reasons of codes, as Kubernetes names them.
var reasonOf = map[int]metav1.StatusReason{
	http.StatusBadRequest: metav1.StatusReasonBadRequest, http.StatusUnauthorized: metav1.StatusReasonUnauthorized,
	http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
	http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable, http.StatusGatewayTimeout: metav1.StatusReasonTimeout,
}

// status of a refusal of what was asked; q is nil where that is not known.
func (f *refusal) status(q *effective.Request, id string) *metav1.Status {
	s := &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(f.code), Reason: reasonOf[f.code], Message: f.message,
		Details: &metav1.StatusDetails{UID: types.UID(id), Causes: []metav1.StatusCause{{Type: CauseLayer, Message: f.layer}}},
	}
	if s.Reason == "" {
		s.Reason = metav1.StatusReasonInternalError
	}
	if q != nil {
		s.Details.Name, s.Details.Group, s.Details.Kind = q.Name, q.APIGroup, q.Resource
	}
	for i := range f.reasons {
		s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{Type: CauseGuardrail, Field: f.reasons[i].Guardrail, Message: f.reasons[i].Message})
	}
	if f.retry > 0 {
		s.Details.RetryAfterSeconds = int32(seconds(f.retry))
	}
	if id != "" {
		s.Message += " (request " + id + ")"
	}
	return s
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// write the refusal as the answer.
func (f *refusal) write(w http.ResponseWriter, q *effective.Request, id string) {
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(f.retry)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.code)
	_ = json.NewEncoder(w).Encode(f.status(q, id)) // it fails where nobody listens any more
}

// refusalOf a decision that lets nothing through.
func refusalOf(d *effective.Decision, q *effective.Request, policy *guardrail.Set, help string) *refusal {
	f := &refusal{code: http.StatusForbidden, message: asked(q) + ": "}
	if d.Verdict == effective.NotGranted {
		f.layer = decisionlog.LayerGrant
		f.message += "no active grant gives it. To ask for it, commit an AccessGrant for " + subjects(&q.User) + " that does"
		if help != "" {
			f.message += ": " + help
		}
		return f
	}
	f.layer = decisionlog.LayerGuardrail
	j := guardrail.Judgement{Reasons: d.Reasons}
	f.reasons = j.Because()
	for i := range f.reasons {
		if i > 0 {
			f.message += "; "
		}
		f.message += "refused by " + f.reasons[i].String()
	}
	if len(f.reasons) == 0 {
		f.message += "refused by a guardrail"
	}
	if len(d.Because) > 0 && excusable(policy, f.reasons) {
		f.message += ". A grant gives it, and guardrails stand above: if it has to be, ask for a GuardrailException for grant " + d.Because[0].Grant.Key()
	}
	return f
}

// excusable reports whether every guardrail that refuses honours exceptions.
func excusable(policy *guardrail.Set, reasons []guardrail.Reason) bool {
	if policy == nil || len(reasons) == 0 {
		return false
	}
	return !slices.ContainsFunc(reasons, func(r guardrail.Reason) bool {
		return !slices.ContainsFunc(policy.Guardrails(), func(g *guardrail.Guardrail) bool {
			return g.Name == r.Guardrail && g.Exceptions.Longest > 0
		})
	})
}

// asked says what was asked, by whom, where.
func asked(q *effective.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "user %q cannot ", guardrail.Tidy(q.User.Name))
	if !q.ResourceRequest {
		fmt.Fprintf(&b, "%s path %q", q.Verb, guardrail.Tidy(q.Path))
	} else {
		resource := q.Resource
		if q.Subresource != "" {
			resource += "/" + q.Subresource
		}
		fmt.Fprintf(&b, "%s resource %q in API group %q", q.Verb, guardrail.Tidy(resource), guardrail.Tidy(q.APIGroup))
		if q.Name != "" {
			fmt.Fprintf(&b, ", name %q", guardrail.Tidy(q.Name))
		}
		if q.Namespace != "" {
			fmt.Fprintf(&b, ", in namespace %q", guardrail.Tidy(q.Namespace))
		}
	}
	fmt.Fprintf(&b, " on cluster %q", q.Cluster)
	return b.String()
}

// subjects that a grant could name.
func subjects(u *guardrail.User) string {
	s := fmt.Sprintf("User %q", guardrail.Tidy(u.Name))
	groups := 0
	for _, g := range u.Groups {
		if !strings.HasPrefix(g, "system:") && groups < 5 {
			s += fmt.Sprintf(" or Group %q", guardrail.Tidy(g))
			groups++
		}
	}
	return s
}
