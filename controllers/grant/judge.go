package grant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/audit"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// namespaceKind is read for its labels only.
var namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace")

func namespaceObject() client.Object {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(namespaceKind)
	return o
}

// Policy is the guardrails in force.
type Policy interface {
	// Live has every guardrail that was there when it was called.
	Live(ctx context.Context) (*guardrail.Set, error)
}

// observePolicy reads the guardrails, after the grants: a guardrail that came before
// a grant is then among them (S26). Where they cannot be read, nothing widens and
// what ends still ends.
func (r *Reconciler) observePolicy(ctx context.Context, seen *observation) {
	seen.snapshot.Point = guardrail.Compile
	set, err := r.Policy.Live(ctx)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot read the guardrails; nothing widens until they can be")
		seen.errs = append(seen.errs, fmt.Errorf("cannot read the guardrails: %w", err))
		return
	}
	seen.snapshot.Guardrails = set
}

// observeNamespaces reads the labels of namespaces. One that the cache does not have
// yet is asked for: without its labels it could not be told which guardrails are for
// it.
func (r *Reconciler) observeNamespaces(ctx context.Context, seen *observation) error {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(namespaceKind)
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list namespaces: %w", err)
	}
	seen.snapshot.Namespaces = make(map[string]map[string]string, len(list.Items))
	for i := range list.Items {
		seen.snapshot.Namespaces[list.Items[i].Name] = list.Items[i].Labels
	}
	for i := range seen.snapshot.Grants {
		name := seen.snapshot.Grants[i].Namespace
		if _, known := seen.snapshot.Namespaces[name]; known {
			continue
		}
		one := metav1.PartialObjectMetadata{}
		one.SetGroupVersionKind(namespaceKind)
		if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &one); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot read namespace %q: %w", name, err)
		}
		seen.snapshot.Namespaces[name] = one.Labels
	}
	return nil
}

// standing tells what stands of a grant: the spec that was applied last, on the
// clusters for which a carrier names it.
func (r *Reconciler) standing(seen *observation) func(key string) *compile.Standing {
	var byKey map[string]*v1alpha1.AccessGrant
	return func(key string) *compile.Standing {
		if byKey == nil {
			byKey = make(map[string]*v1alpha1.AccessGrant, len(seen.grants))
			for _, g := range seen.grants {
				byKey[keyOf(g)] = g
			}
		}
		g := byKey[key]
		if g == nil {
			return nil
		}
		return r.specs.Standing(g, seen.standsOn()[compile.GrantLabel(key)])
	}
}

// rolesOf are the AccessRoles that a grant uses, by the digests that they have.
func rolesOf(spec *v1alpha1.AccessGrantSpec, digests map[string]string) []v1alpha1.AppliedRole {
	var out []v1alpha1.AppliedRole
	for i := range spec.Access {
		if ref := spec.Access[i].RoleRef; ref != nil && ref.Kind == v1alpha1.AccessRoleRef && digests[ref.Name] != "" {
			out = append(out, v1alpha1.AppliedRole{Name: ref.Name, Digest: digests[ref.Name]})
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.AppliedRole) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(out)
}

// tellFailures tells operators of guardrails that cannot be evaluated, and why, which
// the people whose grants they judge are not told: each when it comes and when it
// goes.
func (r *Reconciler) tellFailures(ctx context.Context, p plan) {
	failing := map[string]string{}
	for i := range p.output.Results {
		for _, reason := range p.output.Results[i].Judgement.Reasons {
			if _, told := failing[reason.Guardrail]; reason.Failed && !told {
				failing[reason.Guardrail] = p.output.Results[i].Grant + ": " + reason.Detail
			}
		}
	}
	log := ctrl.LoggerFrom(ctx)
	for name, why := range failing {
		if _, told := r.failing[name]; !told {
			log.Info("A guardrail cannot be evaluated", "guardrail", name, "because", why)
		}
	}
	for name := range r.failing {
		if _, still := failing[name]; !still {
			log.Info("A guardrail can be evaluated again", "guardrail", name)
		}
	}
	r.failing = failing
}

// audit publishes what guardrails make of the grants.
func (r *Reconciler) audit(ctx context.Context, seen *observation, p plan) {
	if r.Audit == nil || seen.snapshot.Guardrails == nil {
		return
	}
	a := audit.Audit{Grants: make([]audit.Grant, 0, len(p.output.Results)), Guardrails: seen.snapshot.Guardrails.Guardrails()}
	for _, g := range seen.grants {
		result, ok := p.output.Result(keyOf(g))
		if !ok || result.Phase == compile.Expired {
			continue
		}
		judged := audit.Grant{Namespace: g.Namespace, Name: g.Name, UID: g.UID, Judgement: result.Judgement}
		if s := seen.sources[keyOf(g)]; s != nil {
			judged.Revision = s.Revision
		}
		a.Grants = append(a.Grants, judged)
	}
	var bundles v1alpha1.GuardrailBundleList
	if err := r.Client.List(ctx, &bundles, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list bundles for the audit")
	}
	for i := range bundles.Items {
		b := audit.Bundle{Name: bundles.Items[i].Name}
		if c := conditions.Get(&bundles.Items[i], v1alpha1.ConditionReady); c != nil && c.Status == metav1.ConditionFalse {
			b.Err = errors.New(c.Message)
		}
		a.Bundles = append(a.Bundles, b)
	}
	r.Audit(a)
}

// maxViolations in a status.
const maxViolations = 50

// violationsOf a judgement, as the status has them.
func violationsOf(j *guardrail.Judgement) []v1alpha1.GrantViolation {
	var out []v1alpha1.GrantViolation
	for _, r := range j.Reasons {
		if len(out) == maxViolations {
			break
		}
		out = append(out, v1alpha1.GrantViolation{
			Guardrail: r.Guardrail, Message: cut(cmp.Or(r.Message, "refused"), 1024), Field: cut(r.Field, 253),
			Enforcement: cmp.Or(r.Enforcement, v1alpha1.EnforcementDeny), Exception: r.Exception,
		})
	}
	return out
}

// compliant says what guardrails make of the grant; the zero Condition of one that
// has expired.
func compliant(phase compile.Phase, j *guardrail.Judgement) metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionCompliant, Status: status, Reason: reason, Message: cut(message, 2048)}
	}
	if phase == compile.Expired {
		return metav1.Condition{}
	}
	switch j.Verdict {
	case guardrail.Denied:
		return is(metav1.ConditionFalse, v1alpha1.ReasonRefused, refusal(j))
	case guardrail.Undecided:
		return is(metav1.ConditionUnknown, v1alpha1.ReasonEvaluationFailed, refusal(j))
	}
	var excused []string
	for _, r := range j.Reasons {
		if r.Exception != "" {
			excused = append(excused, fmt.Sprintf("%s by %s", r.Guardrail, r.Exception))
		}
	}
	if excused = slices.Compact(excused); len(excused) > 0 {
		return is(metav1.ConditionTrue, v1alpha1.ReasonExcused, "excused from "+firstN(excused, 3))
	}
	return is(metav1.ConditionTrue, v1alpha1.ReasonCompliant, "no guardrail objects")
}

// refusal says which guardrails refuse, and why.
func refusal(j *guardrail.Judgement) string {
	var out []string
	for _, r := range j.Because() {
		out = append(out, r.String())
	}
	return cut(firstN(out, 3), 2048)
}
