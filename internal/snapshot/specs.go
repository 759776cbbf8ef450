package snapshot

import (
	"encoding/json"
	"maps"

	"github.com/fluxcd/pkg/runtime/conditions"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// Specs keeps one address for a spec as long as it means the same, since a status
// that changes brings a new copy of it and the compiler compares addresses. The zero
// Specs is ready for use, by one goroutine at a time.
type Specs struct {
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

// Grant is the spec of a grant.
func (s *Specs) Grant(g *v1alpha1.AccessGrant) *v1alpha1.AccessGrantSpec {
	return same(&s.grants, g.UID, g.Generation, &g.Spec)
}

// Role is the spec of a role.
func (s *Specs) Role(a *v1alpha1.AccessRole) *v1alpha1.AccessRoleSpec {
	return same(&s.roles, a.UID, a.Generation, &a.Spec)
}

// DigestsOf roles, by name. Those of other roles are forgotten.
func (s *Specs) DigestsOf(roles map[string]*v1alpha1.AccessRoleSpec) map[string]string {
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

// Held is the spec that was applied last; nil where none was.
func (s *Specs) Held(g *v1alpha1.AccessGrant) *v1alpha1.AccessGrantSpec {
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

// Standing is what stands of a grant on those clusters, by what its status says of
// when it was last applied.
func (s *Specs) Standing(g *v1alpha1.AccessGrant, on []string) *compile.Standing {
	st := &compile.Standing{Spec: s.Held(g), On: on, Roles: map[string]string{}}
	// It may have been too large to be kept in the status.
	unchanged := g.Status.ObservedGeneration == g.Generation && !conditions.IsFalse(g, v1alpha1.ConditionCompliant)
	if st.Spec == nil && g.Status.Applied == nil && unchanged && g.Status.Clusters != nil && g.Status.Clusters.Matched > 0 {
		st.Spec = s.Grant(g)
	}
	for _, role := range g.Status.AppliedRoles {
		st.Roles[role.Name] = role.Digest
	}
	return st
}

// Hold makes of a suspended grant what is held of it: the spec that was applied last
// on the clusters on which it stands.
func (s *Specs) Hold(in *compile.Grant, g *v1alpha1.AccessGrant, on []string) {
	in.Held, in.HeldOn = true, on
	switch held := s.Held(g); {
	case held != nil:
		in.Spec = held
	case conditions.IsFalse(g, v1alpha1.ConditionCompliant):
		in.HeldOn = nil // of what was refused nothing is held
	}
}

// Forget the grants that are not alive.
func (s *Specs) Forget(alive map[types.UID]bool) {
	maps.DeleteFunc(s.grants, func(uid types.UID, _ versioned[v1alpha1.AccessGrantSpec]) bool { return !alive[uid] })
	maps.DeleteFunc(s.kept, func(uid types.UID, _ keptSpec) bool { return !alive[uid] })
}
