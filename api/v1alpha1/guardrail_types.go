package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GuardrailKind is the kind of Guardrail as it appears in YAML.
const GuardrailKind = "Guardrail"

// GuardrailSpec is a rule that can refuse a grant or a request. It never gives
// access.
// +kubebuilder:validation:XValidation:rule="[has(self.ceiling), has(self.cel), has(self.rego)].filter(e, e).size() == 1",message="must have exactly one of ceiling, cel and rego"
// +kubebuilder:validation:XValidation:rule="!has(self.ceiling) || !has(self.points) || !('Request' in self.points)",message="a ceiling bounds grants: it is not asked about requests",fieldPath=".points"
// +kubebuilder:validation:XValidation:rule="!has(self.ceiling) || !has(self.match) || !(has(self.match.subjects) || has(self.match.clusters) || has(self.match.verbs))",message="a ceiling is for namespaces: it matches nothing else, and says itself what it allows of subjects, clusters and verbs",fieldPath=".match"
// +kubebuilder:validation:XValidation:rule="!has(self.ceiling) || !has(self.parameters)",message="a ceiling has no parameters",fieldPath=".parameters"
type GuardrailSpec struct {
	// Description says which risk the guardrail is there for.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// Enforcement is what a violation leads to.
	// +optional
	// +kubebuilder:default=Deny
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// Points at which the guardrail is asked. Absent, it judges grants: at Plan,
	// Admission and Compile.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Points []GuardrailPoint `json:"points,omitempty"`

	// Match says of which grants and requests the guardrail is asked: those that
	// each of the given parts matches. Absent, of all.
	// +optional
	Match *GuardrailMatch `json:"match,omitempty"`

	// Exceptions says whether GuardrailExceptions are honoured, and for how long.
	// Absent, there are none.
	// +optional
	Exceptions *ExceptionTerms `json:"exceptions,omitempty"`

	// Parameters are given to the policy as input.parameters.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Parameters *apiextensionsv1.JSON `json:"parameters,omitempty"`

	// Ceiling is the most that the matching namespaces may grant.
	// +optional
	Ceiling *Ceiling `json:"ceiling,omitempty"`

	// CEL is a policy in the Common Expression Language.
	// +optional
	CEL *CELPolicy `json:"cel,omitempty"`

	// Rego is a policy in OPA's language.
	// +optional
	Rego *RegoPolicy `json:"rego,omitempty"`
}

// Enforcement is what a violation leads to.
// +kubebuilder:validation:Enum=Deny;Warn;Audit
type Enforcement string

// The ways to enforce.
const (
	// EnforcementDeny refuses; a grant that stands is revoked.
	EnforcementDeny Enforcement = "Deny"
	// EnforcementWarn tells whoever applies the grant, and the reports.
	EnforcementWarn Enforcement = "Warn"
	// EnforcementAudit tells the reports.
	EnforcementAudit Enforcement = "Audit"
)

// GuardrailPoint is a place at which guardrails are asked.
// +kubebuilder:validation:Enum=Plan;Admission;Compile;Request
type GuardrailPoint string

// The points.
const (
	// PointPlan is before the commit: sallyport lint.
	PointPlan GuardrailPoint = "Plan"
	// PointAdmission is when the hub's API server takes a grant.
	PointAdmission GuardrailPoint = "Admission"
	// PointCompile is on what a grant compiles to, before anything is applied and
	// as long as it stands.
	PointCompile GuardrailPoint = "Compile"
	// PointRequest is on each request to a member.
	PointRequest GuardrailPoint = "Request"
)

// GuardrailMatch selects grants and requests. Where it cannot be told whether a
// part matches, it does.
type GuardrailMatch struct {
	// Namespaces of grants, on the hub. A request is matched by the namespaces of
	// the grants that would allow it.
	// +optional
	Namespaces *NamespaceMatch `json:"namespaces,omitempty"`

	// Subjects, of which a grant has to name one, or one of which has to make the
	// request.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Subjects []SubjectPattern `json:"subjects,omitempty"`

	// Clusters, of which a grant has to give access to one, or to one of which the
	// request goes.
	// +optional
	Clusters *ClusterMatch `json:"clusters,omitempty"`

	// Verbs, of which a grant has to give one, or one of which the request has. A
	// role whose rules only the member knows gives every verb.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Verbs []string `json:"verbs,omitempty"`
}

// Pattern is a name in which each * stands for any characters, or none.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
type Pattern string

