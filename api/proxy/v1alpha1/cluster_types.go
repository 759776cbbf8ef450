package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ClusterKind is the kind of Cluster as it appears in YAML.
const ClusterKind = "Cluster"

// Availability is what the inventory says of a member's health.
// +kubebuilder:validation:Enum=Available;Unavailable;Unknown
type Availability string

// The availabilities.
const (
	Available           Availability = "Available"
	Unavailable         Availability = "Unavailable"
	AvailabilityUnknown Availability = "Unknown"
)

// RouteState is whether the replica that answers has a way to the member.
// +kubebuilder:validation:Enum=Ready;NotReady
type RouteState string

// The states of a route.
const (
	RouteReady    RouteState = "Ready"
	RouteNotReady RouteState = "NotReady"
)

// Cluster is a member of the fleet on which the person who asks has an active grant.
// Its labels are those that the inventory gives it.
//
// +kubebuilder:object:root=true
type Cluster struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Status of the member, as the person who asks may know it.
	// +optional
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterStatus is how a member is reached, and why.
type ClusterStatus struct {
	// Availability of the member, as the inventory has it.
	// +required
	Availability Availability `json:"availability"`

	// Route is whether requests can be sent to the member.
	// +required
	Route RouteState `json:"route"`

	// RouteMessage says why the route is not ready.
	// +optional
	RouteMessage string `json:"routeMessage,omitempty"`

	// Delivery is how the member gets its RBAC: ManifestWork, Work, Direct or None.
	// +optional
	Delivery string `json:"delivery,omitempty"`

	// Grants that open the cluster to the person who asks, sorted by namespace and name.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	Grants []ClusterGrant `json:"grants,omitempty"`
}

// ClusterGrant is a grant that opens a cluster.
type ClusterGrant struct {
	// Namespace of the grant on the hub.
	// +required
	Namespace string `json:"namespace"`

	// Name of the grant.
	// +required
	Name string `json:"name"`

	// NotAfter is when the grant ends; absent if it does not.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// Revision is the commit that the grant came from, where it is known.
	// +optional
	Revision string `json:"revision,omitempty"`
}

// ClusterList is a list of clusters.
//
// +kubebuilder:object:root=true
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cluster `json:"items"`
}
