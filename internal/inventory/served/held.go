package served

import (
	"context"
	"fmt"
	"sync/atomic"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// held is the cache of one kind in one version, from when it began to be served
// until it no longer is.
type held struct {
	gvk   schema.GroupVersionKind
	cache cache.Cache
	ctx   context.Context
	stop  context.CancelFunc
	// full: the first list is complete. Guarded by Kinds.mu.
	full bool
	// trouble is the last error of the reflector before that.
	trouble atomic.Pointer[string]
}

// listing says how the first list fares.
func (h *held) listing() string {
	if why := h.trouble.Load(); why != nil {
		return "it cannot be listed: " + *why
	}
	return "it is being listed"
}

// hold starts a cache for the kind and connects the watches on it. Kinds.mu is
// held.
func (k *Kinds) hold(ctx context.Context, kind Kind, gvk schema.GroupVersionKind) (*held, error) {
	h := &held{gvk: gvk}
	obj := kind.object(gvk)
	byObject := cache.ByObject{Label: kind.Labels, Field: kind.Fields, Transform: kind.Transform}
	if byObject.Transform == nil {
		byObject.Transform = cache.TransformStripManagedFields()
	}
	for _, namespace := range kind.Namespaces {
		if byObject.Namespaces == nil {
			byObject.Namespaces = map[string]cache.Config{}
		}
		byObject.Namespaces[namespace] = cache.Config{}
	}
	scope := apimeta.RESTScopeRoot
	if kind.Namespaced {
		scope = apimeta.RESTScopeNamespace
	}
	mapper := apimeta.NewDefaultRESTMapper(nil)
	resource := gvk.GroupVersion().WithResource(kind.Resource)
	mapper.AddSpecific(gvk, resource, resource, scope)
	// A cache of some namespaces asks for the scope of the list.
	mapper.AddSpecific(gvk.GroupVersion().WithKind(gvk.Kind+"List"), resource, resource, scope)
	var err error
	h.cache, err = cache.New(k.config, cache.Options{
		HTTPClient: k.http, Scheme: k.scheme, Mapper: mapper,
		ByObject: map[client.Object]cache.ByObject{obj: byObject},
		// Reading into another Go type than the kind's would start a second
		// informer behind the back of the states.
		ReaderFailOnMissingInformer: true,
		DefaultWatchErrorHandler: func(ctx context.Context, r *toolscache.Reflector, err error) {
			why := err.Error()
			h.trouble.Store(&why)
			toolscache.DefaultWatchErrorHandler(ctx, r, err)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot hold %s: %w", gvk, err)
	}
	if _, err := h.cache.GetInformer(ctx, obj, cache.BlockUntilSynced(false)); err != nil {
		return nil, fmt.Errorf("cannot hold %s: %w", gvk, err)
	}
	h.ctx, h.stop = context.WithCancel(ctx)
	go func() { _ = h.cache.Start(h.ctx) }() // ends with the context, and has no other error
	go k.waitUntilFull(h)
	for _, w := range k.watches {
		if w.gk == gvk.GroupKind() {
			w.connect(h, obj)
		}
	}
	return h, nil
}

// waitUntilFull opens the cache for reading when its first list is complete.
func (k *Kinds) waitUntilFull(h *held) {
	if !h.cache.WaitForCacheSync(h.ctx) {
		return
	}
	gk := h.gvk.GroupKind()
	k.mu.Lock()
	kind := k.kinds[gk]
	if kind.held != h {
		k.mu.Unlock()
		return // it has been dropped meanwhile
	}
	before := kind.status()
	h.full = true
	after := kind.status()
	k.mu.Unlock()
	k.tell(h.ctx, gk, before, after)
}
