package guardrail

import (
	"errors"
	"testing"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// passes is a Check that objects to nothing.
type passes struct{}

func (passes) Check(*guardrail.Input) ([]guardrail.Violation, error) { return nil, nil }
func (passes) Timed() bool                                           { return false }

// told are the conditions by type, as "Status Reason: message".
func told(o conditions.Getter) map[string]string {
	out := map[string]string{}
	for _, c := range o.GetConditions() {
		out[c.Type] = string(c.Status) + " " + c.Reason + ": " + c.Message
	}
	return out
}

func TestTell(t *testing.T) {
	tests := map[string]struct {
		reason  string
		inForce *guardrail.Guardrail
		want    map[string]string
	}{
		"InForce": {
			reason:  "What compiles is asked.",
			inForce: &guardrail.Guardrail{Name: "g", Digest: "d", Check: passes{}},
			want:    map[string]string{"Ready": "True InForce: the guardrail is in force"},
		},
		"Stalled": {
			reason:  "What does not is told with its place, and waits for somebody.",
			inForce: &guardrail.Guardrail{Name: "g", Digest: "d", Err: errors.New("spec.cel: 1:2: no")},
			want:    map[string]string{"Ready": "False Invalid: spec.cel: 1:2: no", "Stalled": "True Invalid: spec.cel: 1:2: no"},
		},
		"Gone": {
			reason: "Of one that came or went in between nothing is told.",
			want:   map[string]string{},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "g", Generation: 3}}
			tell(g, tc.inForce, noon)
			if diff := cmp.Diff(tc.want, told(g)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if tc.inForce != nil && (g.Status.ObservedGeneration != 3 || g.Status.Digest != "sha256:d") {
				t.Errorf("%s\nit observed %d with %q", tc.reason, g.Status.ObservedGeneration, g.Status.Digest)
			}
			// Mended, it is no longer stalled.
			tell(g, &guardrail.Guardrail{Name: "g", Check: passes{}}, noon)
			if conditions.Has(g, v1alpha1.ConditionStalled) {
				t.Errorf("%s\nonce mended it is still stalled", tc.reason)
			}
		})
	}
}

func TestTellException(t *testing.T) {
	allowing := &guardrail.Guardrail{Name: "g", Exceptions: guardrail.Terms{Longest: time.Hour}}
	tests := map[string]struct {
		reason     string
		of         *guardrail.Guardrail
		begin, end time.Time
		want       map[string]string
		next       time.Time
	}{
		"InForce": {
			reason: "It is honoured until it ends, and looked at again then.",
			of:     allowing, begin: noon, end: noon.Add(time.Hour), next: noon.Add(time.Hour),
			want: map[string]string{"Active": "True InForce: until 2030-01-01T13:00:00Z", "Ready": "True InForce: until 2030-01-01T13:00:00Z"},
		},
		"NotYet": {
			reason: "Before it begins nothing is wrong with it.",
			of:     allowing, begin: noon.Add(time.Minute), end: noon.Add(time.Hour), next: noon.Add(time.Minute),
			want: map[string]string{"Active": "False NotYetActive: before notBefore 2030-01-01T12:01:00Z", "Ready": "True NotYetActive: before notBefore 2030-01-01T12:01:00Z"},
		},
		"Ended": {
			reason: "At notAfter it has ended.",
			of:     allowing, begin: noon.Add(-time.Hour), end: noon,
			want: map[string]string{"Active": "False Expired: after notAfter 2030-01-01T12:00:00Z", "Ready": "True Expired: after notAfter 2030-01-01T12:00:00Z"},
		},
		"TooLong": {
			reason: "One that is too long never counts, and waits for somebody.",
			of:     allowing, begin: noon, end: noon.Add(2 * time.Hour),
			want: map[string]string{
				"Active":  `False TooLong: guardrail "g" honours exceptions of at most 1h0m0s, and this one lasts 2h0m0s`,
				"Ready":   `False TooLong: guardrail "g" honours exceptions of at most 1h0m0s, and this one lasts 2h0m0s`,
				"Stalled": `True TooLong: guardrail "g" honours exceptions of at most 1h0m0s, and this one lasts 2h0m0s`,
			},
		},
		"Forbidden": {
			reason: "A guardrail without terms honours none.",
			of:     &guardrail.Guardrail{Name: "g"}, begin: noon, end: noon.Add(time.Hour),
			want: map[string]string{
				"Active": `False Forbidden: guardrail "g" honours no exceptions`, "Ready": `False Forbidden: guardrail "g" honours no exceptions`,
				"Stalled": `True Forbidden: guardrail "g" honours no exceptions`,
			},
		},
		"Unknown": {
			reason: "One from nothing is told.",
			begin:  noon, end: noon.Add(time.Hour),
			want: map[string]string{
				"Active": `False UnknownGuardrail: there is no guardrail "g"`, "Ready": `False UnknownGuardrail: there is no guardrail "g"`,
				"Stalled": `True UnknownGuardrail: there is no guardrail "g"`,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.GuardrailException{Spec: v1alpha1.GuardrailExceptionSpec{
				Guardrail: "g", Grant: "a", NotBefore: metav1.NewTime(tc.begin), NotAfter: metav1.NewTime(tc.end),
			}}
			next := tellException(e, tc.of, noon)
			if diff := cmp.Diff(tc.want, told(e)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if !next.Equal(tc.next) {
				t.Errorf("%s\nnext is %v, want %v", tc.reason, next, tc.next)
			}
		})
	}
}
