package snapshot

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// roll is what objects of a kind the hub had at an instant, by a live list. A cache
// that has all of it, or later, was not behind that instant. Nothing less proves it: a
// watch that has quietly stopped looks just like a hub on which nothing happens.
type roll struct {
	version  string
	versions map[types.UID]string
}

// pageSize keeps the answers of the hub small.
const pageSize = 1000

// call lists the kind live, metadata only.
func call(ctx context.Context, live client.Reader, kind schema.GroupVersionKind) (*roll, error) {
	r := &roll{versions: map[types.UID]string{}}
	for token := ""; ; {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := live.List(ctx, list, client.Limit(pageSize), client.Continue(token)); err != nil {
			return nil, fmt.Errorf("cannot list %ss: %w", kind.Kind, err)
		}
		r.version = list.ResourceVersion
		for i := range list.Items {
			r.versions[list.Items[i].UID] = list.Items[i].ResourceVersion
		}
		if token = list.Continue; token == "" {
			return r, nil
		}
	}
}

// answered reports whether the objects of a cache are those of the roll, or later.
func (r *roll) answered(cached []metav1.Object) bool {
	left := len(r.versions)
	for _, o := range cached {
		was, listed := r.versions[o.GetUID()]
		if listed {
			left--
		} else {
			was = r.version // it came later, or is gone and the cache does not know
		}
		order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), was)
		if err != nil || order < 0 || order == 0 && !listed {
			return false
		}
	}
	return left == 0
}

// rolls of all that give access.
type rolls struct {
	at            time.Time
	grants, roles *roll
}

func (w *world) call(ctx context.Context, now time.Time) (*rolls, error) {
	grants, err := call(ctx, w.live, grantKind)
	if err != nil {
		return nil, err
	}
	roles, err := call(ctx, w.live, roleKind)
	if err != nil {
		return nil, err
	}
	return &rolls{at: now, grants: grants, roles: roles}, nil
}

func (w *world) answered(ctx context.Context, r *rolls) (bool, error) {
	var grants v1alpha1.AccessGrantList
	var roles v1alpha1.AccessRoleList
	for _, list := range []client.ObjectList{&grants, &roles} {
		if err := w.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return false, fmt.Errorf("cannot list what is cached: %w", err)
		}
	}
	return r.grants.answered(metas(grants.Items)) && r.roles.answered(metas(roles.Items)), nil
}

func metas[T any, P interface {
	*T
	metav1.Object
}](items []T) []metav1.Object {
	out := make([]metav1.Object, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	return out
}
