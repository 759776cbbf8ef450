package v1alpha1

import (
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// AccessGrantKind is the kind of AccessGrant as it appears in YAML.
const AccessGrantKind = "AccessGrant"

// AccessGrantFinalizer keeps a deleted grant in sight until every member has
// confirmed that what the grant gave is gone.
const AccessGrantFinalizer = "access.sallyport.dev/revocation"

// AccessGrantSpec says who may do what, on which clusters and namespaces, until
// when, and why.
type AccessGrantSpec struct {
	// Reason says why this access is given, for the people who review it: a
	// ticket, a duty, a name. It is shown by "who can" and in reports.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="size(self.trim()) > 0",message="must say why the access is given"
	Reason string `json:"reason"`

	// Subjects are the users, groups and service accounts that are given the
	// access, by the name under which the hub authenticates them.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b == a))",message="must not repeat a subject"
	Subjects []Subject `json:"subjects"`

	// Clusters selects the members of the fleet. What is given is united: a
	// cluster that any of names, selector and placementRef matches is selected.
	// +required
	Clusters ClusterSelection `json:"clusters"`

	// Access lists what is given on each selected cluster. All of it together, the
	// rules of AccessRoles included, may be at most 4096 verbs, groups, resources,
	// names and namespaces: more cannot be judged, and is refused.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b == a))",message="must not repeat an entry"
	Access []AccessEntry `json:"access"`

	// Validity bounds the access in time. Absent, the access holds from when it
	// is applied until it is removed.
	// +optional
	Validity *Validity `json:"validity,omitempty"`

	// Suspend stops the reconciliation of this grant: what stands is kept as it
	// is, later changes wait. It does not revoke, with one exception: a validity
	// that ends while the grant is suspended still ends the access.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// SubjectKind is the kind of a subject, as in rbac.authorization.k8s.io/v1.
// +kubebuilder:validation:Enum=User;Group;ServiceAccount
type SubjectKind string

// The kinds of subjects.
const (
	UserSubject           SubjectKind = "User"
	GroupSubject          SubjectKind = "Group"
	ServiceAccountSubject SubjectKind = "ServiceAccount"
)

// Subject is a user, group or service account as the hub authenticates it.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="self.kind != 'ServiceAccount' || (has(self.__namespace__) && size(self.__namespace__) > 0)",message="a ServiceAccount needs its namespace",fieldPath=".namespace",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' || !has(self.__namespace__)",message="only a ServiceAccount has a namespace",fieldPath=".namespace",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!(self.name in ['system:masters', 'system:nodes'])",message="system:masters and system:nodes are never granted",fieldPath=".name",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="self.kind != 'User' || !self.name.startsWith('system:serviceaccount:')",message="name a service account with kind ServiceAccount, its namespace and its name",fieldPath=".name"
// +kubebuilder:validation:XValidation:rule="self.kind != 'User' || !self.name.startsWith('system:') || self.name.startsWith('system:serviceaccount:')",message="users whose names begin with system: are parts of Kubernetes, and a member would take one of the hub for its own",fieldPath=".name",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="self.kind != 'ServiceAccount' || !has(self.__namespace__) || !self.__namespace__.startsWith('kube-')",message="service accounts of kube-* namespaces are parts of Kubernetes, and a member would take one of the hub for its own",fieldPath=".namespace",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' || !self.name.startsWith('cluster:hub:')",message="the prefix cluster:hub: is how members see identities of the hub; name the subject as the hub knows it",fieldPath=".name"
// +kubebuilder:validation:XValidation:rule="self.kind != 'ServiceAccount' || self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of a ServiceAccount: lower case letters, digits, - and .",fieldPath=".name"
type Subject struct {
	// Kind of the subject.
	// +required
	Kind SubjectKind `json:"kind"`

	// Name of the user, group or service account. It is matched exactly: there
	// are no patterns, and * names nobody.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self != '*'",message="is no pattern: name each user, group or service account"
	// +kubebuilder:validation:XValidation:rule="self.trim() == self",message="must not begin or end with a space"
	Name string `json:"name"`

	// Namespace of the service account on the hub.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
}

// ClusterSelection selects members of the fleet.
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.selector) || has(self.placementRef)",message="must select clusters by names, selector or placementRef"
type ClusterSelection struct {
	// Names of clusters. A name that is not in the fleet is reported in the
	// status and gives nothing; the rest of the grant holds.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Names []ClusterName `json:"names,omitempty"`

	// Selector matches clusters by the labels that the inventory gives them.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="must name at least one label: an empty selector would match every cluster, today's and tomorrow's"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// PlacementRef names an Open Cluster Management Placement in the namespace
	// of the grant, whose decisions are followed.
	// +optional
	PlacementRef *PlacementReference `json:"placementRef,omitempty"`
}

// ClusterName is the name of one member of the fleet.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of one cluster; patterns such as * are refused, use selector to match many"
type ClusterName string

// PlacementReference names a Placement.
type PlacementReference struct {
	// Name of the Placement, cluster.open-cluster-management.io/v1beta1.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// AccessEntry is one role or one list of rules, cluster-wide or in namespaces.
// +kubebuilder:validation:XValidation:rule="has(self.roleRef) != has(self.rules)",message="must have either roleRef or rules"
// +kubebuilder:validation:XValidation:rule="!has(self.roleRef) || self.roleRef.kind != 'Role' || has(self.namespaces)",message="a Role exists in namespaces: name them",fieldPath=".namespaces",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.namespaces) || !has(self.rules) || self.rules.all(r, !has(r.nonResourceURLs))",message="nonResourceURLs are cluster-wide: give them in an entry without namespaces",fieldPath=".rules",reason=FieldValueForbidden
type AccessEntry struct {
	// RoleRef names a role. An AccessRole is delivered with the grant; a
	// ClusterRole or Role is expected to exist on the member and is only bound.
	// +optional
	RoleRef *RoleReference `json:"roleRef,omitempty"`

	// Rules that are given, as in rbac.authorization.k8s.io/v1.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Rules []PolicyRule `json:"rules,omitempty"`

	// Namespaces on the member in which the access holds. Absent, it holds
	// cluster-wide. They are not created.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Namespaces []NamespaceName `json:"namespaces,omitempty"`
}

// NamespaceName is the name of a namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
type NamespaceName string

// RoleKind is the kind of a referenced role.
// +kubebuilder:validation:Enum=AccessRole;ClusterRole;Role
type RoleKind string

// The kinds of roles that a grant can refer to.
const (
	AccessRoleRef  RoleKind = "AccessRole"
	ClusterRoleRef RoleKind = "ClusterRole"
	RoleRef        RoleKind = "Role"
)

// RoleReference names a role.
type RoleReference struct {
	// Kind of the role: an AccessRole of the hub, or a ClusterRole or Role that
	// exists on the member.
	// +required
	Kind RoleKind `json:"kind"`

	// Name of the role.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('sallyport:')",message="names that begin with sallyport: are of roles that Sallyport makes; refer to the AccessRole"
	// +kubebuilder:validation:XValidation:rule="!self.contains('/') && !self.contains('%') && self != '.' && self != '..'",message="must be the name of one role"
	Name string `json:"name"`
}

// PolicyRule has the meaning and the JSON of rbac.authorization.k8s.io/v1
// PolicyRule, with bounds.
// +kubebuilder:validation:XValidation:rule="has(self.resources) != has(self.nonResourceURLs)",message="must have either resources or nonResourceURLs"
// +kubebuilder:validation:XValidation:rule="has(self.resources) == has(self.apiGroups)",message="apiGroups go with resources; the core group is \"\"",fieldPath=".apiGroups"
// +kubebuilder:validation:XValidation:rule="!has(self.resourceNames) || has(self.resources)",message="resourceNames go with resources",fieldPath=".resourceNames"
type PolicyRule struct {
	// Verbs, such as get, list and watch. * means every verb.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Verbs []string `json:"verbs"`

	// APIGroups that hold the resources. "" is the core group, * every group.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	APIGroups []string `json:"apiGroups,omitempty"`

	// Resources, such as pods or pods/log. A subresource is never implied by its
	// resource.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Resources []string `json:"resources,omitempty"`

	// ResourceNames narrows the rule to objects of these names.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	ResourceNames []string `json:"resourceNames,omitempty"`

	// NonResourceURLs are paths such as /healthz, or /metrics/* with the star as
	// the last step. They are cluster-wide.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	NonResourceURLs []string `json:"nonResourceURLs,omitempty"`
}

// Validity bounds access in time. At notBefore the access begins; at notAfter it
// has ended.
// +kubebuilder:validation:XValidation:rule="!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter",message="must be later than notBefore",fieldPath=".notAfter"
// +kubebuilder:validation:XValidation:rule="has(self.notBefore) || has(self.notAfter)",message="must have notBefore or notAfter"
type Validity struct {
	// NotBefore is the instant at which the access begins.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`

	// NotAfter is the instant at which the access has ended.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// AccessGrantStatus is what the controller observed of a grant.
type AccessGrantStatus struct {
	// ObservedGeneration is the generation that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, Active, Compliant, and while they hold Reconciling and
	// Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Source is the Git commit that brought this generation of the grant, and
	// who applied it.
	// +optional
	Source *GrantSource `json:"source,omitempty"`

	// Clusters counts the clusters by how far the grant has come there.
	// +optional
	Clusters *ClusterCounts `json:"clusters,omitempty"`

	// Failures lists what does not hold and why: by cluster, or for the whole
	// grant where no cluster is named. It is cut at 50; the counts are not.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Failures []GrantFailure `json:"failures,omitempty"`

	// Violations lists what guardrails object to, the refusals first. It is cut at
	// 50.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	Violations []GrantViolation `json:"violations,omitempty"`

	// AppliedRoles are the AccessRoles that were used when Applied was, by the
	// digest of their rules. While a guardrail cannot be evaluated, a role that has
	// changed since is not given.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	AppliedRoles []AppliedRole `json:"appliedRoles,omitempty"`

	// Applied is the spec that the controller last acted on. A suspended grant
	// holds it, whatever its spec has become since.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Applied *runtime.RawExtension `json:"applied,omitempty"`

	meta.ReconcileRequestStatus `json:",inline"`
}

// GrantSource says where a grant came from.
type GrantSource struct {
	// Kind of what applied the grant: Kustomization, HelmRelease, Application or
	// GitSync, the last being Sallyport's own.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// Namespace of what applied the grant.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// Name of what applied the grant.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Revision is the commit that brought this generation of the grant, in the
	// form that the source uses, such as main@sha1:4f2c….
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Revision string `json:"revision,omitempty"`

	// Author of that commit, where the source tells it.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Author string `json:"author,omitempty"`

	// Generation of the grant that the revision brought.
	// +optional
	Generation int64 `json:"generation,omitempty"`
}

// ClusterCounts counts clusters. A cluster can be counted under several.
type ClusterCounts struct {
	// Matched is how many clusters the grant selects.
	// +required
	Matched int32 `json:"matched"`
	// Applied is how many of these have confirmed the access.
	// +required
	Applied int32 `json:"applied"`
	// Failed is how many report a failure.
	// +required
	Failed int32 `json:"failed"`
	// Revoking is how many may still give access that the grant no longer says.
	// +required
	Revoking int32 `json:"revoking"`
}

// GrantFailure is one thing that does not hold.
type GrantFailure struct {
	// Cluster on which it does not hold; empty for the whole grant.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Cluster string `json:"cluster,omitempty"`
	// Reason in CamelCase.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason"`
	// Message for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// GrantViolation is what one guardrail objects to.
type GrantViolation struct {
	// Guardrail that objects; for one of a bundle, BUNDLE/NAME.
	// +required
	// +kubebuilder:validation:MaxLength=507
	Guardrail string `json:"guardrail"`
	// Message of the guardrail.
	// +required
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
	// Field of the grant that it is about.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Field string `json:"field,omitempty"`
	// Enforcement of the guardrail.
	// +required
	Enforcement Enforcement `json:"enforcement"`
	// Exception that excuses it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Exception string `json:"exception,omitempty"`
}

// AppliedRole is an AccessRole as it was used.
type AppliedRole struct {
	// Name of the AccessRole.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Digest of its rules.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Digest string `json:"digest"`
}

// AccessGrant gives subjects access to clusters of the fleet. Its namespace is
// the boundary of tenancy: who may write AccessGrants there may give access, as
// far as the guardrails let them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ag;grant,categories=sallyport
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.conditions[?(@.type=="Active")].reason`
// +kubebuilder:printcolumn:name="Compliant",type=string,JSONPath=`.status.conditions[?(@.type=="Compliant")].reason`
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters.matched`
// +kubebuilder:printcolumn:name="Applied",type=integer,JSONPath=`.status.clusters.applied`
// +kubebuilder:printcolumn:name="Until",type=string,JSONPath=`.spec.validity.notAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.source.revision`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.spec.reason`,priority=1
type AccessGrant struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says who may do what, where, until when, and why.
	// +required
	Spec AccessGrantSpec `json:"spec"`

	// Status is written by the controller. Until then its observedGeneration is -1,
	// without which kstatus, and so Flux, would take a grant that nobody has looked
	// at for one that is ready.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status AccessGrantStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions, as fluxcd/pkg/runtime wants them.
func (g *AccessGrant) GetConditions() []metav1.Condition { return g.Status.Conditions }

// SetConditions replaces the conditions.
func (g *AccessGrant) SetConditions(c []metav1.Condition) { g.Status.Conditions = c }

// AccessGrantList is a list of grants.
//
// +kubebuilder:object:root=true
type AccessGrantList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AccessGrant `json:"items"`
}
