package decisionlog

import "time"

// Version of the form of an Entry. Fields are added to it; a change of what one means
// makes another.
const Version = "v1alpha1"

// What Entry.Server may be.
const (
	Gateway    = "gateway"
	Authorizer = "authorizer"
)

// What Entry.Event may be, and Dropped.Event is.
const (
	EventRequest = "request"
	EventSession = "session"
	EventDropped = "dropped"
)

// What Entry.Verdict may be.
const (
	Allow     = "allow"
	Deny      = "deny"
	NoOpinion = "no-opinion"
)

// What Entry.Layer may be.
const (
	LayerIdentity  = "identity"
	LayerLimit     = "limit"
	LayerRequest   = "request"
	LayerGuardrail = "guardrail"
	LayerGrant     = "grant"
	LayerHub       = "hub"
	LayerMember    = "member"
)

// Entry is one decision. docs/reference/decision-log.md is made from these comments.
type Entry struct {
	// Version of the form of the entry: v1alpha1.
	Version string `json:"version"`
	// Time of the decision, in UTC.
	Time time.Time `json:"time"`
	// ID of the request, by which the answer to the client names it too.
	ID string `json:"id"`
	// Server that decided: gateway or authorizer.
	Server string `json:"server"`
	// Event is request for the decision on a new request, and session where one that
	// was open has been judged again and is cut.
	Event string `json:"event"`
	// User who asked.
	User User `json:"user"`
	// Request that was decided on.
	Request Request `json:"request"`
	// Verdict is allow, deny or no-opinion.
	Verdict string `json:"verdict"`
	// Layer that decided: identity, limit, request, guardrail, grant, hub or member; none
	// where it is allowed.
	Layer string `json:"layer,omitempty"`
	// Reasons of guardrails, those that only warn or audit and those that are excused
	// included.
	Reasons []Reason `json:"reasons,omitempty"`
	// Grants that give what was asked for.
	Grants []Grant `json:"grants,omitempty"`
	// Snapshot is the number of the index that decided, in that replica.
	Snapshot uint64 `json:"snapshot"`
	// PolicyDigest is the digest of the guardrails in force.
	PolicyDigest string `json:"policyDigest,omitempty"`
	// LatencyMicros is how long deciding took, in microseconds, without the member.
	LatencyMicros int64 `json:"latencyMicros"`
	// Status is the HTTP status of the answer where it was known when the entry was
	// written.
	Status int `json:"status,omitempty"`
	// Truncated is true where the entry would have had more than a MiB: then no text in
	// it has more than 256 bytes, and no list more than 32 elements.
	Truncated bool `json:"truncated,omitempty"`
}

// Dropped is a hole in the log: so many entries did not get into it, at about this
// place.
type Dropped struct {
	// Version of the form of the entry: v1alpha1.
	Version string `json:"version"`
	// Time at which it was written, in UTC.
	Time time.Time `json:"time"`
	// Event is dropped.
	Event string `json:"event"`
	// Count of entries that were dropped since the line of this kind before it.
	Count uint64 `json:"count"`
	// Reasons are the counts by reason.
	Reasons map[string]uint64 `json:"reasons"`
}

// User is an identity.
type User struct {
	// Name of the user.
	Name string `json:"name"`
	// UID of the user.
	UID string `json:"uid,omitempty"`
	// Groups of the user.
	Groups []string `json:"groups,omitempty"`
	// Extra attributes of the user, as the hub's authentication gives them, such as
	// authentication.kubernetes.io/credential-id: that names a credential, and is none.
	// The gateway writes values of those that members are told, and of others the keys
	// only. The authorizer writes all, as Kubernetes' own audit log does.
	Extra map[string][]string `json:"extra,omitempty"`
}

// Request is what was asked for, as the member would see it.
type Request struct {
	// Cluster by name.
	Cluster string `json:"cluster"`
	// Verb in lower case.
	Verb string `json:"verb"`
	// APIGroup of the resource.
	APIGroup string `json:"apiGroup,omitempty"`
	// APIVersion of the resource.
	APIVersion string `json:"apiVersion,omitempty"`
	// Resource such as pods; empty for a request to another path.
	Resource string `json:"resource,omitempty"`
	// Subresource such as exec.
	Subresource string `json:"subresource,omitempty"`
	// Namespace on the member.
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	Name string `json:"name,omitempty"`
	// Path on the member, without query.
	Path string `json:"path,omitempty"`
	// Method of HTTP, where the gateway was asked.
	Method string `json:"method,omitempty"`
	// RemoteAddr of the connection, where the gateway was asked.
	RemoteAddr string `json:"remoteAddr,omitempty"`
}

// Reason is what one guardrail has to say.
type Reason struct {
	// Guardrail by name; BUNDLE/NAME for one of a bundle.
	Guardrail string `json:"guardrail"`
	// Enforcement is Deny, Warn or Audit.
	Enforcement string `json:"enforcement"`
	// Message for the person.
	Message string `json:"message"`
	// Failed is true where the guardrail could not be evaluated.
	Failed bool `json:"failed,omitempty"`
	// Detail says why it could not be evaluated. It may quote the guardrail; the client is
	// not told.
	Detail string `json:"detail,omitempty"`
	// Exception that excuses it.
	Exception string `json:"exception,omitempty"`
}

// Grant is one that gives what was asked for.
type Grant struct {
	// Namespace of the grant on the hub.
	Namespace string `json:"namespace"`
	// Name of the grant.
	Name string `json:"name"`
	// Role by which it gives it, such as "AccessRole pod-reader".
	Role string `json:"role,omitempty"`
	// Rule is the index of the rule in the role; -1 where only the member knows it.
	Rule int `json:"rule"`
	// Revision is the commit that the grant came from.
	Revision string `json:"revision,omitempty"`
}

// Logger takes entries. Log does not wait, and keeps the entry: it is not to be changed.
type Logger interface {
	Log(e *Entry)
}
