package grant

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// observation is what one pass sees. Objects in it come from caches and are not
// changed.
type observation struct {
	now      time.Time
	grants   []*v1alpha1.AccessGrant // sorted by key
	sources  map[string]*v1alpha1.GrantSource
	snapshot compile.Snapshot
	// roleDigests tell versions of AccessRoles apart.
	roleDigests map[string]string
	// hub is what stands of hub RBAC, by kind.
	hub map[string]map[client.ObjectKey]client.Object
	// carriers is what stands of carriers, by way of delivery.
	carriers map[fleet.Delivery]map[client.ObjectKey]standing
	// errs of what was written while observing.
	errs []error
	// revisions that appliers are at, by applier, each read once.
	revisions map[v1alpha1.GrantSource]string
	// standing lists, by grant label, the clusters for which a carrier names it; nil
	// until somebody asks.
	standing map[string][]string
	// soon is when to look again for what no event tells of; zero for never.
	soon time.Duration
}

// again asks for another pass after d, or earlier.
func (seen *observation) again(d time.Duration) {
	if d = max(d, time.Millisecond); seen.soon == 0 || d < seen.soon {
		seen.soon = d
	}
}

// standing is a carrier and what it tells.
type standing struct {
	object client.Object
	distribute.Standing
}

// carrierKey identifies a carrier.
type carrierKey struct {
	fleet.Delivery
	client.ObjectKey
}

// observe reads everything that decides. An error leaves all as it stands.
func (r *Reconciler) observe(ctx context.Context) (*observation, error) {
	seen := &observation{now: r.Now(), sources: map[string]*v1alpha1.GrantSource{}, revisions: map[v1alpha1.GrantSource]string{}}
	var err error
	if seen.snapshot.Fleet, seen.snapshot.Placements, err = r.fleet.Read(ctx, r.Inventory); err != nil {
		return nil, err
	}
	if err := r.observeHub(ctx, seen); err != nil {
		return nil, err
	}
	if err := r.observeCarriers(ctx, seen); err != nil {
		return nil, err
	}
	if err := r.observeRoles(ctx, seen); err != nil {
		return nil, err
	}
	if err := r.observeGrants(ctx, seen); err != nil {
		return nil, err
	}
	if err := r.observeNamespaces(ctx, seen); err != nil {
		return nil, err
	}
	r.observePolicy(ctx, seen)
	seen.snapshot.Now = seen.now
	seen.snapshot.Standing = r.standing(seen)
	return seen, nil
}

func (r *Reconciler) observeRoles(ctx context.Context, seen *observation) error {
	var list v1alpha1.AccessRoleList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list AccessRoles: %w", err)
	}
	seen.snapshot.Roles = make(map[string]*v1alpha1.AccessRoleSpec, len(list.Items))
	for i := range list.Items {
		if role := &list.Items[i]; role.DeletionTimestamp.IsZero() {
			seen.snapshot.Roles[role.Name] = r.specs.Role(role)
		}
	}
	seen.roleDigests = r.specs.DigestsOf(seen.snapshot.Roles)
	return nil
}

