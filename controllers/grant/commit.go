package grant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// fieldOwner is Sallyport's name among the managers of fields.
const fieldOwner = client.FieldOwner("sallyport")

// outcome of the writes of one pass.
type outcome struct {
	mu sync.Mutex
	// hub holds the failures of hub writes by the grant labels that they concern.
	hub []labelledError
	// clusters holds the first failure by cluster.
	clusters map[string]error
	errs     []error
	// wrote is how many writes succeeded.
	wrote int
}

type labelledError struct {
	labels distribute.Labels
	err    error
}

// commit writes the plan and brings the observation up to what was written. It
// goes on past failures: a write that is refused must not keep another from
// taking access away.
func (r *Reconciler) commit(ctx context.Context, seen *observation, p plan) *outcome {
	out := &outcome{clusters: map[string]error{}}
	inOrder(r.writers(), p.hub, hubWrite.rank, func(w hubWrite) {
		err := r.writeHub(ctx, seen, w, out)
		out.note(err, func() { out.hub = append(out.hub, labelledError{w.labels(), err}) })
	})
	inOrder(r.writers(), p.members, carrierWrite.rank, func(w carrierWrite) {
		err := r.writeCarrier(ctx, seen, w, out)
		out.note(err, func() {
			if out.clusters[w.cluster] == nil {
				out.clusters[w.cluster] = err
			}
		})
	})
	return out
}

func (o *outcome) note(err error, failed func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.wrote++
		return
	}
	o.errs = append(o.errs, err)
	failed()
}

// inOrder does items of equal rank at once, at most n at a time, and those of a
// higher rank after those of a lower one.
func inOrder[T any](n int, items []T, rank func(T) int, do func(T)) {
	for len(items) > 0 {
		end := 1
		for end < len(items) && rank(items[end]) == rank(items[0]) {
			end++
		}
		var group errgroup.Group
		group.SetLimit(n)
		for _, item := range items[:end] {
			group.Go(func() error { do(item); return nil })
		}
		_ = group.Wait() // do reports by itself
		items = items[end:]
	}
}

// adopt gives every grant the finalizer, before anything is done for it.
func (r *Reconciler) adopt(ctx context.Context, seen *observation) {
	var group errgroup.Group
	var mu sync.Mutex
	group.SetLimit(r.writers())
	for i, g := range seen.grants {
		if !g.DeletionTimestamp.IsZero() || controllerutil.ContainsFinalizer(g, v1alpha1.AccessGrantFinalizer) {
			continue
		}
		group.Go(func() error {
			adopted := g.DeepCopy()
			controllerutil.AddFinalizer(adopted, v1alpha1.AccessGrantFinalizer)
			patch := client.MergeFromWithOptions(g, client.MergeFromWithOptimisticLock{})
			if err := r.Client.Patch(ctx, adopted, patch, fieldOwner); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if conflict(err) || apierrors.IsNotFound(err) {
					seen.again(100 * time.Millisecond)
				} else {
					seen.errs = append(seen.errs, fmt.Errorf("cannot add the finalizer to grant %q: %w", keyOf(g), err))
				}
				return nil // it waits, and keeps no other from anything
			}
			mu.Lock()
			defer mu.Unlock()
			r.recent.note(objectKey{v1alpha1.AccessGrantKind, client.ObjectKeyFromObject(g)}, g, adopted, seen.now)
			seen.grants[i] = adopted
			return nil
		})
	}
	_ = group.Wait() // the errors are in seen
}

func (r *Reconciler) writeHub(ctx context.Context, seen *observation, w hubWrite, out *outcome) error {
	var after client.Object
	var err error
	switch {
	case w.want == nil:
		err = r.remove(ctx, w.live)
	case w.live == nil:
		after, err = r.create(ctx, w.want.Object.DeepCopyObject().(client.Object))
	default:
		after, err = r.replaceHub(ctx, w)
	}
	if err != nil {
		return err
	}
	kind, name := w.kind(), w.name()
	out.mu.Lock()
	defer out.mu.Unlock()
	key := client.ObjectKey{Name: name}
	r.recent.note(objectKey{kind, key}, w.live, after, seen.now)
	if after == nil {
		delete(seen.hub[kind], key)
	} else {
		seen.hub[kind][key] = after
	}
	return nil
}

func (w hubWrite) kind() string {
	if w.want != nil {
		return w.want.Kind
	}
	if _, ok := w.live.(*rbacv1.ClusterRole); ok {
		return "ClusterRole"
	}
	return "ClusterRoleBinding"
}

// labels of the grants that a write concerns.
func (w hubWrite) labels() distribute.Labels {
	if w.want != nil {
		return distribute.LabelsOf(w.want.Object.(client.Object).GetLabels())
	}
	return distribute.LabelsOf(w.live.GetLabels())
}

// replaceHub overwrites an object as a whole: applying it field by field would
// leave an aggregationRule or a label that somebody added.
func (r *Reconciler) replaceHub(ctx context.Context, w hubWrite) (client.Object, error) {
	want := w.want.Object.DeepCopyObject().(client.Object)
	if binding, ok := w.live.(*rbacv1.ClusterRoleBinding); ok && binding.RoleRef != want.(*rbacv1.ClusterRoleBinding).RoleRef {
		// A roleRef cannot be changed.
		if err := r.remove(ctx, w.live); err != nil {
			return nil, err
		}
		return r.create(ctx, want)
	}
	annotations := map[string]string{}
	for k, v := range w.live.GetAnnotations() {
		annotations[k] = v
	}
	delete(annotations, v1alpha1.SourcesAnnotation)
	for k, v := range want.GetAnnotations() {
		annotations[k] = v
	}
	want.SetAnnotations(annotations)
	want.SetResourceVersion(w.live.GetResourceVersion())
	want.SetUID(w.live.GetUID())
	if err := r.Client.Update(ctx, want, fieldOwner); err != nil {
		return nil, fmt.Errorf("cannot update %s %q: %w", w.want.Kind, w.want.Name, err)
	}
	return want, nil
}

