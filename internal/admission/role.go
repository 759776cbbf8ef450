package admission

import (
	"context"
	"fmt"
	"slices"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// role is refused if a grant that names it would be judged worse than it is. Where
// there are too many for the time there is, the rest are judged when they are
// compiled: to refuse would also keep a role from being narrowed.
func (h *Handler) role(ctx context.Context, role *v1alpha1.AccessRole) answer {
	worse, judged, err := h.worsened(ctx, role, h.policy.Current)
	if err == nil && len(worse.grants) > 0 {
		worse, judged, err = h.worsened(ctx, role, h.policy.Live)
	}
	switch {
	case err != nil:
		ctrl.LoggerFrom(ctx).Error(err, "Cannot judge a role")
		return fail()
	case len(worse.grants) > 0:
		return refuse(denied, fmt.Sprintf("%s the role would be refused: %s: %s", that(len(worse.grants), "name"), named(worse.grants), tellAll(worse.because)))
	case judged.left > 0:
		return allow(that(judged.left, "name") + " the role could not be judged in time, and will be when the change is compiled")
	}
	return allow()
}

// worse are grants that are judged worse, and what the first is refused for.
type worse struct {
	grants  []string
	because []guardrail.Reason
}

func (h *Handler) worsened(ctx context.Context, role *v1alpha1.AccessRole, policy func(context.Context) (*guardrail.Set, error)) (worse, *standing, error) {
	set, err := known(ctx, policy)
	if err != nil {
		return worse{}, nil, err
	}
	if set.Idle(guardrail.Admission) {
		return worse{}, &standing{}, nil
	}
	st, err := h.standing(ctx, set, guardrail.Admission, func(g *v1alpha1.AccessGrant) bool { return slices.Contains(namedRoles(g), role.Name) })
	if err != nil {
		return worse{}, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewDeadline)
	defer cancel()
	after := judgeStanding(ctx, st.withRole(role.Name, &role.Spec))
	st.left += len(st.grants) - len(after)
	// Most are allowed, and of those there is no need to know what they were.
	st.grants = slices.DeleteFunc(st.grants[:len(after):len(after)], func(g *v1alpha1.AccessGrant) bool {
		return result(after, keyOf(g)).Judgement.Verdict == guardrail.Allowed
	})
	before := judgeStanding(ctx, st)
	st.left += len(st.grants) - len(before)
	var w worse
	for _, before := range before {
		if now := result(after, before.Grant).Judgement; now.Verdict < before.Judgement.Verdict {
			if w.grants = append(w.grants, before.Grant); len(w.grants) == 1 {
				w.because = now.Because()
			}
		}
	}
	return w, st, nil
}

// result of a grant among those that are sorted by key.
func result(sorted []compile.Result, key string) compile.Result {
	o := compile.Output{Results: sorted}
	r, _ := o.Result(key)
	return r
}