func (r *Reconciler) observeGrants(ctx context.Context, seen *observation) error {
	var list v1alpha1.AccessGrantList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list AccessGrants: %w", err)
	}
	shown := make(map[client.ObjectKey]client.Object, len(list.Items))
	for i := range list.Items {
		shown[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
	r.recent.over(v1alpha1.AccessGrantKind, shown, seen.now)
	for _, o := range shown {
		seen.grants = append(seen.grants, o.(*v1alpha1.AccessGrant))
	}
	slices.SortFunc(seen.grants, func(a, b *v1alpha1.AccessGrant) int { return strings.Compare(keyOf(a), keyOf(b)) })
	r.adopt(ctx, seen)

	for _, g := range seen.grants {
		// Without the finalizer a grant could vanish and leave behind what it gave.
		if !g.DeletionTimestamp.IsZero() || !controllerutil.ContainsFinalizer(g, v1alpha1.AccessGrantFinalizer) {
			continue
		}
		source := r.sourceOf(ctx, seen, g)
		if g.Spec.Suspend && g.Status.Source != nil {
			source = g.Status.Source // what stands comes from there
		}
		seen.sources[keyOf(g)] = source
		in := compile.Grant{
			Namespace: g.Namespace, Name: g.Name, Spec: r.specs.Grant(g), Source: snapshot.SourceString(source),
			Labels: g.Labels, Annotations: g.Annotations, Origin: snapshot.OriginOf(source),
		}
		if g.Spec.Suspend {
			r.specs.Hold(&in, g, seen.standsOn()[compile.GrantLabel(in.Key())])
		}
		seen.snapshot.Grants = append(seen.snapshot.Grants, in)
	}
	return nil
}

func keyOf(g *v1alpha1.AccessGrant) string { return g.Namespace + "/" + g.Name }

// standsOn lists, by grant label, the clusters for which a carrier names it.
func (seen *observation) standsOn() map[string][]string {
	if seen.standing != nil {
		return seen.standing
	}
	out := map[string][]string{}
	for _, carriers := range seen.carriers {
		for _, s := range carriers {
			if s.Deleting { // what is on its way out does not stand
				continue
			}
			s.Grants.Each(func(label string) { out[label] = append(out[label], s.Cluster) })
		}
	}
	for label := range out {
		slices.Sort(out[label])
		out[label] = slices.Compact(out[label])
	}
	seen.standing = out
	return out
}

func (r *Reconciler) observeHub(ctx context.Context, seen *observation) error {
	seen.hub = map[string]map[client.ObjectKey]client.Object{}
	for kind, objects := range map[string]client.ObjectList{
		"ClusterRole": &rbacv1.ClusterRoleList{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBindingList{},
	} {
		shown, err := list(ctx, r.Client, objects)
		if err != nil {
			return err
		}
		for key := range shown {
			if !strings.HasPrefix(key.Name, compile.HubPrefix) {
				delete(shown, key)
			}
		}
		r.recent.over(kind, shown, seen.now)
		seen.hub[kind] = shown
	}
	return nil
}

func (r *Reconciler) observeCarriers(ctx context.Context, seen *observation) error {
	seen.carriers = map[fleet.Delivery]map[client.ObjectKey]standing{}
	for delivery, carrier := range r.Carriers {
		seen.carriers[delivery] = map[client.ObjectKey]standing{}
		reader, err := r.readerOf(carrier)
		if err != nil {
			return err
		}
		if reader == nil {
			continue
		}
		_, objects := carrier.Empty()
		shown, err := list(ctx, reader, objects)
		if err != nil {
			return err
		}
		r.recent.over(delivery.String(), shown, seen.now)
		known := make(map[client.ObjectKey]standing, len(shown))
		for key, o := range shown {
			if carrier.Owns(o) {
				known[key] = r.standingOf(carrierKey{delivery, key}, carrier, o)
			}
		}
		seen.carriers[delivery] = known
	}
	r.forget(seen)
	return nil
}

// readerOf a carrier's kind; none where the hub has no such kind.
func (r *Reconciler) readerOf(c distribute.Carrier) (client.Reader, error) {
	one, _ := c.Empty()
	gvk, err := r.Client.GroupVersionKindFor(one)
	if err != nil {
		return nil, fmt.Errorf("cannot tell the kind of a carrier: %w", err)
	}
	if gvk.Group == "" { // ConfigMaps are always there
		return r.Client, nil
	}
	switch status := r.Kinds.Status(gvk.GroupKind()); {
	case status.State == served.Absent:
		return nil, nil
	case !status.State.Readable():
		return nil, fmt.Errorf("cannot tell what stands: %s: %w: %s", gvk.GroupKind(), served.ErrUnknown, status.Message)
	}
	return r.Kinds, nil
}

// list objects with Sallyport's label.
func list(ctx context.Context, from client.Reader, into client.ObjectList) (map[client.ObjectKey]client.Object, error) {
	err := from.List(ctx, into, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("cannot list what stands: %w", err)
	}
	out := make(map[client.ObjectKey]client.Object, meta.LenList(into))
	err = meta.EachListItem(into, func(o runtime.Object) error {
		object := o.(client.Object)
		out[client.ObjectKeyFromObject(object)] = object
		return nil
	})
	return out, err
}
