package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// report patches every status that changed, once, and lets go of the grants of
// which nothing is left. It says when to come back.
func (r *Reconciler) report(ctx context.Context, seen *observation, p plan, done *outcome) (ctrl.Result, error) {
	stands := indexStandings(seen)
	errs := slices.Concat(seen.errs, done.errs)
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(r.writers())
	revoking := false
	alive := make(map[types.UID]bool, len(seen.grants))
	for _, g := range seen.grants {
		alive[g.UID] = true
		label := compile.GrantLabel(keyOf(g))
		deleting := !g.DeletionTimestamp.IsZero()
		result, compiled := p.output.Result(keyOf(g))
		switch {
		case compiled || deleting:
		default:
			continue // it has no finalizer yet, and nothing was done for it
		}
		meant := meaningOf(g, result, seen)
		far := measure(result, label, stands.of(label), seen.snapshot.Fleet, done, meant.equal(r.applied[g.UID]))
		r.remember(g, meant, &far)
		far.deleting = deleting
		if result.Judgement.Verdict == guardrail.Undecided {
			far.stood = seen.snapshot.Standing(keyOf(g))
		}
		far.hub = (deleting || len(result.Clusters) == 0) && stands.onHub(label)
		revoking = revoking || len(far.lingering) > 0
		group.Go(func() error {
			if err := r.reportOne(ctx, seen, g, &far, &mu); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	r.specs.Forget(alive)
	maps.DeleteFunc(r.applied, func(uid types.UID, _ meaning) bool { return !alive[uid] })
	return r.next(ctx, seen, p, revoking, errs)
}

// meaning is what a grant's effect depends on, but for the other grants: as long as
// it is the same, what members hold of the grant is.
type meaning struct {
	generation int64
	clusters   []string
	roles      []*v1alpha1.AccessRoleSpec
}

func meaningOf(g *v1alpha1.AccessGrant, result compile.Result, seen *observation) meaning {
	m := meaning{generation: g.Generation, clusters: result.Clusters}
	for i := range g.Spec.Access {
		if ref := g.Spec.Access[i].RoleRef; ref != nil && ref.Kind == v1alpha1.AccessRoleRef {
			m.roles = append(m.roles, seen.snapshot.Roles[ref.Name])
		}
	}
	return m
}

func (m meaning) equal(o meaning) bool {
	return o.generation != 0 && m.generation == o.generation && slices.Equal(m.clusters, o.clusters) && slices.Equal(m.roles, o.roles)
}

// remember that a grant is applied everywhere, so that its status does not change
// whenever a grant with which it shares a work does.
func (r *Reconciler) remember(g *v1alpha1.AccessGrant, m meaning, far *progress) {
	if r.applied == nil {
		r.applied = map[types.UID]meaning{}
	}
	if far.result.Phase == compile.Active && far.result.Judgement.Verdict == guardrail.Allowed && len(far.applied) > 0 && len(far.pending) == 0 && far.hubError == nil {
		r.applied[g.UID] = m
	} else {
		delete(r.applied, g.UID)
	}
}

func (r *Reconciler) reportOne(ctx context.Context, seen *observation, g *v1alpha1.AccessGrant, far *progress, mu *sync.Mutex) error {
	if far.deleting && far.gone() {
		return r.release(ctx, seen, g, mu)
	}
	now := g.DeepCopy()
	// Also of a suspended grant, which is kept as it stands because of what this
	// generation says. Else kstatus, and with it Flux, would wait for ever.
	now.Status.ObservedGeneration = g.Generation
	if err := recordApplied(seen, now, far); err != nil {
		return err
	}
	if source, ok := seen.sources[keyOf(g)]; ok {
		now.Status.Source = source
	}
	if v, ok := requested(g); ok {
		now.Status.LastHandledReconcileAt = v
	}
	far.write(now, seen.now, r.grace())
	if reflect.DeepEqual(g.Status, now.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, now, client.MergeFrom(g), fieldOwner); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("cannot patch the status of grant %q: %w", keyOf(g), err)
	}
	mu.Lock()
	r.recent.note(objectKey{v1alpha1.AccessGrantKind, client.ObjectKeyFromObject(g)}, g, now, seen.now)
	mu.Unlock()
	r.announce(g, now)
	return nil
}

// maxApplied bounds the copy of the spec in a status, in bytes, so that the two
// fit into one object. A larger grant, once suspended, stays on its clusters, but
// follows its spec there.
const maxApplied = 256 << 10

// recordApplied records what was acted on, for the day the grant is suspended or
// cannot be judged.
func recordApplied(seen *observation, g *v1alpha1.AccessGrant, far *progress) error {
	switch verdict := far.result.Judgement.Verdict; {
	case far.deleting:
		return nil
	case verdict == guardrail.Denied:
		// Of what is refused nothing is to come back by being held.
		g.Status.Applied, g.Status.AppliedRoles = nil, nil
		return nil
	case verdict == guardrail.Undecided:
		if far.stood != nil && far.stood.Spec != nil && !g.Spec.Suspend {
			return setApplied(g, far.stood.Within(&g.Spec))
		}
		return nil
	case g.Spec.Suspend:
		return nil
	}
	g.Status.AppliedRoles = rolesOf(&g.Spec, seen.roleDigests)
	return setApplied(g, &g.Spec)
}

// setApplied records a spec that was acted on.
func setApplied(g *v1alpha1.AccessGrant, applied *v1alpha1.AccessGrantSpec) error {
	spec := applied.DeepCopy()
	spec.Suspend = false
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("cannot record the spec of grant %q: %w", keyOf(g), err)
	}
	if len(raw) > maxApplied {
		g.Status.Applied = nil
		return nil
	}
	if a := g.Status.Applied; a != nil {
		var was v1alpha1.AccessGrantSpec
		if json.Unmarshal(a.Raw, &was) == nil && reflect.DeepEqual(&was, spec) {
			return nil // in other words, which an API server may choose
		}
	}
	g.Status.Applied = &runtime.RawExtension{Raw: raw}
	return nil
}

// release a grant of which nothing is left.
func (r *Reconciler) release(ctx context.Context, seen *observation, g *v1alpha1.AccessGrant, mu *sync.Mutex) error {
	if !controllerutil.ContainsFinalizer(g, v1alpha1.AccessGrantFinalizer) {
		return nil
	}
	// The caches said so; what lets go of the last trace asks past them.
	switch named, err := r.named(ctx, compile.GrantLabel(keyOf(g))); {
	case err != nil:
		return fmt.Errorf("cannot make sure that grant %q is revoked: %w", keyOf(g), err)
	case named:
		mu.Lock()
		seen.again(time.Second)
		mu.Unlock()
		return nil
	}
	free := g.DeepCopy()
	controllerutil.RemoveFinalizer(free, v1alpha1.AccessGrantFinalizer)
	err := r.Client.Patch(ctx, free, client.MergeFromWithOptions(g, client.MergeFromWithOptimisticLock{}), fieldOwner)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot release grant %q: %w", keyOf(g), err)
	}
	mu.Lock()
	var left client.Object
	if len(free.Finalizers) > 0 {
		left = free
	}
	r.recent.note(objectKey{v1alpha1.AccessGrantKind, client.ObjectKeyFromObject(g)}, g, left, seen.now)
	mu.Unlock()
	r.Events.Event(g, corev1.EventTypeNormal, v1alpha1.ReasonRevoked, "revoked on the hub and on every cluster")
	return nil
}

