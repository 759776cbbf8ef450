package grant

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
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
	objects := wantedObjects(members)
	for _, m := range members {
		member, _ := seen.snapshot.Fleet.Get(m.Name)
		carrier, ok := r.Carriers[member.Delivery]
		if !ok {
			continue
		}
		for _, p := range carrier.Parcels(m.Name, m.Works) {
			key := carrierKey{member.Delivery, carrier.Key(p)}
			wanted[key] = true
			if w, needed := r.decideCarrier(seen, key, carrier, &p, objects(m.Name)); needed {
				out = append(out, w)
			}
		}
	}
	for delivery, carriers := range seen.carriers {
		for key, s := range carriers {
			if k := (carrierKey{delivery, key}); !wanted[k] && !s.Deleting {
				nothing := &distribute.Parcel{Cluster: s.Cluster, Name: key.Name}
				if w, needed := r.decideCarrier(seen, k, r.Carriers[delivery], nothing, objects(s.Cluster)); needed {
					out = append(out, w)
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

// wantedObjects tells, for a member, which objects any of its works wants. It
// looks only when it is asked.
func wantedObjects(members []compile.Member) func(cluster string) func(id string) bool {
	known := map[string]map[string]bool{}
	return func(cluster string) func(string) bool {
		return func(id string) bool {
			ids, ok := known[cluster]
			if !ok {
				ids = map[string]bool{}
				known[cluster] = ids
				i, found := slices.BinarySearchFunc(members, cluster, func(m compile.Member, c string) int { return strings.Compare(m.Name, c) })
				if found {
					for _, w := range members[i].Works {
						for _, o := range w.Objects {
							ids[o.ID()] = true
						}
					}
				}
			}
			return ids[id]
		}
	}
}

// decideCarrier says what to write to bring a carrier to a parcel, if anything. A
// parcel of nothing deletes it.
func (r *Reconciler) decideCarrier(seen *observation, key carrierKey, carrier distribute.Carrier, p *distribute.Parcel, wanted func(string) bool) (carrierWrite, bool) {
	w := carrierWrite{key: key, cluster: p.Cluster, parcel: p}
	s := seen.carriers[key.Delivery][key.ObjectKey]
	switch {
	case s.object == nil:
		return w, true
	case s.Deleting:
		return w, false // it has to go before it can come back
	}
	w.live = s.object
	now := carried{s.object.GetResourceVersion(), p.Of}
	if p.Of == nil || r.carried[key] != now {
		if retired := carrier.Retire(s.object, *p, wanted, r.settled(seen, key, s)); len(retired) > 0 {
			p.Objects, p.Of = append(slices.Clone(p.Objects), retired...), nil
		}
		switch {
		case len(p.Objects) == 0:
			delete(r.carried, key)
			w.parcel = nil
			return w, true
		case !carrier.Carries(s.object, *p):
			return w, true
		case p.Of == nil: // something is being retired
			if s.Confirmed {
				seen.again(r.retireAfter())
			}
		default:
			r.carried[key] = now
		}
	}
	w.resync = r.drifted(key, s.object)
	return w, w.resync != ""
}

// settled reports whether a member has confirmed the very content of a carrier for
// as long as it takes its agent to remember what it applied.
func (r *Reconciler) settled(seen *observation, key carrierKey, s standing) bool {
	if r.confirmed == nil {
		r.confirmed = map[carrierKey]confirmed{}
	}
	if !s.Confirmed {
		delete(r.confirmed, key)
		return false
	}
	c, ok := r.confirmed[key]
	if !ok || c.uid != s.object.GetUID() || c.generation != s.object.GetGeneration() {
		r.confirmed[key] = confirmed{s.object.GetUID(), s.object.GetGeneration(), seen.now}
		return false
	}
	return seen.now.Sub(c.since) >= r.retireAfter()
}

// confirmed is when a carrier's content was first seen to be confirmed.
type confirmed struct {
	uid        types.UID
	generation int64
	since      time.Time
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
