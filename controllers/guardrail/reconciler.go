package guardrail

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

const fieldOwner = client.FieldOwner("sallyport")

// Policy is the guardrails in force.
type Policy interface {
	Live(ctx context.Context) (*guardrail.Set, error)
}

// Reconciler of the statuses of all guardrails and exceptions.
type Reconciler struct {
	Client client.Client
	Policy Policy
	Events record.EventRecorder
	// Now is the clock.
	Now func() time.Time
}

// everything is the one request: an exception depends on a guardrail, and both on
// the policy as a whole.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "policy"}}

// Reconcile brings the statuses up to what is in force.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var guardrails v1alpha1.GuardrailList
	var exceptions v1alpha1.GuardrailExceptionList
	for _, list := range []client.ObjectList{&guardrails, &exceptions} {
		if err := r.Client.List(ctx, list); err != nil {
			return ctrl.Result{}, fmt.Errorf("cannot list what the policy is made of: %w", err)
		}
	}
	// After the objects, so that what is told of them is not older than they are.
	set, err := r.Policy.Live(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	inForce := map[string]*guardrail.Guardrail{}
	for _, g := range set.Guardrails() {
		inForce[g.Name] = g
	}
	now := r.Now()
	var errs []error
	for i := range guardrails.Items {
		g := &guardrails.Items[i]
		errs = append(errs, r.patch(ctx, g, func() { tell(g, inForce[g.Name], now) }))
	}
	var next time.Time
	for i := range exceptions.Items {
		e := &exceptions.Items[i]
		var at time.Time
		errs = append(errs, r.patch(ctx, e, func() { at = tellException(e, inForce[e.Spec.Guardrail], now) }))
		if next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if err := errors.Join(errs...); err != nil {
		return ctrl.Result{}, err
	}
	if next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(now), time.Millisecond)}, nil
}

// object with conditions.
type object interface {
	client.Object
	conditions.Setter
}

// patch the status of an object, if what is told changes it.
func (r *Reconciler) patch(ctx context.Context, o object, tell func()) error {
	before := o.DeepCopyObject().(object)
	tell()
	if reflect.DeepEqual(before, o) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, o, client.MergeFrom(before), fieldOwner); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot patch the status of %T %q: %w", o, client.ObjectKeyFromObject(o), err)
	}
	if is := conditions.Get(o, v1alpha1.ConditionReady); is != nil {
		was := conditions.Get(before, v1alpha1.ConditionReady)
		switch {
		case was != nil && was.Status == is.Status && was.Reason == is.Reason:
		case is.Status == metav1.ConditionTrue:
			r.Events.Event(o, corev1.EventTypeNormal, is.Reason, is.Message)
		default:
			r.Events.Event(o, corev1.EventTypeWarning, is.Reason, is.Message)
		}
	}
	return nil
}

// tell of a guardrail whether it can be asked.
func tell(g *v1alpha1.Guardrail, inForce *guardrail.Guardrail, now time.Time) {
	if inForce == nil {
		return // it came or went in between; there will be another pass
	}
	g.Status.ObservedGeneration = g.Generation
	g.Status.Digest = "sha256:" + inForce.Digest
	if inForce.Check == nil {
		message := "there is no policy"
		if inForce.Err != nil {
			message = inForce.Err.Error()
		}
		message = cut(message, 4096)
		set(g, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalid, message, now)
		set(g, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalid, message, now)
		return
	}
	set(g, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonInForce, "the guardrail is in force", now)
	conditions.Delete(g, v1alpha1.ConditionStalled)
}

// tellException whether an exception is honoured, and return when that changes.
func tellException(e *v1alpha1.GuardrailException, of *guardrail.Guardrail, now time.Time) time.Time {
	e.Status.ObservedGeneration = e.Generation
	exception := snapshot.ExceptionOf(e)
	active := func(status metav1.ConditionStatus, reason, message string) {
		set(e, v1alpha1.ConditionActive, status, reason, message, now)
		stalled := reason == v1alpha1.ReasonUnknownGuardrail || reason == v1alpha1.ReasonForbidden || reason == v1alpha1.ReasonTooLong
		if stalled {
			set(e, v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message, now)
			set(e, v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message, now)
			return
		}
		set(e, v1alpha1.ConditionReady, metav1.ConditionTrue, reason, message, now)
		conditions.Delete(e, v1alpha1.ConditionStalled)
	}
	switch {
	case of == nil:
		active(metav1.ConditionFalse, v1alpha1.ReasonUnknownGuardrail, fmt.Sprintf("there is no guardrail %q", e.Spec.Guardrail))
	case of.Exceptions.Longest == 0:
		active(metav1.ConditionFalse, v1alpha1.ReasonForbidden, fmt.Sprintf("guardrail %q honours no exceptions", of.Name))
	case !of.Exceptions.Honour(&exception):
		active(metav1.ConditionFalse, v1alpha1.ReasonTooLong, fmt.Sprintf("guardrail %q honours exceptions of at most %s, and this one lasts %s", of.Name, of.Exceptions.Longest, exception.NotAfter.Sub(exception.NotBefore)))
	case now.Before(exception.NotBefore):
		active(metav1.ConditionFalse, v1alpha1.ReasonNotYetActive, "before notBefore "+exception.NotBefore.UTC().Format(time.RFC3339))
		return exception.NotBefore
	case !now.Before(exception.NotAfter):
		active(metav1.ConditionFalse, v1alpha1.ReasonExpired, "after notAfter "+exception.NotAfter.UTC().Format(time.RFC3339))
	default:
		active(metav1.ConditionTrue, v1alpha1.ReasonInForce, "until "+exception.NotAfter.UTC().Format(time.RFC3339))
		return exception.NotAfter
	}
	return time.Time{}
}

func set(o object, kind string, status metav1.ConditionStatus, reason, message string, now time.Time) {
	conditions.Set(o, &metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: o.GetGeneration(), LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
}

// cut a message to a length in runes.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// SetupWithManager has the reconciler run, on the leader, whenever the policy changes.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	enqueue := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("guardrail").
		Watches(&v1alpha1.Guardrail{}, enqueue, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.GuardrailException{}, enqueue, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.GuardrailBundle{}, enqueue).
		Complete(r)
}
