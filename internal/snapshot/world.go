package snapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// errPolicy is wrapped where all but the guardrails could be read.
type errPolicy struct{ error }

func (e errPolicy) Unwrap() error { return e.error }

// world reads what decides, as the controller does and no wider: the same grants, the
// same guardrails in the same order (S26), and of what is held or cannot be judged
// what openings say. With an errPolicy the snapshot has no guardrails.
type world struct {
	cache, live client.Reader
	inventory   Inventory
	policy      interface {
		Live(ctx context.Context) (*guardrail.Set, error)
	}

	specs Specs
	fleet Fleet
}

var (
	namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace")
	grantKind     = v1alpha1.GroupVersion.WithKind(v1alpha1.AccessGrantKind)
	roleKind      = v1alpha1.GroupVersion.WithKind(v1alpha1.AccessRoleKind)
)

func (w *world) read(ctx context.Context) (compile.Snapshot, error) {
	s := compile.Snapshot{Point: guardrail.Compile}
	var err error
	if s.Fleet, s.Placements, err = w.fleet.Read(ctx, w.inventory); err != nil {
		return s, err
	}
	if err := w.readRoles(ctx, &s); err != nil {
		return s, err
	}
	if err := w.readGrants(ctx, &s); err != nil {
		return s, err
	}
	if err := w.readNamespaces(ctx, &s); err != nil {
		return s, err
	}
	// Last: a guardrail that came before a grant is then among them.
	s.Guardrails, err = w.guardrails(ctx)
	return s, err
}

func (w *world) guardrails(ctx context.Context) (*guardrail.Set, error) {
	set, err := w.policy.Live(ctx)
	if err != nil {
		return nil, errPolicy{fmt.Errorf("cannot read the guardrails: %w", err)}
	}
	return set, nil
}

func (w *world) readRoles(ctx context.Context, s *compile.Snapshot) error {
	var list v1alpha1.AccessRoleList
	if err := w.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list AccessRoles: %w", err)
	}
	s.Roles = make(map[string]*v1alpha1.AccessRoleSpec, len(list.Items))
	for i := range list.Items {
		if role := &list.Items[i]; role.DeletionTimestamp.IsZero() {
			s.Roles[role.Name] = w.specs.Role(role)
		}
	}
	return nil
}

func (w *world) readGrants(ctx context.Context, s *compile.Snapshot) error {
	var list v1alpha1.AccessGrantList
	if err := w.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list AccessGrants: %w", err)
	}
	var hub rbacv1.ClusterRoleList
	if err := w.cache.List(ctx, &hub, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list ClusterRoles: %w", err)
	}
	open := openingsOf(hub.Items)
	alive := make(map[types.UID]bool, len(list.Items))
	byKey := make(map[string]*v1alpha1.AccessGrant, len(list.Items))
	s.Grants = make([]compile.Grant, 0, len(list.Items))
	for i := range list.Items {
		g := &list.Items[i]
		alive[g.UID] = true
		// One that is being deleted gives nothing from now on. One without the finalizer
		// has not been adopted by the controller, and gives nothing yet.
		if !g.DeletionTimestamp.IsZero() || !controllerutil.ContainsFinalizer(g, v1alpha1.AccessGrantFinalizer) {
			continue
		}
		in := w.grant(g, open, s)
		byKey[in.Key()] = g
		s.Grants = append(s.Grants, in)
	}
	w.specs.Forget(alive)
	s.Standing = func(key string) *compile.Standing {
		g := byKey[key]
		if g == nil {
			return nil
		}
		return w.specs.Standing(g, open.of(key))
	}
	return nil
}

func (w *world) grant(g *v1alpha1.AccessGrant, open openings, s *compile.Snapshot) compile.Grant {
	source := SourceOf(g)
	in := compile.Grant{
		Namespace: g.Namespace, Name: g.Name, Spec: w.specs.Grant(g), Source: SourceString(source),
		Labels: g.Labels, Annotations: g.Annotations, Origin: OriginOf(source),
	}
	if g.Spec.Suspend {
		w.specs.Hold(&in, g, open.of(in.Key()))
		in.HeldOn = within(in.HeldOn, s.Selects(&in))
	}
	return in
}

// readNamespaces reads their labels. One that the cache does not have yet is asked
// for: without its labels it could not be told which guardrails are for it.
func (w *world) readNamespaces(ctx context.Context, s *compile.Snapshot) error {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(namespaceKind)
	if err := w.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list namespaces: %w", err)
	}
	s.Namespaces = make(map[string]map[string]string, len(list.Items))
	for i := range list.Items {
		s.Namespaces[list.Items[i].Name] = list.Items[i].Labels
	}
	for i := range s.Grants {
		name := s.Grants[i].Namespace
		if _, known := s.Namespaces[name]; known {
			continue
		}
		one := metav1.PartialObjectMetadata{}
		one.SetGroupVersionKind(namespaceKind)
		if err := w.live.Get(ctx, client.ObjectKey{Name: name}, &one); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot read namespace %q: %w", name, err)
		}
		s.Namespaces[name] = one.Labels
	}
	return nil
}

// narrower is what of a snapshot is still there now, while the guardrails cannot be
// read: nothing that came or changed since, which they have not been asked about, and
// nothing that has not begun yet. It keeps the guardrails that were in force.
func narrower(before, now *compile.Snapshot) compile.Snapshot {
	out := *before
	current := make(map[string]*compile.Grant, len(now.Grants))
	for i := range now.Grants {
		current[now.Grants[i].Key()] = &now.Grants[i]
	}
	out.Grants = slices.DeleteFunc(slices.Clone(before.Grants), func(g compile.Grant) bool {
		still := current[g.Key()]
		v := g.Spec.Validity
		return still == nil || still.Spec != g.Spec || still.Held != g.Held || !slices.Equal(still.HeldOn, g.HeldOn) ||
			v != nil && v.NotBefore != nil && before.Now.Before(v.NotBefore.Time)
	})
	out.Roles = maps.Clone(before.Roles)
	maps.DeleteFunc(out.Roles, func(name string, role *v1alpha1.AccessRoleSpec) bool { return now.Roles[name] != role })
	if !before.Fleet.Equal(now.Fleet) {
		out.Fleet = fleet.New(slices.DeleteFunc(slices.Clone(before.Fleet.Members()), func(m fleet.Member) bool {
			still, ok := now.Fleet.Get(m.Name)
			return !ok || !still.Accepted || still.Delivery != m.Delivery || !maps.Equal(still.Labels, m.Labels)
		}))
	}
	out.Placements = make(map[types.NamespacedName][]string, len(before.Placements))
	for key, clusters := range before.Placements {
		if decided, ok := now.Placements[key]; ok {
			out.Placements[key] = within(clusters, decided)
		}
	}
	out.Standing = now.Standing
	return out
}
