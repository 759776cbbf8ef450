package grant

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
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
	var problems []inventory.Problem
	var err error
	if seen.snapshot.Fleet, problems, err = r.observeFleet(ctx); err != nil {
		return nil, err
	}
	r.tell(ctx, problems)
	if seen.snapshot.Placements, err = r.observePlacements(ctx); err != nil {
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

// observeFleet falls back on the fleet of the last pass: an inventory that cannot
// be read must neither revoke anything nor keep a grant from expiring.
func (r *Reconciler) observeFleet(ctx context.Context) (*fleet.Fleet, []inventory.Problem, error) {
	f, problems, err := r.Inventory.Fleet(ctx)
	switch {
	case err == nil:
		r.fleet = f
		return f, problems, nil
	case r.fleet != nil:
		ctrl.LoggerFrom(ctx).Error(err, "Cannot read the fleet; going on with the last one")
		return r.fleet, []inventory.Problem{{Source: "fleet", Message: err.Error()}}, nil
	default:
		return nil, nil, fmt.Errorf("cannot read the fleet: %w", err)
	}
}

// observePlacements falls back as observeFleet does, and for the same reasons.
func (r *Reconciler) observePlacements(ctx context.Context) (map[types.NamespacedName][]string, error) {
	p, err := r.Inventory.Placements(ctx)
	switch {
	case err == nil:
		r.placements = p
		return p, nil
	case r.placements != nil:
		ctrl.LoggerFrom(ctx).Error(err, "Cannot read placements; going on with the last ones")
		return r.placements, nil
	default:
		return nil, fmt.Errorf("cannot read placements: %w", err)
	}
}

// tell operators of problems with the inventory, each when it comes and when it
// goes.
func (r *Reconciler) tell(ctx context.Context, problems []inventory.Problem) {
	log := ctrl.LoggerFrom(ctx)
	for _, p := range problems {
		if !slices.Contains(r.problems, p) {
			log.Info("Problem with the inventory", "source", p.Source, "problem", p.Message)
		}
	}
	for _, p := range r.problems {
		if !slices.Contains(problems, p) {
			log.Info("Problem with the inventory is gone", "source", p.Source, "problem", p.Message)
		}
	}
	r.problems = problems
}

func (r *Reconciler) observeRoles(ctx context.Context, seen *observation) error {
	var list v1alpha1.AccessRoleList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list AccessRoles: %w", err)
	}
	seen.snapshot.Roles = make(map[string]*v1alpha1.AccessRoleSpec, len(list.Items))
	for i := range list.Items {
		if role := &list.Items[i]; role.DeletionTimestamp.IsZero() {
			seen.snapshot.Roles[role.Name] = r.specs.role(role)
		}
	}
	seen.roleDigests = r.specs.digestsOf(seen.snapshot.Roles)
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
			Namespace: g.Namespace, Name: g.Name, Spec: r.specs.grant(g), Source: sourceString(source),
			Labels: g.Labels, Annotations: g.Annotations, Origin: originOf(source),
		}
		if g.Spec.Suspend {
			in.Held, in.HeldOn = true, seen.standsOn()[compile.GrantLabel(in.Key())]
			switch held := r.specs.held(g); {
			case held != nil:
				in.Spec = held
			case conditions.IsFalse(g, v1alpha1.ConditionCompliant):
				in.HeldOn = nil // of what was refused nothing is held
			}
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

// specs keeps one address for a spec as long as it means the same, since a status
// that changes brings a new copy of it and the compiler compares addresses.
type specs struct {
	grants map[types.UID]versioned[v1alpha1.AccessGrantSpec]
	roles  map[types.UID]versioned[v1alpha1.AccessRoleSpec]
	kept   map[types.UID]keptSpec
	// digests of roles, by address.
	digests map[*v1alpha1.AccessRoleSpec]string
}

type versioned[T any] struct {
	generation int64
	spec       *T
}

type keptSpec struct {
	raw  string
	spec *v1alpha1.AccessGrantSpec
}

func (s *specs) grant(g *v1alpha1.AccessGrant) *v1alpha1.AccessGrantSpec {
	return same(&s.grants, g.UID, g.Generation, &g.Spec)
}

func (s *specs) role(a *v1alpha1.AccessRole) *v1alpha1.AccessRoleSpec {
	return same(&s.roles, a.UID, a.Generation, &a.Spec)
}

// digestsOf roles by name, and forget those of others.
func (s *specs) digestsOf(roles map[string]*v1alpha1.AccessRoleSpec) map[string]string {
	byName, byAddress := make(map[string]string, len(roles)), make(map[*v1alpha1.AccessRoleSpec]string, len(roles))
	for name, role := range roles {
		d, known := s.digests[role]
		if !known {
			d = compile.RoleDigest(role)
		}
		byName[name], byAddress[role] = d, d
	}
	s.digests = byAddress
	return byName
}

// same is the first address at which a spec of that generation was seen.
func same[T any](known *map[types.UID]versioned[T], uid types.UID, generation int64, spec *T) *T {
	if *known == nil {
		*known = map[types.UID]versioned[T]{}
	}
	if v, ok := (*known)[uid]; ok && v.generation == generation {
		return v.spec
	}
	(*known)[uid] = versioned[T]{generation, spec}
	return spec
}

// held is the spec that was applied last; nil where none was.
func (s *specs) held(g *v1alpha1.AccessGrant) *v1alpha1.AccessGrantSpec {
	if g.Status.Applied == nil {
		return nil
	}
	if s.kept == nil {
		s.kept = map[types.UID]keptSpec{}
	}
	raw := string(g.Status.Applied.Raw)
	if k, ok := s.kept[g.UID]; ok && k.raw == raw {
		return k.spec
	}
	var spec v1alpha1.AccessGrantSpec
	if json.Unmarshal([]byte(raw), &spec) != nil {
		return nil
	}
	s.kept[g.UID] = keptSpec{raw, &spec}
	return &spec
}

// forget what is no more.
func (s *specs) forget(alive map[types.UID]bool) {
	for uid := range s.grants {
		if !alive[uid] {
			delete(s.grants, uid)
			delete(s.kept, uid)
		}
	}
}
