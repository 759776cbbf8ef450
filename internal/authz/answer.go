package authz

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// verdict of an answer. The zero verdict denies.
type verdict uint8

const (
	denied verdict = iota
	noOpinion
	allowed
)

// String is as the decision log has it.
func (v verdict) String() string {
	switch v {
	case noOpinion:
		return decisionlog.NoOpinion
	case allowed:
		return decisionlog.Allow
	}
	return decisionlog.Deny
}

// answer to a review. The zero answer denies.
type answer struct {
	verdict verdict
	// reason for the person: the API server adds it to what it says of a refusal.
	reason string
}

// beginning of the answer to each version.
var beginning = [...]string{
	v1:      `{"apiVersion":"` + group + `v1","kind":"` + kind + `","status":{"allowed":`,
	v1beta1: `{"apiVersion":"` + group + `v1beta1","kind":"` + kind + `","status":{"allowed":`,
}

var ofVerdict = [...]string{denied: `false,"denied":true`, noOpinion: `false`, allowed: `true`}

// append the answer in JSON.
func (a answer) append(to []byte, v version) []byte {
	to = append(append(to, beginning[v]...), ofVerdict[a.verdict]...)
	if a.reason != "" {
		quoted, _ := json.Marshal(a.reason) // a string can always be written
		to = append(append(to, `,"reason":`...), quoted...)
	}
	return append(to, "}}\n"...)
}

// refusal is why guardrails refuse a request, for the person who made it. It names the
// decision in the log.
func refusal(d *effective.Decision, id string) string {
	j := guardrail.Judgement{Reasons: d.Reasons}
	var b strings.Builder
	for i, r := range j.Because() {
		if i == most {
			b.WriteString("; and others")
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("refused by ")
		b.WriteString(r.String())
	}
	if b.Len() == 0 {
		b.WriteString("refused by a guardrail")
	}
	if len(d.Because) > 0 {
		b.WriteString(". A grant gives it, and the guardrail stands above: if it has to be, ask for a GuardrailException for grant " + d.Because[0].Grant.Key())
	}
	return b.String() + " (decision " + id + ")"
}

// most guardrails that one refusal names.
const most = 5

// given is by which grants.
func given(d *effective.Decision) string {
	return "given by AccessGrant " + d.Because[0].Grant.Key()
}

// status of an error: HTTP code to reason. API servers ask again on TooManyRequests, and
// on nothing else of these.
var statusReasons = map[int]metav1.StatusReason{
	http.StatusBadRequest: metav1.StatusReasonBadRequest, http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
	http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusMethodNotAllowed: metav1.StatusReasonMethodNotAllowed,
	http.StatusRequestEntityTooLarge: metav1.StatusReasonRequestEntityTooLarge,
	http.StatusTooManyRequests:       metav1.StatusReasonTooManyRequests, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
}

// fail is an answer that is none: the API server goes by its failurePolicy.
func fail(w http.ResponseWriter, code int, message string) {
	body, err := json.Marshal(&metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(min(code, math.MaxInt32)), Reason: statusReasons[code], Message: "sallyport: " + message,
	})
	if err != nil {
		body = nil // a Status can always be written
	}
	write(w, code, append(body, '\n'))
}

func write(w http.ResponseWriter, code int, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if code != http.StatusOK {
		w.WriteHeader(code)
	}
	_, _ = w.Write(body) // it fails where nobody listens any more
}

var contentType = []string{"application/json"}
