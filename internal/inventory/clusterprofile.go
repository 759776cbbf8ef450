package inventory

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
)

// fromClusterProfile is the member that a ClusterProfile describes, and whether
// it is in the fleet. A profile only describes: it says neither how to deliver to
// the cluster nor how to reach it, so by itself such a member can be selected,
// and shows in status as one that nothing is delivered to.
func fromClusterProfile(u *unstructured.Unstructured) (fleet.Member, bool) {
	if u.GetDeletionTimestamp() != nil {
		return fleet.Member{}, false
	}
	m := fleet.Member{
		Name:         u.GetName(),
		Labels:       u.GetLabels(),
		Accepted:     true,
		Availability: availability(conditions(u), "ControlPlaneHealthy"),
	}
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	for _, p := range objects(status, "properties") {
		m.Claims = put(m.Claims, text(p, "name"), text(p, "value"))
	}
	return m, true
}
