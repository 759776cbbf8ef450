package guardrailbundle

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// commit a decision: the archive, then the status, then what is obsolete.
func (r *Reconciler) commit(ctx context.Context, seen *observation, d decision) (ctrl.Result, error) {
	var failed error
	if d.archive != nil {
		if failed = r.store(ctx, seen.bundle, d); failed != nil {
			d = decision{reason: v1alpha1.ReasonApplyFailed, message: failed.Error() + "; " + standing(seen), active: seen.bundle.Status.Active}
		}
	}
	after := seen.bundle.DeepCopy()
	d.write(after, seen.now)
	if !reflect.DeepEqual(seen.bundle.Status, after.Status) {
		patch := client.MergeFromWithOptions(seen.bundle, client.MergeFromWithOptimisticLock{})
		switch err := r.Client.Status().Patch(ctx, after, patch, fieldOwner); {
		case apierrors.IsNotFound(err):
			return ctrl.Result{}, nil
		case err != nil:
			return ctrl.Result{}, fmt.Errorf("cannot patch the status of bundle %q: %w", after.Name, err)
		}
	}
	r.remember(after, d)
	r.announce(seen.bundle, after)
	r.instruments().record(seen.bundle, d, seen.now)
	again := seen.bundle.Spec.Interval.Duration
	if again <= 0 {
		again = time.Minute
	}
	wait, err := r.tidy(ctx, seen, after)
	if wait > 0 {
		again = min(again, wait)
	}
	if seen.bundle.Spec.Suspend && wait == 0 {
		again = 0
	}
	if err := errors.Join(failed, err); err != nil {
		return ctrl.Result{}, err // it is tried again sooner
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

func (r *Reconciler) remember(b *v1alpha1.GuardrailBundle, d decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.compiled == nil {
		r.compiled = map[types.UID]version{}
	}
	r.compiled[b.UID] = d.compiled
}

// store the archive of the bundle that is to be in force. One of that name that is
// not what it says is replaced.
func (r *Reconciler) store(ctx context.Context, b *v1alpha1.GuardrailBundle, d decision) error {
	archive := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Namespace, Name: bundle.ArchiveName(b.Name, d.active.Digest),
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, BundleLabel: b.Name},
			Annotations: map[string]string{
				revisionAnnotation: d.active.Revision, digestAnnotation: d.active.Digest, keyAnnotation: d.active.KeyID,
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.GuardrailBundleKind, Name: b.Name, UID: b.UID, Controller: ptr.To(true),
			}},
		},
		BinaryData: map[string][]byte{bundle.ArchiveKey: d.archive},
		Immutable:  ptr.To(true),
	}
	err := r.Client.Create(ctx, archive, fieldOwner)
	if apierrors.IsAlreadyExists(err) {
		if err = r.clear(ctx, client.ObjectKeyFromObject(archive)); err == nil {
			archive.ResourceVersion = ""
			err = r.Client.Create(ctx, archive, fieldOwner)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep the archive of bundle %q: %w", b.Name, err)
	}
	return nil
}

// clear the name of an archive of what is none, or is that of a bundle that is gone.
func (r *Reconciler) clear(ctx context.Context, key client.ObjectKey) error {
	var there corev1.ConfigMap
	if err := r.Live.Get(ctx, key, &there); err != nil {
		return client.IgnoreNotFound(err)
	}
	if !distribute.Ours(&there) {
		return fmt.Errorf("ConfigMap %q exists and Sallyport did not make it", key.Name)
	}
	return r.remove(ctx, []*corev1.ConfigMap{&there})
}

// remove exactly the archives that were seen.
func (r *Reconciler) remove(ctx context.Context, archives []*corev1.ConfigMap) error {
	var errs []error
	for _, a := range archives {
		err := r.Client.Delete(ctx, a, client.Preconditions{UID: &a.UID, ResourceVersion: &a.ResourceVersion})
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("cannot delete ConfigMap %q: %w", a.Name, err))
		}
	}
	return errors.Join(errs...)
}

// tidy away the archives that have not been in force for some time, or say when to.
// While there is no bundle in force, they are all that tells of one that was.
func (r *Reconciler) tidy(ctx context.Context, seen *observation, after *v1alpha1.GuardrailBundle) (time.Duration, error) {
	active := after.Status.Active
	if active == nil {
		return 0, nil
	}
	var obsolete []*corev1.ConfigMap
	for _, a := range seen.archives {
		if a.Name != bundle.ArchiveName(after.Name, active.Digest) {
			obsolete = append(obsolete, a)
		}
	}
	if len(obsolete) == 0 {
		return 0, nil
	}
	if wait := active.Since.Add(keep).Sub(seen.now); wait > 0 {
		return wait, nil
	}
	return 0, r.remove(ctx, obsolete)
}

// write the decision into a status.
func (d *decision) write(b *v1alpha1.GuardrailBundle, now time.Time) {
	b.Status.ObservedGeneration = b.Generation
	b.Status.Active = d.active
	if v, ok := meta.ReconcileAnnotationValue(b.GetAnnotations()); ok {
		b.Status.LastHandledReconcileAt = v
	}
	ready := metav1.ConditionFalse
	if d.reason == v1alpha1.ReasonInForce || d.reason == v1alpha1.ReasonSuspended && d.active != nil {
		ready = metav1.ConditionTrue
	}
	set := func(kind string, status metav1.ConditionStatus) {
		conditions.Set(b, &metav1.Condition{
			Type: kind, Status: status, Reason: d.reason, Message: cut(d.message, maxMessage),
			LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		})
	}
	set(v1alpha1.ConditionReady, ready)
	// A source that cannot be read is tried again; one that holds no good bundle
	// needs somebody who puts another there.
	for kind, holds := range map[string]bool{
		v1alpha1.ConditionReconciling: d.reason == v1alpha1.ReasonFetchFailed,
		v1alpha1.ConditionStalled:     d.reason == v1alpha1.ReasonInvalid,
	} {
		if holds {
			set(kind, metav1.ConditionTrue)
		} else {
			conditions.Delete(b, kind)
		}
	}
}

// maxMessage of a condition, in bytes.
const maxMessage = 2048

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}

// announce what changed, and only that.
func (r *Reconciler) announce(before, after *v1alpha1.GuardrailBundle) {
	was, is := conditions.Get(before, v1alpha1.ConditionReady), conditions.Get(after, v1alpha1.ConditionReady)
	same := before.Status.Active == after.Status.Active ||
		before.Status.Active != nil && after.Status.Active != nil && before.Status.Active.Digest == after.Status.Active.Digest
	if same && was != nil && was.Reason == is.Reason && was.Message == is.Message {
		return
	}
	kind := corev1.EventTypeWarning
	if is.Status == metav1.ConditionTrue {
		kind = corev1.EventTypeNormal
	}
	r.Events.Event(after, kind, is.Reason, is.Message)
}
