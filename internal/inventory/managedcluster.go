package inventory

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// fromManagedCluster is the member that Open Cluster Management knows, and
// whether it is in the fleet: one that is being deleted is not. Proxied says that
// the cluster-proxy add-on is there. It counts even while it is unhealthy, since
// the paths decide whom a member lets in.
func fromManagedCluster(c *clusterv1.ManagedCluster, proxied bool) (fleet.Member, bool) {
	if !c.DeletionTimestamp.IsZero() {
		return fleet.Member{}, false
	}
	m := fleet.Member{
		Name:         c.Name,
		Labels:       c.Labels,
		Accepted:     c.Spec.HubAcceptsClient,
		Availability: availability(c.Status.Conditions, clusterv1.ManagedClusterConditionAvailable),
		Delivery:     fleet.ManifestWork,
		Paths:        subject.Gateway,
	}
	if proxied {
		m.Paths |= subject.ClusterProxy
	}
	for _, claim := range c.Status.ClusterClaims {
		m.Claims = put(m.Claims, claim.Name, claim.Value)
	}
	for _, t := range c.Spec.Taints {
		m.Taints = append(m.Taints, fleet.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	return m, true
}

// availability by a condition. Open Cluster Management and Karmada set Unknown
// when the cluster's heartbeat stops, so that it counts as False.
func availability(conditions []metav1.Condition, name string) fleet.Availability {
	switch c := meta.FindStatusCondition(conditions, name); {
	case c == nil:
		return fleet.Unknown
	case c.Status == metav1.ConditionTrue:
		return fleet.Available
	}
	return fleet.Unavailable
}

// put leaves out what is empty, and makes the map when there is something.
func put(to map[string]string, key, value string) map[string]string {
	if key == "" || value == "" {
		return to
	}
	if to == nil {
		to = map[string]string{}
	}
	to[key] = value
	return to
}
