package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AccessRoleKind is the kind of AccessRole as it appears in YAML.
const AccessRoleKind = "AccessRole"

// AccessRoleSpec is a named set of rules.
type AccessRoleSpec struct {
	// Description says what the role is for.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// Rules that the role gives, as in rbac.authorization.k8s.io/v1.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Rules []PolicyRule `json:"rules"`
}

// AccessRole is a reusable set of rules. It gives nothing by itself: it is
// delivered, as a ClusterRole, to the members on which a grant uses it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ar,categories=sallyport
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.description`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AccessRole struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec holds the rules.
	// +required
	Spec AccessRoleSpec `json:"spec"`
}

// AccessRoleList is a list of roles.
//
// +kubebuilder:object:root=true
type AccessRoleList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AccessRole `json:"items"`
}
