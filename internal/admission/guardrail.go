package admission

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// guardrail is refused if it does not compile. Whoever writes it is told which
// grants it will revoke, and not kept from it.
func (h *Handler) guardrail(ctx context.Context, g *v1alpha1.Guardrail) answer {
	compiled, errs := policy.Compile(g.Name, &g.Spec, policy.Options{})
	if len(errs) > 0 {
		return refuseFields(v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailKind).GroupKind(), g.Name, errs)
	}
	return h.review(ctx, "Cannot tell what a guardrail would revoke", func(ctx context.Context) (string, error) {
		return h.revoked(ctx, compiled)
	})
}

// guardrailDeleted warns of what is let through by deleting a guardrail. That is for
// whoever may delete it to decide.
func (h *Handler) guardrailDeleted(ctx context.Context, name string) answer {
	return h.review(ctx, "Cannot tell what a guardrail refuses", func(ctx context.Context) (string, error) {
		return h.released(ctx, name)
	})
}

// review all that stands for a warning, which is not worth waiting for, and which
// decides nothing.
func (h *Handler) review(ctx context.Context, failure string, find func(context.Context) (string, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, reviewDeadline)
	defer cancel()
	warning, err := find(ctx)
	switch {
	case err != nil:
		ctrl.LoggerFrom(ctx).Info(failure, "error", err.Error())
		return allow()
	case warning == "":
		return allow()
	}
	return allow(warning)
}

// revoked tells of the grants that stand and that a guardrail will refuse.
func (h *Handler) revoked(ctx context.Context, g *guardrail.Guardrail) (string, error) {
	var list v1alpha1.GuardrailExceptionList
	if err := h.cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("cannot list GuardrailExceptions: %w", err)
	}
	var excused []guardrail.Exception
	for i := range list.Items {
		if e := &list.Items[i]; e.DeletionTimestamp.IsZero() {
			excused = append(excused, snapshot.ExceptionOf(e))
		}
	}
	set := guardrail.NewSet([]*guardrail.Guardrail{g}, excused, guardrail.Options{})
	if set.Idle(guardrail.Compile) {
		return "", nil
	}
	st, err := h.standing(ctx, set, guardrail.Compile, stands)
	if err != nil {
		return "", err
	}
	var revoked []string
	judged := judgeStanding(ctx, st)
	for i := range judged {
		if judged[i].Judgement.Verdict == guardrail.Denied {
			revoked = append(revoked, judged[i].Grant)
		}
	}
	if len(revoked) == 0 {
		return "", nil
	}
	return that(len(revoked), "stand") + " will be revoked: " + named(revoked) + unjudged(st, len(judged)), nil
}

// released tells of the grants that nothing but one guardrail refuses.
func (h *Handler) released(ctx context.Context, name string) (string, error) {
	set, err := known(ctx, h.policy.Current)
	if err != nil {
		return "", err
	}
	st, err := h.standing(ctx, set, guardrail.Compile, func(g *v1alpha1.AccessGrant) bool { return !stands(g) })
	if err != nil {
		return "", err
	}
	var released []string
	judged := judgeStanding(ctx, st)
	for i := range judged {
		because := judged[i].Judgement.Because()
		if len(because) > 0 && !slices.ContainsFunc(because, func(r guardrail.Reason) bool { return r.Guardrail != name }) {
			released = append(released, judged[i].Grant)
		}
	}
	if len(released) == 0 {
		return "", nil
	}
	return fmt.Sprintf("what nothing else refuses will be applied: %s%s", named(released), unjudged(st, len(judged))), nil
}

// unjudged says of how many it could not be told.
func unjudged(st *standing, judged int) string {
	left := st.left + len(st.grants) - judged
	if left == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more could not be judged in time", left)
}

// exception is refused if its guardrail would not honour it. One whose guardrail or
// grant does not exist may be early, and is warned about.
func (h *Handler) exception(ctx context.Context, e *v1alpha1.GuardrailException) answer {
	found, problem, err := dishonoured(ctx, e, h.policy.Current)
	if err == nil && (!found || problem != "") {
		found, problem, err = dishonoured(ctx, e, h.policy.Live)
	}
	switch {
	case err != nil:
		ctrl.LoggerFrom(ctx).Error(err, "Cannot judge an exception")
		return fail()
	case problem != "":
		return refuse(denied, problem)
	}
	var warnings []string
	if !found {
		warnings = append(warnings, fmt.Sprintf("there is no guardrail %q", e.Spec.Guardrail))
	}
	var g v1alpha1.AccessGrant
	if err := h.live.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: e.Spec.Grant}, &g); apierrors.IsNotFound(err) {
		warnings = append(warnings, fmt.Sprintf("there is no grant %q in namespace %q", e.Spec.Grant, e.Namespace))
	}
	return allow(warnings...)
}

// dishonoured tells why the guardrail that an exception names, if it is found, would
// not honour it. Of guardrails of one name, all have to.
func dishonoured(ctx context.Context, e *v1alpha1.GuardrailException, policy func(context.Context) (*guardrail.Set, error)) (found bool, problem string, err error) {
	set, err := known(ctx, policy)
	if err != nil {
		return false, "", err
	}
	excuse := snapshot.ExceptionOf(e)
	for _, g := range set.Guardrails() {
		if g.Name != e.Spec.Guardrail {
			continue
		}
		found = true
		switch {
		case g.Exceptions.Longest <= 0:
			return true, fmt.Sprintf("guardrail %q allows no exceptions", g.Name), nil
		case !g.Exceptions.Honour(&excuse):
			return true, fmt.Sprintf("guardrail %q honours exceptions of at most %s from notBefore to notAfter, and this one is of %s",
				g.Name, g.Exceptions.Longest, excuse.NotAfter.Sub(excuse.NotBefore)), nil
		}
	}
	return found, "", nil
}
