package route

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/identity"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Reasons of events, and values of the metric's label.
const (
	reasonReady     = "RouteReady"
	reasonNoAddress = "NoAddress"
	reasonNoToken   = "NoToken"
	reasonRefused   = "KubeconfigRefused"
	reasonFailed    = "TokenFailed"
)

// outcome of an attempt.
type outcome struct {
	reason string
	// gone: a source says for good that there is no route.
	gone bool
	// retry: it may work by itself.
	retry bool
}

func outcomeOf(err error) outcome {
	refusal := (*transport.Refusal)(nil)
	switch {
	case err == nil:
		return outcome{reason: reasonReady}
	case errors.Is(err, errNoRoute):
		return outcome{gone: true}
	case errors.Is(err, inventory.ErrNoEndpoint):
		return outcome{reason: reasonNoAddress, gone: true}
	case errors.Is(err, identity.ErrWaits):
		return outcome{reason: reasonNoToken, gone: true}
	case errors.As(err, &refusal):
		// A slip in an edit of a kubeconfig is not the member's removal. The token
		// that the gateway has was got by the one before, and is good for an hour.
		return outcome{reason: reasonRefused}
	}
	return outcome{reason: reasonFailed, retry: true}
}

// commit what was obtained, or what kept it from being.
func (r *Reconciler) commit(ctx context.Context, s *seen, route *identity.Route, problem error) (ctrl.Result, error) {
	o := outcomeOf(problem)
	switch {
	case o.gone:
		if err := r.remove(ctx, s); err != nil {
			return ctrl.Result{}, err
		}
	case problem == nil:
		if err := r.write(ctx, s, route); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.instruments().record(s, route, o)
	r.tell(ctx, s, o, problem)
	switch {
	case o.retry:
		return ctrl.Result{}, problem
	case s.member == nil:
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: r.next(route)}, nil
}

// next is when to look again: when the token is to be renewed, or soon enough to
// notice what no event tells of.
func (r *Reconciler) next(route *identity.Route) time.Duration {
	next := or(r.Resync, 2*time.Minute)
	if route != nil && !route.Renew.IsZero() {
		next = min(next, route.Renew.Sub(r.Now()))
	}
	return max(next, time.Second)
}

// write the Secret, if it says anything new. It is replaced as a whole; the token
// before it is good until it expires, for who still has it.
func (r *Reconciler) write(ctx context.Context, s *seen, route *identity.Route) error {
	want := route.Secret(r.Namespace, s.cluster, s.member.Issuer)
	if s.held == nil {
		if err := r.Client.Create(ctx, want, fieldOwner); err != nil {
			return fmt.Errorf("cannot create the route to cluster %q: %w", s.cluster, err)
		}
		r.instruments().tokens.WithLabelValues(s.member.Issuer.String()).Inc()
		return nil
	}
	now := s.held.DeepCopy()
	now.Labels, now.Annotations, now.Data = want.Labels, want.Annotations, want.Data
	if maps.Equal(now.Labels, s.held.Labels) && maps.Equal(now.Annotations, s.held.Annotations) && maps.EqualFunc(now.Data, s.held.Data, bytes.Equal) {
		return nil
	}
	if err := r.Client.Update(ctx, now, fieldOwner); err != nil {
		return fmt.Errorf("cannot update the route to cluster %q: %w", s.cluster, err)
	}
	if !bytes.Equal(now.Data[v1alpha1.RouteToken], s.held.Data[v1alpha1.RouteToken]) {
		r.instruments().tokens.WithLabelValues(s.member.Issuer.String()).Inc()
	}
	return nil
}

// remove the Secret that was seen, and no other of its name.
func (r *Reconciler) remove(ctx context.Context, s *seen) error {
	if s.held == nil {
		return nil
	}
	only := client.Preconditions{UID: &s.held.UID, ResourceVersion: &s.held.ResourceVersion}
	if err := r.Client.Delete(ctx, s.held, only); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot remove the route to cluster %q: %w", s.cluster, err)
	}
	return nil
}

// tell of what changed, once.
func (r *Reconciler) tell(ctx context.Context, s *seen, o outcome, problem error) {
	message, kind := fmt.Sprintf("the gateway reaches cluster %q", s.cluster), corev1.EventTypeNormal
	if problem != nil {
		message, kind = problem.Error(), corev1.EventTypeWarning
	}
	r.mu.Lock()
	if r.told == nil {
		r.told = map[string]string{}
	}
	before, known := r.told[s.cluster]
	now := o.reason + ": " + message
	if s.member == nil {
		delete(r.told, s.cluster)
	} else {
		r.told[s.cluster] = now
	}
	r.mu.Unlock()
	// That all is well is no news at the start.
	if s.member == nil || before == now || !known && problem == nil && s.held != nil {
		return
	}
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: r.Namespace, Name: identity.SecretName(s.cluster)}
	r.Events.Event(about, kind, o.reason, message)
	ctrl.LoggerFrom(ctx).Info("Route changed", "cluster", s.cluster, "reason", o.reason, "message", message)
}
