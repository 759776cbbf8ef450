package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// grant is judged by itself, on what it compiles to. One that cannot be judged and
// only becomes narrower is taken: nobody is to keep what somebody takes away, because
// a policy is broken.
func (h *Handler) grant(ctx context.Context, old, g *v1alpha1.AccessGrant) answer {
	j, digest, err := h.judge(ctx, g)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot judge a grant")
		return fail()
	}
	for _, r := range j.Reasons {
		if r.Failed {
			ctrl.LoggerFrom(ctx).Info("A guardrail cannot be evaluated", "guardrail", r.Guardrail, "detail", r.Detail)
		}
	}
	a := allow()
	switch j.Verdict {
	case guardrail.Allowed:
	case guardrail.Undecided:
		if old != nil && compile.Narrows(&old.Spec, &g.Spec) {
			a.warnings = append(a.warnings, tellAll(j.Because()))
			break
		}
		a = refuse(undecided, tellAll(j.Because()))
	default:
		a = refuse(denied, tellAll(j.Because()))
	}
	a.audit = map[string]string{"policy": digest}
	h.tell(ctx, g.Namespace, &j, &a)
	return a
}

// tell of what does not count: warnings to whoever applies the grant, and the rest
// to the API server's audit log.
func (h *Handler) tell(ctx context.Context, namespace string, j *guardrail.Judgement, a *answer) {
	var audited []guardrail.Reason
	for i := range j.Reasons {
		r := &j.Reasons[i]
		switch {
		case r.Exception != "":
			a.warnings = append(a.warnings, fmt.Sprintf("excused by exception %q%s: %s", r.Exception, h.until(ctx, namespace, r.Exception), tell(r)))
		case r.Enforcement == v1alpha1.EnforcementWarn:
			a.warnings = append(a.warnings, tell(r))
		case r.Enforcement == v1alpha1.EnforcementAudit:
			audited = append(audited, *r)
		}
	}
	if len(audited) > 0 {
		a.audit["violations"] = tellAll(audited)
	}
}

// until when an exception holds, if that can be told.
func (h *Handler) until(ctx context.Context, namespace, name string) string {
	var e v1alpha1.GuardrailException
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if h.cached.Get(ctx, key, &e) != nil && h.live.Get(ctx, key, &e) != nil {
		return ""
	}
	return " until " + e.Spec.NotAfter.UTC().Format(time.RFC3339)
}

// judge a grant. To refuse takes a second look, past the caches.
func (h *Handler) judge(ctx context.Context, g *v1alpha1.AccessGrant) (j guardrail.Judgement, digest string, err error) {
	set, err := known(ctx, h.policy.Current)
	if err != nil {
		return guardrail.Judgement{}, "", err
	}
	if j, err = h.judgeBy(ctx, h.cached, set, g); err == nil && j.Verdict == guardrail.Allowed {
		return j, set.Digest(), nil
	}
	if err := ctx.Err(); err != nil {
		return guardrail.Judgement{}, "", fmt.Errorf("cannot judge in time: %w", err)
	}
	if set, err = known(ctx, h.policy.Live); err != nil {
		return guardrail.Judgement{}, "", err
	}
	j, err = h.judgeBy(ctx, h.live, set, g)
	return j, set.Digest(), err
}

// known is the Set, or an error: nothing is judged by guardrails that nobody knows.
func known(ctx context.Context, policy func(context.Context) (*guardrail.Set, error)) (*guardrail.Set, error) {
	set, err := policy(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the guardrails: %w", err)
	case set == nil:
		return nil, errors.New("the guardrails are not known yet")
	}
	return set, nil
}

// judgeBy what a reader has and a Set says.
func (h *Handler) judgeBy(ctx context.Context, from client.Reader, set *guardrail.Set, g *v1alpha1.AccessGrant) (guardrail.Judgement, error) {
	s, err := h.world(ctx, set, guardrail.Admission)
	if err != nil {
		return guardrail.Judgement{}, err
	}
	var ns corev1.Namespace
	if err := from.Get(ctx, client.ObjectKey{Name: g.Namespace}, &ns); err != nil {
		return guardrail.Judgement{}, fmt.Errorf("cannot read namespace %q: %w", g.Namespace, err)
	}
	s.Namespaces = map[string]map[string]string{ns.Name: ns.Labels}
	if s.Roles, err = rolesOf(ctx, from, g); err != nil {
		return guardrail.Judgement{}, err
	}
	s.Grants = []compile.Grant{compilable(g, h.origin(ctx, g))}
	results := compile.Judge(s)
	if len(results) != 1 {
		return guardrail.Judgement{}, fmt.Errorf("cannot judge grant %q: it has %d results", g.Namespace+"/"+g.Name, len(results))
	}
	return results[0].Judgement, nil
}

// world is a snapshot without grants, roles and namespaces.
func (h *Handler) world(ctx context.Context, set *guardrail.Set, at guardrail.Point) (compile.Snapshot, error) {
	f, _, err := h.inventory.Fleet(ctx)
	if err != nil {
		return compile.Snapshot{}, fmt.Errorf("cannot read the fleet: %w", err)
	}
	placements, err := h.inventory.Placements(ctx)
	if err != nil {
		return compile.Snapshot{}, fmt.Errorf("cannot read placements: %w", err)
	}
	return compile.Snapshot{Fleet: f, Placements: placements, Now: h.now(), Guardrails: set, Point: at}, nil
}

func compilable(g *v1alpha1.AccessGrant, origin *guardrail.Source) compile.Grant {
	return compile.Grant{
		Namespace: g.Namespace, Name: g.Name, Spec: &g.Spec, Labels: g.Labels, Annotations: g.Annotations, Origin: origin,
	}
}

// rolesOf a grant that there are.
func rolesOf(ctx context.Context, from client.Reader, g *v1alpha1.AccessGrant) (map[string]*v1alpha1.AccessRoleSpec, error) {
	roles := map[string]*v1alpha1.AccessRoleSpec{}
	for _, name := range namedRoles(g) {
		var role v1alpha1.AccessRole
		switch err := from.Get(ctx, client.ObjectKey{Name: name}, &role); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("cannot read AccessRole %q: %w", name, err)
		case role.DeletionTimestamp.IsZero():
			roles[name] = &role.Spec
		}
	}
	return roles, nil
}

// namedRoles are the names of the AccessRoles that a grant names, sorted.
func namedRoles(g *v1alpha1.AccessGrant) []string {
	var names []string
	for i := range g.Spec.Access {
		if ref := g.Spec.Access[i].RoleRef; ref != nil && ref.Kind == v1alpha1.AccessRoleRef {
			names = append(names, ref.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
