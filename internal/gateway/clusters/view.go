package clusters

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
)

// view is what one person may reach, sorted by name. It is not changed.
type view []v1alpha1.Cluster

// view of now.
func (s *Storage) view(u *guardrail.User) (view, error) {
	ix := s.access.Current()
	if ix == nil {
		return nil, notReady()
	}
	var v view
	for _, r := range ix.Reaches(u, s.clock.Now()) {
		member, ok := ix.Fleet().Get(r.Cluster)
		if !ok {
			continue
		}
		v = append(v, s.cluster(&member, r.Grants))
	}
	return v, nil
}

func (s *Storage) cluster(m *fleet.Member, by []*effective.Grant) v1alpha1.Cluster {
	c := v1alpha1.Cluster{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.ClusterKind},
		ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: maps.Clone(m.Labels)},
		Status:     v1alpha1.ClusterStatus{Availability: availability(m.Availability), Delivery: m.Delivery.String()},
	}
	c.Status.Route, c.Status.RouteMessage = s.routeOf(m.Name)
	for _, g := range by {
		told := v1alpha1.ClusterGrant{Namespace: g.Namespace, Name: g.Name, Revision: g.Revision}
		if g.NotAfter != nil {
			told.NotAfter = &metav1.Time{Time: *g.NotAfter}
		}
		c.Status.Grants = append(c.Status.Grants, told)
	}
	return c
}

func availability(a fleet.Availability) v1alpha1.Availability {
	switch a {
	case fleet.Available:
		return v1alpha1.Available
	case fleet.Unavailable:
		return v1alpha1.Unavailable
	}
	return v1alpha1.AvailabilityUnknown
}

// get the cluster of that name, or nil.
func (v view) get(name string) *v1alpha1.Cluster {
	i, ok := slices.BinarySearchFunc(v, name, func(c v1alpha1.Cluster, name string) int { return cmp.Compare(c.Name, name) })
	if !ok {
		return nil
	}
	return &v[i]
}

// selectsBy is whether a cluster is selected by labels and fields.
func selectsBy(o *internalversion.ListOptions) func(*v1alpha1.Cluster) bool {
	byLabel, byField := labels.Everything(), fields.Everything()
	if o != nil && o.LabelSelector != nil {
		byLabel = o.LabelSelector
	}
	if o != nil && o.FieldSelector != nil {
		byField = o.FieldSelector
	}
	return func(c *v1alpha1.Cluster) bool {
		return byLabel.Matches(labels.Set(c.Labels)) && byField.Matches(fields.Set{"metadata.name": c.Name})
	}
}

// Views are kept for as long as it takes to watch after a list.
const (
	keptViews = 256
	keptFor   = 2 * time.Minute
)

// given are the views that were given out lately, by who got them and the version.
type given struct{ cache *cache.LRUExpireCache }

type receipt struct {
	user    caller.Key
	version uint64
}

func newGiven(c clock.Clock) *given {
	return &given{cache.NewLRUExpireCacheWithClock(keptViews, c)}
}

func (g *given) keep(u *guardrail.User, version uint64, v view) {
	g.cache.Add(receipt{caller.KeyOf(u), version}, v, keptFor)
}

// recall what that person was given, and nobody else: what a watch says is gone tells
// names.
func (g *given) recall(u *guardrail.User, version uint64) (view, bool) {
	v, ok := g.cache.Get(receipt{caller.KeyOf(u), version})
	if !ok {
		return nil, false
	}
	return v.(view), true
}