// NamespaceMatch selects namespaces of the hub: those with one of the names, and
// those with the labels.
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.selector)",message="must have names or selector"
type NamespaceMatch struct {
	// Names, in which * stands for any characters.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Names []Pattern `json:"names,omitempty"`

	// Selector matches the labels of the namespace.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ClusterMatch selects clusters of the fleet: those with one of the names, and
// those with the labels.
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.selector)",message="must have names or selector"
type ClusterMatch struct {
	// Names, in which * stands for any characters.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Names []Pattern `json:"names,omitempty"`

	// Selector matches the labels that the inventory gives the cluster.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// SubjectPattern matches subjects of one kind.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' || !has(self.__namespace__)",message="only a ServiceAccount has a namespace",fieldPath=".namespace",reason=FieldValueForbidden
type SubjectPattern struct {
	// Kind of the subject.
	// +required
	Kind SubjectKind `json:"kind"`

	// Name, in which * stands for any characters. Absent, every name.
	// +optional
	Name Pattern `json:"name,omitempty"`

	// Namespace of a service account, in which * stands for any characters.
	// Absent, every namespace.
	// +optional
	Namespace Pattern `json:"namespace,omitempty"`
}

// ExceptionTerms are the terms on which a guardrail honours exceptions.
type ExceptionTerms struct {
	// MaxDuration is the longest time from an exception's notBefore to its
	// notAfter. A longer exception is not honoured at all.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=duration
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="must be positive"
	MaxDuration metav1.Duration `json:"maxDuration"`
}

// Ceiling is the most that a namespace may grant. What a grant gives has to be
// covered by it, as Kubernetes decides when it keeps people from granting what
// they do not have.
type Ceiling struct {
	// Rules that may be granted. The verbs escalate, bind and impersonate, with its
	// constrained forms, are covered by a rule that spells them out, and not by *.
	// The verb * of a grant is covered by a rule with *; on roles, clusterroles,
	// users, groups, service accounts and other identities the ceiling has to spell
	// out these verbs too.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Rules []PolicyRule `json:"rules,omitempty"`

	// Roles of members that may be bound by name. What is in them only the member
	// knows, so that rules do not cover them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Roles []RolePattern `json:"roles,omitempty"`

	// Namespaces on members in which access may be given. Absent, in all and
	// cluster-wide; given, cluster-wide access is refused.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Namespaces []Pattern `json:"namespaces,omitempty"`

	// Clusters on which access may be given. Absent, on all.
	// +optional
	Clusters *ClusterMatch `json:"clusters,omitempty"`

	// Subjects to whom access may be given. Absent, to all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Subjects []SubjectPattern `json:"subjects,omitempty"`

	// MaxDuration is the longest validity: from notBefore, or else from the instant
	// of judging, until notAfter, without which a grant is then refused.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=duration
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="must be positive"
	MaxDuration *metav1.Duration `json:"maxDuration,omitempty"`
}

// RolePattern matches roles that exist on members.
// +structType=atomic
type RolePattern struct {
	// Kind of the role: ClusterRole or Role.
	// +required
	// +kubebuilder:validation:XValidation:rule="self != 'AccessRole'",message="must be ClusterRole or Role: an AccessRole is covered by rules"
	Kind RoleKind `json:"kind"`

	// Name, in which * stands for any characters. cluster-admin is matched by its
	// name in full only, and a name that begins with system: by one that begins so.
	// +required
	Name Pattern `json:"name"`
}

// CELPolicy is a policy in the Common Expression Language, in the shape of a
// ValidatingAdmissionPolicy, over the variable input.
type CELPolicy struct {
	// Variables are named expressions, as variables.NAME in those that follow.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Variables []CELVariable `json:"variables,omitempty"`

	// Validations each of which has to be true.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Validations []CELValidation `json:"validations"`
}

// CELVariable is a named expression.
type CELVariable struct {
	// Name of the variable.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[_a-zA-Z][_a-zA-Z0-9]*$`
	Name string `json:"name"`
	// Expression that gives its value.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`
}

// CELValidation is an expression that has to be true.
type CELValidation struct {
	// Expression of type bool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`
	// Message of a violation. Absent, the expression is quoted.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// MessageExpression gives the message. Where it fails, or gives nothing, Message
	// is used.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	MessageExpression string `json:"messageExpression,omitempty"`
	// Field of the grant that the violation is about, such as spec.validity.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Field string `json:"field,omitempty"`
}

// RegoPolicy is a policy in Rego v1.
type RegoPolicy struct {
	// Module is the source of one module. What its package's deny contains are the
	// violations: strings, or objects with message and, where it is about a field
	// of the grant, field.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Module string `json:"module"`
}

// GuardrailStatus is what the controller observed of a guardrail.
type GuardrailStatus struct {
	// ObservedGeneration is the generation that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, and Stalled while the guardrail cannot be evaluated.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Digest of the guardrail in force.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest,omitempty"`
}

// Guardrail is a rule that can refuse a grant or a request. It gives no access.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=gr,categories=sallyport
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Points",type=string,JSONPath=`.spec.points`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.description`,priority=1
type Guardrail struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says what is refused.
	// +required
	Spec GuardrailSpec `json:"spec"`

	// Status is written by the controller.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status GuardrailStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions, as fluxcd/pkg/runtime wants them.
func (g *Guardrail) GetConditions() []metav1.Condition { return g.Status.Conditions }

// SetConditions replaces the conditions.
func (g *Guardrail) SetConditions(c []metav1.Condition) { g.Status.Conditions = c }

// GuardrailList is a list of guardrails.
//
// +kubebuilder:object:root=true
type GuardrailList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Guardrail `json:"items"`
}
