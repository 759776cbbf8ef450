package offline

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
)

// Tell of a finding.
func (r *Repository) Tell(f Finding) { r.Findings = append(r.Findings, f) }

// Sort the findings by place, each once.
func (r *Repository) Sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return a.Compare(&b) })
	r.Findings = slices.CompactFunc(r.Findings, func(a, b Finding) bool { return a.Same(&b) })
}

// Of a kind, in all builds.
func (r *Repository) Of(kind string) (out []*Object) {
	for _, o := range r.Objects {
		if o.Kind == kind {
			out = append(out, o)
		}
	}
	return out
}

// Count of a kind, by name.
func (r *Repository) Count(kind string) int {
	names := map[string]struct{}{}
	for _, o := range r.Of(kind) {
		names[o.Label()] = struct{}{}
	}
	return len(names)
}

// Bundled is how many guardrails came in bundles.
func (r *Repository) Bundled() int { return len(r.bundled) }

// KnowsClusters reports whether there is any cluster among what was read.
func (r *Repository) KnowsClusters() bool {
	return slices.ContainsFunc([]schema.GroupVersionKind{inventory.ManagedClusterKind, inventory.KarmadaClusterKind, inventory.ClusterProfileKind},
		func(k schema.GroupVersionKind) bool { return len(r.inventory[k.GroupKind()]) > 0 })
}

// Prepare what worlds are made of: compile the guardrails, and read the fleet.
func (r *Repository) Prepare() error {
	for _, o := range r.Of(v1alpha1.GuardrailKind) {
		r.compiled[o] = r.compile(o)
	}
	for _, o := range r.Of(v1alpha1.GuardrailBundleKind) {
		if !r.bundles[o.Name] {
			r.Tell(o.Finding(Warning, "", "its guardrails are not in the repository; without --bundle %s=FILE they are not asked", o.Name))
		}
	}
	return r.readFleet()
}

func (r *Repository) compile(o *Object) *guardrail.Guardrail {
	g, errs := policy.Compile(o.Name, &o.Typed.(*v1alpha1.Guardrail).Spec, policy.Options{})
	for _, e := range examples.Problems(o.doc, o.within, errs) {
		r.Tell(Finding{Severity: Invalid, Place: cmp.Or(e.Place, o.at), Build: o.Build, Object: o.Label(), Field: e.Field, Message: e.Err.Error()})
	}
	return g
}

// readFleet from what was read. Where there is no cluster in it, those that grants
// name are taken for members of which nothing is known.
func (r *Repository) readFleet() error {
	files, err := newHub(r.inventory)
	if err != nil {
		return err
	}
	r.Placements = map[types.NamespacedName][]string{}
	if r.KnowsClusters() {
		inv := inventory.New(files, inventory.Options{ProfileNamespaces: files.profileNamespaces()})
		f, problems, err := inv.Fleet(context.Background())
		if err != nil {
			return err
		}
		for _, p := range problems {
			r.Tell(Finding{Severity: Warning, Message: p.String()})
		}
		members := slices.Clone(f.Members())
		for i := range members {
			if members[i].Delivery == fleet.None {
				// Kubeconfigs, by which it may be delivered to, are not in files.
				members[i].Delivery, members[i].Paths = fleet.Direct, subject.Gateway
			}
		}
		r.Fleet = fleet.New(members)
		r.Placements, err = inv.Placements(context.Background())
		return err
	}
	var members []fleet.Member
	for _, o := range r.Of(v1alpha1.AccessGrantKind) {
		for _, name := range o.Typed.(*v1alpha1.AccessGrant).Spec.Clusters.Names {
			members = append(members, fleet.Member{Name: string(name), Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway})
		}
	}
	r.Fleet = fleet.New(members)
	if r.Count(v1alpha1.AccessGrantKind) > 0 && len(r.compiled)+len(r.bundled) > 0 {
		r.Tell(Finding{Severity: Warning, Message: "no fleet is known: clusters that grants select by labels or placement are not judged, and guardrails see no labels and claims of those that are named; --fleet gives them"})
	}
	return nil
}

// World is what one hub may hold: a repository can have overlays for several.
type World struct {
	// Build that makes it another than others; empty where there is one World.
	Build   string
	Objects []*Object
	// Grants among the objects that are to be judged.
	Grants []*Object
}

// Worlds of the repository: one, unless builds have different objects of one name.
// Then each build is one, with what else there is beside it.
func (r *Repository) Worlds() []World {
	variants := map[string][]*Object{}
	var builds []string
	differ := false
	for _, o := range r.Objects {
		if !slices.Contains(builds, o.Build) {
			builds = append(builds, o.Build)
		}
		of := variants[o.Label()]
		differ = differ || len(of) > 0 && !reflect.DeepEqual(of[0].content, o.content)
		variants[o.Label()] = append(of, o)
	}
	slices.Sort(builds)
	if !differ {
		builds = builds[:min(len(builds), 1)]
	}
	var out []World
	for _, build := range builds {
		w := World{}
		if differ {
			w.Build = build
		}
		for _, label := range slices.Sorted(maps.Keys(variants)) {
			all := variants[label]
			i := max(0, slices.IndexFunc(all, func(o *Object) bool { return o.Build == build }))
			w.Objects = append(w.Objects, all[i])
			if o := all[i]; o.Kind == v1alpha1.AccessGrantKind && (!differ || o.Build == build) {
				w.Grants = append(w.Grants, o)
			}
		}
		out = append(out, w)
	}
	return out
}

// Snapshot of a world, as it is compiled and judged at an instant and a point. What the
// hub would not take is left out.
func (r *Repository) Snapshot(w *World, now time.Time, point guardrail.Point, o guardrail.Options) compile.Snapshot {
	s := compile.Snapshot{
		Roles: map[string]*v1alpha1.AccessRoleSpec{}, Fleet: r.Fleet, Placements: r.Placements, Now: now,
		Point: point, Namespaces: map[string]map[string]string{},
	}
	guardrails := slices.Clone(r.bundled)
	var excused []guardrail.Exception
	for _, o := range w.Objects {
		switch typed := o.Typed.(type) {
		case *v1alpha1.AccessRole: // what is invalid in it is what it would be, as far as it goes
			s.Roles[o.Name] = &typed.Spec
		case *v1alpha1.Guardrail:
			guardrails = append(guardrails, r.compiled[o])
		case *v1alpha1.GuardrailException:
			if !o.Invalid {
				excused = append(excused, o.Exception())
			}
		case nil:
			u := unstructured.Unstructured{Object: o.content}
			s.Namespaces[o.Name] = u.GetLabels()
		}
	}
	s.Guardrails = guardrail.NewSet(guardrails, excused, o)
	for _, o := range w.Grants {
		if !o.Invalid {
			g := o.Typed.(*v1alpha1.AccessGrant)
			s.Grants = append(s.Grants, compile.Grant{Namespace: o.Namespace, Name: o.Name, Spec: &g.Spec, Labels: g.Labels, Annotations: g.Annotations})
		}
	}
	return s
}

// Exception that a GuardrailException is.
func (o *Object) Exception() guardrail.Exception {
	e := o.Typed.(*v1alpha1.GuardrailException)
	return guardrail.Exception{
		Namespace: o.Namespace, Name: o.Name, Guardrail: e.Spec.Guardrail, Grant: e.Spec.Grant,
		NotBefore: e.Spec.NotBefore.Time, NotAfter: e.Spec.NotAfter.Time,
	}
}