// create refuses to take over what exists: nothing that lacks Sallyport's label is
// ever changed.
func (r *Reconciler) create(ctx context.Context, o client.Object) (client.Object, error) {
	kind := r.kindOf(o)
	err := r.Client.Create(ctx, o, fieldOwner)
	switch {
	case err == nil:
		return o, nil
	case apierrors.IsAlreadyExists(err):
		if foreign, getErr := r.foreign(ctx, o); getErr != nil {
			return nil, fmt.Errorf("cannot create %s %q, nor read the one that exists: %w", kind, client.ObjectKeyFromObject(o), getErr)
		} else if !foreign {
			return nil, fmt.Errorf("cannot create %s %q: %w", kind, client.ObjectKeyFromObject(o), err)
		}
		return nil, fmt.Errorf("cannot create %s %q: one exists that Sallyport did not make; delete it, or give it the label %s=%s to hand it over",
			kind, client.ObjectKeyFromObject(o), v1alpha1.ManagedByLabel, v1alpha1.ManagedByValue)
	default:
		return nil, fmt.Errorf("cannot create %s %q: %w", kind, client.ObjectKeyFromObject(o), err)
	}
}

func (r *Reconciler) foreign(ctx context.Context, o client.Object) (bool, error) {
	live := o.DeepCopyObject().(client.Object)
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(o), live)
	return err == nil && !distribute.Ours(live), client.IgnoreNotFound(err)
}

// remove deletes exactly the object that was seen.
func (r *Reconciler) remove(ctx context.Context, o client.Object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := r.Client.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot delete %s %q: %w", r.kindOf(o), client.ObjectKeyFromObject(o), err)
	}
	return nil
}

func (r *Reconciler) kindOf(o client.Object) string {
	gvk, err := r.Client.GroupVersionKindFor(o)
	if err != nil {
		return fmt.Sprintf("%T", o)
	}
	return gvk.Kind
}

// resyncAnnotation on a ManifestWork makes its agent look again.
const resyncAnnotation = "access.sallyport.dev/resync"

func (r *Reconciler) writeCarrier(ctx context.Context, seen *observation, w carrierWrite, out *outcome) error {
	carrier := r.Carriers[w.key.Delivery]
	var after client.Object
	var err error
	switch {
	case w.parcel == nil:
		if err = r.remove(ctx, w.live); err == nil && len(w.live.GetFinalizers()) > 0 {
			after = deleting(w.live, metav1.NewTime(seen.now))
		}
	case w.live == nil:
		var want client.Object
		if want, err = carrier.Wrap(*w.parcel, nil); err == nil {
			after, err = r.create(ctx, want)
		}
	default:
		after, err = r.updateCarrier(ctx, carrier, w)
	}
	if err != nil {
		return err
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	r.recent.note(objectKey{w.key.Delivery.String(), w.key.ObjectKey}, w.live, after, seen.now)
	if after == nil {
		delete(seen.carriers[w.key.Delivery], w.key.ObjectKey)
		return nil
	}
	seen.carriers[w.key.Delivery][w.key.ObjectKey] = standing{after, carrier.Standing(after)}
	if w.parcel != nil {
		r.carried[w.key] = carried{after.GetResourceVersion(), w.parcel.Of}
	}
	return nil
}

func (r *Reconciler) updateCarrier(ctx context.Context, carrier distribute.Carrier, w carrierWrite) (client.Object, error) {
	var want client.Object
	var err error
	if w.resync != "" {
		want = w.live.DeepCopyObject().(client.Object)
		annotations := want.GetAnnotations()
		annotations[resyncAnnotation] = w.resync
		want.SetAnnotations(annotations)
	} else if want, err = carrier.Wrap(*w.parcel, w.live); err != nil {
		return nil, err
	} else if err := r.withdraw(ctx, carrier, w.live, want); err != nil {
		return nil, fmt.Errorf("cannot update the status of %s %q: %w", w.key.Delivery, w.key.ObjectKey, err)
	}
	if err := r.Client.Update(ctx, want, fieldOwner); err != nil {
		return nil, fmt.Errorf("cannot update %s %q: %w", w.key.Delivery, w.key.ObjectKey, err)
	}
	return want, nil
}

// withdraw the agent's word, where that does not say of what it was.
func (r *Reconciler) withdraw(ctx context.Context, carrier distribute.Carrier, live, want client.Object) error {
	withdrawer, ok := carrier.(distribute.Withdrawer)
	if !ok {
		return nil
	}
	doubted := withdrawer.Withdraw(live, want)
	if doubted == nil {
		return nil
	}
	patch := client.MergeFromWithOptions(live, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, doubted, patch, fieldOwner); err != nil {
		return err
	}
	want.SetResourceVersion(doubted.GetResourceVersion())
	return nil
}

// deleting is an object as it is while finalizers hold it.
func deleting(o client.Object, at metav1.Time) client.Object {
	gone := o.DeepCopyObject().(client.Object)
	gone.SetDeletionTimestamp(&at)
	return gone
}

// conflict reports whether an error only says that the cache was behind, and the
// next pass will do.
func conflict(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || errors.Is(err, context.Canceled)
}
