package grant

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// plan is what has to be written, and the outcome that it leads to.
type plan struct {
	output compile.Output
	// hub in order: what takes away before what gives.
	hub     []hubWrite
	members []carrierWrite
}

// hubWrite creates (no live), deletes (no want) or updates one object.
type hubWrite struct {
	live client.Object
	want *compile.Object
}

// carrierWrite creates (no live), deletes (no parcel) or updates one carrier.
type carrierWrite struct {
	key     carrierKey
	cluster string
	live    client.Object
	parcel  *distribute.Parcel
	// resync asks the agent to look again, where the content is right already.
	resync string
}

// carried remembers which parcel a carrier was found to carry, so that the same
// two are compared once.
type carried struct {
	version string
	of      any
}

// decide compiles and compares. Its only memory is what spares it work.
func (r *Reconciler) decide(seen *observation) plan {
	p := plan{output: r.compiler.Grants(seen.snapshot)}
	p.hub = decideHub(seen.hub, p.output.Hub)
	p.members = r.decideMembers(seen, p.output.Members)
	return p
}

func decideHub(live map[string]map[client.ObjectKey]client.Object, want []*compile.Object) []hubWrite {
	var out []hubWrite
	wanted := map[objectKey]bool{}
	for _, o := range want {
		key := objectKey{o.Kind, client.ObjectKey{Name: o.Name}}
		wanted[key] = true
		if have := live[o.Kind][key.ObjectKey]; have == nil || !sameHub(have, o) {
			out = append(out, hubWrite{live: have, want: o})
		}
	}
	for kind, objects := range live {
		for key, o := range objects {
			if !wanted[objectKey{kind, key}] {
				out = append(out, hubWrite{live: o})
			}
		}
	}
	slices.SortFunc(out, func(a, b hubWrite) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), strings.Compare(a.name(), b.name()))
	})
	return out
}

// rank: deletions, bindings first; then updates; then creations, roles first.
func (w hubWrite) rank() int {
	_, liveBinding := w.live.(*rbacv1.ClusterRoleBinding)
	switch {
	case w.want == nil && liveBinding:
		return 0
	case w.want == nil:
		return 1
	case w.live != nil:
		return 2
	case w.want.Kind == "ClusterRole":
		return 3
	}
	return 4
}

func (w hubWrite) name() string {
	if w.want != nil {
		return w.want.Name
	}
	return w.live.GetName()
}

// sameHub compares in full: labels exactly, since one more could aggregate a role
// into another, and of the annotations those that are Sallyport's.
func sameHub(live client.Object, want *compile.Object) bool {
	meta := want.Object.(client.Object)
	if !maps.Equal(live.GetLabels(), meta.GetLabels()) {
		return false
	}
	for _, k := range []string{v1alpha1.GrantsAnnotation, v1alpha1.SourcesAnnotation} {
		if live.GetAnnotations()[k] != meta.GetAnnotations()[k] {
			return false
		}
	}
	switch want := want.Object.(type) {
	case *rbacv1.ClusterRole:
		have, ok := live.(*rbacv1.ClusterRole)
		return ok && have.AggregationRule == nil && reflect.DeepEqual(have.Rules, want.Rules)
	case *rbacv1.ClusterRoleBinding:
		have, ok := live.(*rbacv1.ClusterRoleBinding)
		return ok && have.RoleRef == want.RoleRef && slices.Equal(have.Subjects, want.Subjects)
	}
	return false
}

func (r *Reconciler) decideMembers(seen *observation, members []compile.Member) []carrierWrite {
	if r.carried == nil {
		r.carried = map[carrierKey]carried{}
	}
	var out []carrierWrite
	wanted := map[carrierKey]bool{}
	for _, m := range members {
		member, _ := seen.snapshot.Fleet.Get(m.Name)
		carrier, ok := r.Carriers[member.Delivery]
		if !ok {
			continue
		}
		for _, p := range carrier.Parcels(m.Name, m.Works) {
			key := carrierKey{member.Delivery, carrier.Key(p)}
			wanted[key] = true
			if w, needed := r.decideCarrier(key, carrier, seen.carriers[member.Delivery][key.ObjectKey], &p); needed {
				out = append(out, w)
			}
		}
	}
	for delivery, carriers := range seen.carriers {
		for key, s := range carriers {
			k := carrierKey{delivery, key}
			if !wanted[k] {
				delete(r.carried, k)
				if !s.Deleting {
					out = append(out, carrierWrite{key: k, cluster: s.Cluster, live: s.object})
				}
			}
		}
	}
	// What gives goes before what takes away: an object that moves from one work
	// to another is not to vanish in between. The hub was cut before either.
	slices.SortFunc(out, func(a, b carrierWrite) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.key.Delivery, b.key.Delivery),
			strings.Compare(a.key.ObjectKey.String(), b.key.ObjectKey.String()))
	})
	return out
}

func (r *Reconciler) decideCarrier(key carrierKey, carrier distribute.Carrier, s standing, p *distribute.Parcel) (carrierWrite, bool) {
	w := carrierWrite{key: key, cluster: p.Cluster, parcel: p}
	switch {
	case s.object == nil:
		return w, true
	case s.Deleting:
		return w, false // it has to go before it can come back
	}
	w.live = s.object
	now := carried{s.object.GetResourceVersion(), p.Of}
	if r.carried[key] != now {
		if !carrier.Carries(s.object, *p) {
			return w, true
		}
		r.carried[key] = now
	}
	w.resync = r.drifted(key, s.object)
	return w, w.resync != ""
}

func (w carrierWrite) rank() int {
	switch {
	case w.live == nil:
		return 0
	case w.parcel != nil:
		return 1
	}
	return 2
}
