package v1alpha1

import (
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GuardrailBundleKind is the kind of GuardrailBundle as it appears in YAML.
const GuardrailBundleKind = "GuardrailBundle"

// GuardrailBundleSpec is an OPA bundle of guardrails, where it comes from and who
// has to have signed it.
// +kubebuilder:validation:XValidation:rule="has(self.verification) != (has(self.unsigned) && self.unsigned == 'Allowed')",message="must have verification, or say unsigned: Allowed"
type GuardrailBundleSpec struct {
	// Source of the bundle.
	// +required
	Source BundleSource `json:"source"`

	// Interval at which the source is looked at, beside whenever it is known to
	// change.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=duration
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be a second or more"
	Interval metav1.Duration `json:"interval,omitempty"`

	// Suspend stops looking for another bundle; the one in force stays.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Digest pins the bundle: sha256: and the digest, in hexadecimal, of the
	// bundle's .tar.gz.
	// +optional
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	Digest string `json:"digest,omitempty"`

	// Verification says with which keys the bundle has to be signed.
	// +optional
	Verification *BundleVerification `json:"verification,omitempty"`

	// Unsigned has to be Allowed for a bundle without verification.
	// +optional
	// +kubebuilder:validation:Enum=Refused;Allowed
	Unsigned string `json:"unsigned,omitempty"`

	// Enforcement of those of its guardrails that do not say themselves.
	// +optional
	// +kubebuilder:default=Deny
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// Points of those of its guardrails that do not say themselves. Absent, Plan,
	// Admission and Compile.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Points []GuardrailPoint `json:"points,omitempty"`

	// Match narrows every guardrail of the bundle. While no bundle has been
	// accepted, what it matches cannot be judged, at any point.
	// +optional
	Match *GuardrailMatch `json:"match,omitempty"`

	// Exceptions are the terms of those of its guardrails that do not say
	// themselves.
	// +optional
	Exceptions *ExceptionTerms `json:"exceptions,omitempty"`
}

// BundleSource is where a bundle comes from.
// +kubebuilder:validation:XValidation:rule="[has(self.artifact), has(self.configMap), has(self.directory)].filter(e, e).size() == 1",message="must have exactly one of artifact, configMap and directory"
type BundleSource struct {
	// Artifact of a Flux source.
	// +optional
	Artifact *ArtifactSource `json:"artifact,omitempty"`
	// ConfigMap with the bundle's .tar.gz in binaryData.
	// +optional
	ConfigMap *ConfigMapSource `json:"configMap,omitempty"`
	// Directory on the controller's file system.
	// +optional
	Directory *DirectorySource `json:"directory,omitempty"`
}

// ArtifactSource is the artifact of a Flux source. Its digest is checked.
type ArtifactSource struct {
	// Kind of the source.
	// +required
	// +kubebuilder:validation:Enum=OCIRepository;GitRepository;Bucket
	Kind string `json:"kind"`
	// Namespace of the source.
	// +required
	Namespace NamespaceName `json:"namespace"`
	// Name of the source.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Path of the bundle in the artifact: of its .tar.gz, or of the folder that it
	// is unpacked in. Absent, the artifact itself is the bundle.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
}

// ConfigMapSource is a key of a ConfigMap.
type ConfigMapSource struct {
	// Namespace of the ConfigMap.
	// +required
	Namespace NamespaceName `json:"namespace"`
	// Name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in binaryData.
	// +optional
	// +kubebuilder:default=bundle.tar.gz
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// DirectorySource is a path on the controller's file system.
type DirectorySource struct {
	// Path of a .tar.gz, or of a folder with an unpacked bundle.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path"`
}

// BundleVerification says with which keys a bundle has to be signed.
type BundleVerification struct {
	// Keys, of which one has to have signed.
	// +required
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Keys []BundleKey `json:"keys"`
	// Scope that the signature has to have; absent, none.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Scope string `json:"scope,omitempty"`
}

// BundleKey is a public key.
type BundleKey struct {
	// ID of the key, as the signature names it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ID string `json:"id"`
	// Algorithm of the signature.
	// +optional
	// +kubebuilder:default=RS256
	// +kubebuilder:validation:Enum=RS256;RS384;RS512;PS256;PS384;PS512;ES256;ES384;ES512
	Algorithm string `json:"algorithm,omitempty"`
	// PublicKey in PEM.
	// +required
	// +kubebuilder:validation:MaxLength=8192
	// +kubebuilder:validation:XValidation:rule="self.contains('PUBLIC KEY') && !self.contains('PRIVATE KEY')",message="must be a public key in PEM, and never a private one"
	PublicKey string `json:"publicKey"`
}

// GuardrailBundleStatus is what the controller observed of a bundle.
type GuardrailBundleStatus struct {
	// ObservedGeneration is the generation that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready says whether the last look at the source ended with the
	// bundle that is in force; Stalled and Reconciling as kstatus has them.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Active is the bundle in force.
	// +optional
	Active *ActiveBundle `json:"active,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// ActiveBundle is a bundle that was accepted.
type ActiveBundle struct {
	// Revision of the bundle, from its manifest. A bundle of a lower one is
	// refused.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision"`
	// Digest of the bundle: sha256: and the digest of its .tar.gz.
	// +required
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest"`
	// KeyID of the key that signed it; empty for an unsigned bundle.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	KeyID string `json:"keyID,omitempty"`
	// Guardrails in the bundle, by name.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	Guardrails []string `json:"guardrails,omitempty"`
	// Since when it is in force.
	// +required
	Since metav1.Time `json:"since"`
}

// GuardrailBundle is a signed set of guardrails from elsewhere.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=grb,categories=sallyport
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.active.revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Digest",type=string,JSONPath=`.status.active.digest`,priority=1
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="metadata.name must be 63 characters or fewer"
type GuardrailBundle struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says where the bundle comes from and who has to have signed it.
	// +required
	Spec GuardrailBundleSpec `json:"spec"`

	// Status is written by the controller.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status GuardrailBundleStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions, as fluxcd/pkg/runtime wants them.
func (b *GuardrailBundle) GetConditions() []metav1.Condition { return b.Status.Conditions }

// SetConditions replaces the conditions.
func (b *GuardrailBundle) SetConditions(c []metav1.Condition) { b.Status.Conditions = c }

// GuardrailBundleList is a list of bundles.
//
// +kubebuilder:object:root=true
type GuardrailBundleList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GuardrailBundle `json:"items"`
}
