package guardrail

import (
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// InputVersion is the version of the input document. A change that could change
// the answer of a policy makes another.
const InputVersion = "v1alpha1"

// Input is the document that guardrails judge, in Go. Policies see it as the
// variable input, with the names of the JSON tags; what is empty and has omitempty
// is absent. docs/reference/guardrail-input.md is made from these comments.
//
// A grant is judged with Grant, Namespace, Roles, Access, Clusters and Source, a
// request with Request and Grants. One Input is judged by one goroutine at a time,
// and is not changed once it has been judged.
type Input struct {
	// Version of the document: v1alpha1.
	Version string `json:"version"`
	// Now is the instant of judging, in UTC. There is no other clock.
	Now time.Time `json:"now"`

	// Grant that is judged, as it was committed. Absent where a request is judged.
	Grant *Grant `json:"grant,omitempty"`
	// Namespace of the grant on the hub.
	Namespace *Namespace `json:"namespace,omitempty"`
	// Roles are the AccessRoles that the grant names, by name.
	Roles map[string]*Role `json:"roles,omitempty"`
	// Access is what the grant compiles to on each of the clusters: one entry for
	// each role or list of rules that it gives.
	Access []*Access `json:"access,omitempty"`
	// Clusters that the grant gives access to, sorted by name.
	Clusters []*Cluster `json:"clusters,omitempty"`
	// Source that the grant was applied from, where that is known.
	Source *Source `json:"source,omitempty"`

	// Request that is judged. Absent where a grant is judged.
	Request *RequestInfo `json:"request,omitempty"`
	// Grants that are active and would allow the request, sorted by namespace and
	// name.
	Grants []*GrantInfo `json:"grants,omitempty"`

	memo map[any]any
}

// Grant is an AccessGrant without its status.
type Grant struct {
	// Metadata of the grant.
	Metadata Metadata `json:"metadata"`
	// Spec of the grant, as the reference of the API has it.
	Spec *v1alpha1.AccessGrantSpec `json:"spec"`
}

// Key is namespace/name.
func (g *Grant) Key() string { return g.Metadata.Namespace + "/" + g.Metadata.Name }

// Metadata of a grant.
type Metadata struct {
	// Namespace of the grant.
	Namespace string `json:"namespace"`
	// Name of the grant.
	Name string `json:"name"`
	// Labels of the grant, without those in which tools keep their notes: kubectl,
	// Flux, Argo CD and Sallyport itself.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations of the grant, without the notes of tools likewise.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Namespace is a namespace of the hub.
type Namespace struct {
	// Name of the namespace.
	Name string `json:"name"`
	// Labels of the namespace.
	Labels map[string]string `json:"labels,omitempty"`
}

// Role is an AccessRole.
type Role struct {
	// Description of the role.
	Description string `json:"description,omitempty"`
	// Rules of the role.
	Rules []rbacv1.PolicyRule `json:"rules"`
}

// Access is a role or a list of rules that is given, cluster-wide or in
// namespaces.
type Access struct {
	// Role that is given by reference. Absent for rules in the grant itself.
	Role *RoleRef `json:"role,omitempty"`
	// Field of the grant that gives it, such as spec.access[0].
	Field string `json:"field"`
	// ClusterWide is true where the access holds in every namespace and for what is
	// in none.
	ClusterWide bool `json:"clusterWide"`
	// Namespaces on the member. Empty where the access is cluster-wide.
	Namespaces []string `json:"namespaces"`
	// Known is false for a ClusterRole or Role of the member: what its rules are
	// only the member knows, and Rules is empty.
	Known bool `json:"known"`
	// Rules that are given, each list in them sorted.
	Rules []rbacv1.PolicyRule `json:"rules"`
}

// RoleRef names a role.
type RoleRef struct {
	// Kind of the role: AccessRole, ClusterRole or Role.
	Kind string `json:"kind"`
	// Name of the role.
	Name string `json:"name"`
}

// Cluster is a member of the fleet. It is shared by inputs and not changed.
type Cluster struct {
	// Name of the cluster.
	Name string `json:"name"`
	// Labels that the inventory gives the cluster.
	Labels map[string]string `json:"labels"`
	// Claims that the cluster makes about itself.
	Claims map[string]string `json:"claims"`

	memo sync.Map
}

// Source is where a grant came from. The hub's admission policy takes nothing of
// GitSync from anybody but the sync. The others are read from labels and
// annotations, which whoever may write the grant may set to anything.
type Source struct {
	// Kind of what applied the grant: GitSync, Kustomization, HelmRelease or
	// Application. Whoever may write a grant can make it look as if one of the last
	// three had applied it. Only GitSync can be relied on, and there the spec is that
	// of a commit only where revision is present: who changes it by hand takes that off.
	Kind string `json:"kind"`
	// Namespace of what applied it. To be relied on where kind is GitSync.
	Namespace string `json:"namespace,omitempty"`
	// Name of what applied it. To be relied on where kind is GitSync.
	Name string `json:"name"`
	// Revision is the commit: of GitSync the one that changed the grant, which can be
	// relied on; of the others the one that what is named is at, whether it applied the
	// grant or not.
	Revision string `json:"revision,omitempty"`
	// Author of the commit, where the source tells it.
	Author string `json:"author,omitempty"`
}

// RequestInfo is a request to a member, as the member would see it.
type RequestInfo struct {
	// User who makes the request.
	User User `json:"user"`
	// Cluster that the request goes to.
	Cluster *Cluster `json:"cluster"`
	// Verb in lower case, such as get, list, watch, create, deletecollection.
	Verb string `json:"verb"`
	// ResourceRequest is true for a request to an object or a kind of objects, false
	// for one to another path, such as /healthz.
	ResourceRequest bool `json:"resourceRequest"`
	// APIGroup of the resource; "" is the core group.
	APIGroup string `json:"apiGroup"`
	// APIVersion of the resource.
	APIVersion string `json:"apiVersion"`
	// Resource such as pods, without subresource.
	Resource string `json:"resource"`
	// Subresource such as exec; "" for none.
	Subresource string `json:"subresource"`
	// Namespace on the member; "" where the request is to all or to none.
	Namespace string `json:"namespace"`
	// Name of the object; "" where the request names none.
	Name string `json:"name"`
	// Path on the member, without query.
	Path string `json:"path"`
}

// User is who makes a request, as the hub authenticated them.
type User struct {
	// Name of the user.
	Name string `json:"name"`
	// UID of the user.
	UID string `json:"uid"`
	// Groups of the user.
	Groups []string `json:"groups"`
	// Extra attributes of the user.
	Extra map[string][]string `json:"extra"`
}

// GrantInfo is a grant that would allow a request.
type GrantInfo struct {
	// Namespace of the grant on the hub.
	Namespace string `json:"namespace"`
	// NamespaceLabels are the labels of that namespace.
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	// Name of the grant.
	Name string `json:"name"`
	// Labels of the grant.
	Labels map[string]string `json:"labels,omitempty"`
	// Reason of the grant.
	Reason string `json:"reason"`
	// NotAfter is when the grant ends; absent if it does not.
	NotAfter *time.Time `json:"notAfter,omitempty"`
}

// Memo is what of returned the first time it was asked for that key: engines
// keep here what they make of an input, so that they make it once and not for each
// guardrail. Keys are of an engine's own type.
func (in *Input) Memo(key any, of func() any) any {
	if v, ok := in.memo[key]; ok {
		return v
	}
	if in.memo == nil {
		in.memo = map[any]any{}
	}
	v := of()
	in.memo[key] = v
	return v
}

// Memo is Input.Memo for what is made of a cluster, by any number of goroutines.
func (c *Cluster) Memo(key any, of func() any) any {
	if v, ok := c.memo.Load(key); ok {
		return v
	}
	v, _ := c.memo.LoadOrStore(key, of())
	return v
}
