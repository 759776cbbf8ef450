package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// outcome is how a pass ended.
type outcome struct {
	commit    Commit
	reason    Reason
	err       error
	plan      plan
	inventory Inventory // as it is now
	created   int
	updated   int
	repaired  int
	pruned    int
}

func failed(reason Reason, err error, inv Inventory) outcome {
	return outcome{reason: reason, err: err, inventory: inv}
}

// converge makes the cluster what the last commit says. Until the first write,
// every error leaves all as it was.
func (s *Syncer) converge(ctx context.Context, state *store) outcome {
	seen, err := observe(ctx, s.Client, s.built.objects, state.inventory)
	if err != nil {
		return failed(ReasonClusterFailed, err, state.inventory)
	}
	p, err := makePlan(s.id(), s.built.Commit, s.built.objects, state.inventory, seen)
	if err != nil {
		return failed(ReasonBuildFailed, err, state.inventory)
	}
	if len(p.conflicts) > 0 {
		err := fmt.Errorf("cannot apply objects of another sync: %s", firstOf(p.conflicts))
		return failed(ReasonRefused, err, state.inventory)
	}
	refused, err := s.rehearse(ctx, p)
	if err != nil {
		return failed(refusedOr(ReasonClusterFailed, err), err, state.inventory)
	}
	// The union of old and new: whatever happens from here on, nothing that was
	// applied is missing from the inventory.
	if err := state.save(ctx, state.status, p.inventory); err != nil {
		return failed(ReasonClusterFailed, err, state.inventory)
	}
	return s.execute(ctx, p, refused)
}

// rehearse tries all changes in a dry run. What is in a namespace that the commit
// brings cannot be tried until it exists, so it is created once all else has
// passed.
//
// A commit may bring a grant together with the guardrail or the exception that lets
// it through. Grants and roles that guardrails refuse are then returned, to be tried
// again once these are there.
func (s *Syncer) rehearse(ctx context.Context, p plan) (refused []change, err error) {
	missing, err := absent(ctx, s.Client, p.namespaces)
	if err != nil {
		return nil, err
	}
	isNew := map[string]bool{}
	for _, o := range missing {
		isNew[o.GetName()] = true
	}
	policy := slices.ContainsFunc(p.changes(), func(c change) bool { return isPolicy(c.GetKind()) })
	try := func(c change) error {
		err := tryApply(ctx, s.Client, c)
		if err != nil && policy && isJudged(c.GetKind()) && byWebhook(err) {
			refused = append(refused, c)
			return nil
		}
		return err
	}
	var later []change
	for _, c := range p.changes() {
		if isNew[c.GetNamespace()] {
			later = append(later, c)
		} else if err := try(c); err != nil {
			return nil, err
		}
	}
	for _, o := range missing {
		if err := createNamespace(ctx, s.Client, o); err != nil {
			return nil, err
		}
	}
	for _, c := range later {
		if err := try(c); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// isPolicy reports whether objects of a kind decide on grants.
func isPolicy(kind string) bool {
	return kind == v1alpha1.GuardrailKind || kind == v1alpha1.GuardrailBundleKind || kind == v1alpha1.GuardrailExceptionKind
}

// isJudged reports whether guardrails decide on objects of a kind.
func isJudged(kind string) bool {
	return kind == v1alpha1.AccessGrantKind || kind == v1alpha1.AccessRoleKind
}

// byWebhook reports whether an admission webhook said no, as opposed to the API
// server itself.
func byWebhook(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "admission webhook")
}

// execute applies, then prunes. It stops at the first error: what is pruned may be
// what an object that could not be applied was to replace. What was refused
// by the policy of before is tried by that of the commit, before any of it is applied.
func (s *Syncer) execute(ctx context.Context, p plan, refused []change) outcome {
	out := outcome{plan: p, inventory: p.inventory.without(p.gone...), reason: ReasonApplied}
	for _, c := range p.changes() {
		if isJudged(c.GetKind()) {
			for _, r := range refused {
				if err := tryApply(ctx, s.Client, r); err != nil {
					out.reason, out.err = refusedOr(ReasonApplyFailed, err), err
					return out
				}
			}
			refused = nil
		}
		entry, err := apply(ctx, s.Client, c)
		if err != nil {
			out.reason, out.err = ReasonApplyFailed, err
			return out
		}
		out.inventory[entry.Ref] = entry
	}
	out.created, out.updated, out.repaired = len(p.create), len(p.update), len(p.repair)
	for _, r := range p.prune {
		if err := remove(ctx, s.Client, r); err != nil {
			out.reason, out.err = ReasonPruneFailed, err
			return out
		}
		delete(out.inventory, r.Ref)
		out.pruned++
	}
	if len(p.waiting) > 0 {
		out.reason = ReasonWaiting
	}
	return out
}

// refusedOr tells an API server that says no from one that does not answer.
func refusedOr(other Reason, err error) Reason {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return other
	}
	switch code := status.Status().Code; {
	case code == 401, code == 408, code == 429, code < 400, code >= 500:
		return other
	default:
		return ReasonRefused
	}
}

// firstOf names three, so that a message stays short and the same.
func firstOf(refs []Ref) string {
	names := make([]string, 0, 4)
	for i, r := range refs {
		if i == 3 {
			names = append(names, fmt.Sprintf("and %d more", len(refs)-3))
			break
		}
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}
