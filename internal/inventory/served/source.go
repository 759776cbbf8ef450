package served

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Source is the events of a kind's objects, for a controller's Watch: none while
// it is absent, and a Create for each object when it comes. Its objects get no
// Delete when the kind itself goes; Changes tells of that. A controller does not
// wait for it before it starts.
func (k *Kinds) Source(gk schema.GroupKind, h handler.EventHandler, predicates ...predicate.Predicate) source.Source {
	return &watch{kinds: k, gk: gk, handler: h, predicates: predicates}
}

// Changes are the changes of state of all kinds: a Generic event whose object
// has only an apiVersion and kind, in the preferred version.
func (k *Kinds) Changes(h handler.EventHandler) source.Source {
	return &changes{kinds: k, handler: h}
}

// watch connects a controller to whatever holds the kind.
type watch struct {
	kinds      *Kinds
	gk         schema.GroupKind
	handler    handler.EventHandler
	predicates []predicate.Predicate

	ctx   context.Context // the controller's
	queue queue
}

// Start is called by the controller, once.
func (w *watch) Start(ctx context.Context, q queue) error {
	k := w.kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	kind, ok := k.kinds[w.gk]
	if !ok {
		return fmt.Errorf("cannot watch %s: it is not followed", w.gk)
	}
	w.ctx, w.queue = ctx, q
	k.watches = append(k.watches, w)
	if kind.held != nil {
		w.connect(kind.held, kind.object(kind.held.gvk))
	}
	return nil
}

// connect has the events of the cache go to the controller until either ends.
// Kinds.mu is held.
func (w *watch) connect(h *held, obj client.Object) {
	ctx, cancel := context.WithCancel(h.ctx)
	unlink := context.AfterFunc(w.ctx, cancel)
	context.AfterFunc(ctx, func() { unlink() }) // or each coming and going would leave one behind
	// It only starts a goroutine, and fails only for want of an argument.
	_ = source.Kind(h.cache, obj, w.handler, w.predicates...).Start(ctx, w.queue)
}

// String is how logs name it.
func (w *watch) String() string { return "optional kind source: " + w.gk.String() }

// changes passes changes of state on to a controller.
type changes struct {
	kinds   *Kinds
	handler handler.EventHandler

	ctx   context.Context
	queue queue
}

// Start is called by the controller, once.
func (c *changes) Start(ctx context.Context, q queue) error {
	c.kinds.mu.Lock()
	defer c.kinds.mu.Unlock()
	c.ctx, c.queue = ctx, q
	c.kinds.changes = append(c.kinds.changes, c)
	return nil
}

func (c *changes) send(gk schema.GroupKind) {
	obj := &metav1.PartialObjectMetadata{}
	c.kinds.mu.RLock()
	obj.SetGroupVersionKind(c.kinds.kinds[gk].GVK)
	c.kinds.mu.RUnlock()
	c.handler.Generic(c.ctx, event.GenericEvent{Object: obj}, c.queue)
}

// String is how logs name it.
func (c *changes) String() string { return "changes of optional kinds" }
