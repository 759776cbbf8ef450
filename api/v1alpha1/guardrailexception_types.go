package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GuardrailExceptionKind is the kind of GuardrailException as it appears in YAML.
const GuardrailExceptionKind = "GuardrailException"

// GuardrailExceptionSpec excuses one grant from one guardrail for a time.
type GuardrailExceptionSpec struct {
	// Guardrail is the name of the Guardrail; for one of a bundle, BUNDLE/NAME.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=507
	// +kubebuilder:validation:XValidation:rule="!self.contains('*')",message="is no pattern: name one guardrail"
	Guardrail string `json:"guardrail"`

	// Grant is the name of the AccessGrant, in the namespace of the exception.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains('*') && !self.contains('/')",message="must be the name of one AccessGrant in the namespace of the exception"
	Grant string `json:"grant"`

	// Reason says why the exception is justified.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="size(self.trim()) > 0",message="must say why the exception is made"
	Reason string `json:"reason"`

	// Ticket under which the exception was agreed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self.trim()) > 0",message="must name the ticket"
	Ticket string `json:"ticket"`

	// NotBefore is the instant at which the exception begins.
	// +required
	NotBefore metav1.Time `json:"notBefore"`

	// NotAfter is the instant at which the exception has ended. From notBefore it
	// may be no further than the guardrail allows.
	// +required
	NotAfter metav1.Time `json:"notAfter"`
}

// GuardrailExceptionStatus is what the controller observed of an exception.
type GuardrailExceptionStatus struct {
	// ObservedGeneration is the generation that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, and Active while the exception is honoured.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GuardrailException excuses one grant of its namespace from one guardrail, for a
// time, for a reason.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=gre,categories=sallyport
// +kubebuilder:printcolumn:name="Guardrail",type=string,JSONPath=`.spec.guardrail`
// +kubebuilder:printcolumn:name="Grant",type=string,JSONPath=`.spec.grant`
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.conditions[?(@.type=="Active")].reason`
// +kubebuilder:printcolumn:name="Until",type=string,JSONPath=`.spec.notAfter`
// +kubebuilder:printcolumn:name="Ticket",type=string,JSONPath=`.spec.ticket`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Active")].message`,priority=1
type GuardrailException struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says what is excused, and until when.
	// +required
	// +kubebuilder:validation:XValidation:rule="self.notBefore < self.notAfter",message="must be later than notBefore",fieldPath=".notAfter"
	Spec GuardrailExceptionSpec `json:"spec"`

	// Status is written by the controller.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status GuardrailExceptionStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions, as fluxcd/pkg/runtime wants them.
func (e *GuardrailException) GetConditions() []metav1.Condition { return e.Status.Conditions }

// SetConditions replaces the conditions.
func (e *GuardrailException) SetConditions(c []metav1.Condition) { e.Status.Conditions = c }

// GuardrailExceptionList is a list of exceptions.
//
// +kubebuilder:object:root=true
type GuardrailExceptionList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GuardrailException `json:"items"`
}
