package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const (
	// maxStanding grants are judged for one answer.
	maxStanding = 2000
	// chunk of them is judged between two looks at the time, or fewer that give
	// chunkNames verbs, groups, resources, names and namespaces.
	chunk      = 32
	chunkNames = 4096
	// maxNamed grants are named in a message.
	maxNamed = 3
)

// standing is a snapshot of the grants there are, as the caches have them.
type standing struct {
	compile.Snapshot
	grants []*v1alpha1.AccessGrant // sorted by key
	// left out because there are too many.
	left int
}

func keyOf(g *v1alpha1.AccessGrant) string { return g.Namespace + "/" + g.Name }

// standing reads the grants that are not being deleted and that are asked for.
func (h *Handler) standing(ctx context.Context, set *guardrail.Set, at guardrail.Point, want func(*v1alpha1.AccessGrant) bool) (*standing, error) {
	world, err := h.world(ctx, set, at)
	if err != nil {
		return nil, err
	}
	st := &standing{Snapshot: world}
	var grants v1alpha1.AccessGrantList
	if err := h.cached.List(ctx, &grants, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list AccessGrants: %w", err)
	}
	for i := range grants.Items {
		if g := &grants.Items[i]; g.DeletionTimestamp.IsZero() && want(g) {
			st.grants = append(st.grants, g)
		}
	}
	slices.SortFunc(st.grants, func(a, b *v1alpha1.AccessGrant) int { return strings.Compare(keyOf(a), keyOf(b)) })
	if n := len(st.grants); n > maxStanding {
		st.left, st.grants = n-maxStanding, st.grants[:maxStanding]
	}
	if len(st.grants) == 0 {
		return st, nil
	}
	var roles v1alpha1.AccessRoleList
	if err := h.cached.List(ctx, &roles, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list AccessRoles: %w", err)
	}
	st.Roles = make(map[string]*v1alpha1.AccessRoleSpec, len(roles.Items))
	for i := range roles.Items {
		if r := &roles.Items[i]; r.DeletionTimestamp.IsZero() {
			st.Roles[r.Name] = &r.Spec
		}
	}
	var namespaces corev1.NamespaceList
	if err := h.cached.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list namespaces: %w", err)
	}
	st.Namespaces = make(map[string]map[string]string, len(namespaces.Items))
	for i := range namespaces.Items {
		st.Namespaces[namespaces.Items[i].Name] = namespaces.Items[i].Labels
	}
	return st, nil
}

// withRole is the standing with one role as it will be.
func (st *standing) withRole(name string, spec *v1alpha1.AccessRoleSpec) *standing {
	out := *st
	if out.Roles = maps.Clone(st.Roles); out.Roles == nil {
		out.Roles = map[string]*v1alpha1.AccessRoleSpec{}
	}
	out.Roles[name] = spec
	return &out
}

// observed is where a grant came from, as the controller saw it: it is not asked for
// each of thousands once more.
func observed(s *v1alpha1.GrantSource) *guardrail.Source {
	if s == nil {
		return nil
	}
	return &guardrail.Source{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name, Revision: s.Revision, Author: s.Author}
}

// judgeStanding judges the grants in their order, as many as there is time for.
func judgeStanding(ctx context.Context, st *standing) []compile.Result {
	var out []compile.Result
	for left := st.grants; len(left) > 0 && ctx.Err() == nil; {
		part := left[:st.next(left)]
		left = left[len(part):]
		s := st.Snapshot
		for _, g := range part {
			s.Grants = append(s.Grants, compilable(g, observed(g.Status.Source)))
		}
		byKey := map[string]compile.Result{}
		for _, r := range compile.Judge(s) {
			byKey[r.Grant] = r
		}
		for _, g := range part {
			r := byKey[keyOf(g)] // of a grant that has none: denied, as everywhere
			r.Grant = keyOf(g)
			out = append(out, r)
		}
	}
	return out
}

// next is how many of the grants are judged before the next look at the time: few
// where they are large.
func (st *standing) next(grants []*v1alpha1.AccessGrant) int {
	n := 0
	for names := 0; n < min(len(grants), chunk) && names < chunkNames; n++ {
		for i := range grants[n].Spec.Access {
			e := &grants[n].Spec.Access[i]
			names += len(e.Namespaces) + namesIn(e.Rules)
			if e.RoleRef == nil || e.RoleRef.Kind != v1alpha1.AccessRoleRef {
				continue
			}
			if role := st.Roles[e.RoleRef.Name]; role != nil {
				names += namesIn(role.Rules)
			}
		}
	}
	return n
}

func namesIn(rules []v1alpha1.PolicyRule) int {
	n := 0
	for i := range rules {
		r := &rules[i]
		n += len(r.Verbs) + len(r.APIGroups) + len(r.Resources) + len(r.ResourceNames) + len(r.NonResourceURLs)
	}
	return n
}

// named are the first of the grants, and how many more there are.
func named(grants []string) string {
	list := strings.Join(grants[:min(len(grants), maxNamed)], ", ")
	if more := len(grants) - maxNamed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// that is "1 grant that stands", "2 grants that stand".
func that(n int, stand string) string {
	if n == 1 {
		return "1 grant that " + stand + "s"
	}
	return fmt.Sprintf("%d grants that %s", n, stand)
}

// stands reports whether a grant is one that a guardrail can still take anything
// from.
func stands(g *v1alpha1.AccessGrant) bool {
	return !meta.IsStatusConditionFalse(g.Status.Conditions, v1alpha1.ConditionCompliant)
}
