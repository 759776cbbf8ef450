package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// asked runs Sallyport with its webhook, and returns when the hub asks it.
func (w *world) asked() {
	w.Helper()
	w.controller(w.webhook())
	w.eventually("the webhook answers", func() string {
		if err := w.hub.Create(w.ctx, reading("probe", "pods"), client.DryRunAll); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestAdmission: a guardrail refuses a grant with the words in which it would revoke
// it (S15), and what comes in the order of a commit is judged in that order, however
// far caches are behind.
func TestAdmission(t *testing.T) {
	w := guardedWorld(t)
	w.asked()

	const message = `guardrail "no-secrets": Secrets are not read by people (spec.access)`
	w.create(noSecrets())
	w.inForce("no-secrets")
	err := w.hub.Create(w.ctx, reading("secrets", "secrets"))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), message) {
		t.Fatalf("got %v, want it refused: %s", err, message)
	}

	// A guardrail that does not compile tells where.
	for language, tc := range map[string]struct {
		change func(*v1alpha1.Guardrail)
		at     string
	}{
		"CEL": {func(g *v1alpha1.Guardrail) { g.Spec.CEL.Validations[0].Expression = "input.nothing ==" }, "spec.cel.validations[0].expression: Invalid value: 1:17: "},
		"Rego": {func(g *v1alpha1.Guardrail) {
			g.Spec.CEL, g.Spec.Rego = nil, noSecretsInRego().Spec.Rego
			g.Spec.Rego.Module += "\ndeny contains {"
		}, "spec.rego.module: Invalid value: broken.rego:11:15: "},
	} {
		broken := noSecrets()
		broken.Name = "broken"
		tc.change(broken)
		err := w.hub.Create(w.ctx, broken)
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.at) {
			t.Errorf("%s: got %v, want it refused at %s", language, err, tc.at)
		}
	}

	// An exception and, at once, its grant.
	now := time.Now().Add(-time.Second).Truncate(time.Second)
	for i := range 10 {
		name := fmt.Sprintf("excused-%d", i)
		w.must(w.hub.Create(w.ctx, &v1alpha1.GuardrailException{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
			Spec: v1alpha1.GuardrailExceptionSpec{
				Guardrail: "no-secrets", Grant: name, Reason: "incident", Ticket: "INC-1",
				NotBefore: metav1.NewTime(now), NotAfter: metav1.NewTime(now.Add(time.Hour)),
			},
		}))
		if err := w.hub.Create(w.ctx, reading(name, "secrets")); err != nil {
			t.Errorf("an exception that was just made does not count: %v", err)
		}
	}
	w.ready("payments", "excused-9", "True Applied")

	// Without the exception the compiler says what admission said, and the refused
	// grant goes when it is deleted.
	w.must(w.hub.Delete(w.ctx, &v1alpha1.GuardrailException{ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "excused-9"}}))
	w.ready("payments", "excused-9", "False Refused")
	v := w.grant("payments", "excused-9").Status.Violations
	if len(v) != 1 || fmt.Sprintf("guardrail %q: %s (%s)", v[0].Guardrail, v[0].Message, v[0].Field) != message {
		t.Errorf("the compiler says %+v, and admission %q", v, message)
	}
	w.must(w.hub.Delete(w.ctx, reading("excused-9", "secrets")))
	w.eventually("the refused grant is gone", func() string {
		if err := w.hub.Get(w.ctx, client.ObjectKey{Namespace: "payments", Name: "excused-9"}, &v1alpha1.AccessGrant{}); !apierrors.IsNotFound(err) {
			return fmt.Sprint(err)
		}
		return ""
	})
}