// named reports whether anything on the hub still names the grant with that label,
// as the API server knows it.
func (r *Reconciler) named(ctx context.Context, label string) (bool, error) {
	lists := map[client.ObjectList][]client.ListOption{&rbacv1.ClusterRoleBindingList{}: nil}
	for _, c := range r.Carriers {
		reader, err := r.readerOf(c)
		if err != nil {
			return false, err
		}
		if reader == nil {
			continue
		}
		_, list := c.Empty()
		lists[list] = nil
		if d, ok := c.(distribute.Direct); ok {
			lists[list] = []client.ListOption{client.InNamespace(d.Namespace)}
		}
	}
	for list, options := range lists {
		if err := r.Live.List(ctx, list, append(options, client.HasLabels{label}, client.Limit(1))...); err != nil {
			return false, err
		}
		if meta.LenList(list) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// announce what changed, and only that.
func (r *Reconciler) announce(before, after *v1alpha1.AccessGrant) {
	for _, t := range []string{v1alpha1.ConditionActive, v1alpha1.ConditionReady} {
		was, is := conditions.Get(before, t), conditions.Get(after, t)
		if was != nil && was.Status == is.Status && was.Reason == is.Reason {
			continue
		}
		if t == v1alpha1.ConditionActive && is.Reason == v1alpha1.ReasonActive {
			continue // Ready says it better
		}
		if t == v1alpha1.ConditionReady && is.Reason == conditions.GetReason(after, v1alpha1.ConditionActive) {
			continue // Active has said it
		}
		kind := corev1.EventTypeNormal
		switch is.Reason {
		case v1alpha1.ReasonApplyFailed, v1alpha1.ReasonRejected, v1alpha1.ReasonNoClusters, v1alpha1.ReasonResidualAccess,
			v1alpha1.ReasonRefused, v1alpha1.ReasonEvaluationFailed:
			kind = corev1.EventTypeWarning
		}
		message := is.Message
		if s := after.Status.Source; s != nil && s.Revision != "" {
			message += " (" + s.Revision + ")"
		}
		r.Events.Event(after, kind, is.Reason, message)
	}
}

// next is when time alone changes something, or soon if something went wrong. What
// went wrong is logged and tried again at growing intervals, and is not returned:
// the queue would then wait for its own interval, and let an expiry wait as well.
func (r *Reconciler) next(ctx context.Context, seen *observation, p plan, revoking bool, errs []error) (ctrl.Result, error) {
	hard := slices.DeleteFunc(errs, conflict)
	if len(hard) == 0 {
		r.failed = 0
	} else {
		r.failed++
		seen.again(min(100*time.Millisecond<<min(r.failed, 10), 30*time.Second))
		ctrl.LoggerFrom(ctx).Error(errors.Join(hard[:min(len(hard), 5)]...), "Some writes failed, and are tried again", "failures", len(hard), "again", seen.soon)
	}
	if len(hard) < len(errs) {
		seen.again(100 * time.Millisecond) // the cache was behind
	}
	if revoking {
		seen.again(r.grace() + time.Second)
	}
	if !p.output.Next.IsZero() {
		seen.again(p.output.Next.Sub(r.Now())) // writing took its time
	}
	return ctrl.Result{RequeueAfter: seen.soon}, nil
}
