package v1alpha1

// Conditions of an AccessGrant. Ready, Reconciling and Stalled mean what kstatus
// says, so that Flux, Argo CD and "kubectl wait" understand a grant.
const (
	// ConditionReady is always present. True: this generation of the grant is
	// exactly what the hub and every selected member hold, or, for a grant that
	// is outside its validity, nothing of it is held anywhere. False: it is not,
	// and the reason says why. Unknown is not used.
	ConditionReady = "Ready"

	// ConditionReconciling is present, and True, only while the controller is
	// working towards Ready and expects to get there without anyone's help. It
	// is never False: it is removed.
	ConditionReconciling = "Reconciling"

	// ConditionStalled is present, and True, only while the grant cannot become
	// Ready until somebody changes something: the grant, a role, the fleet. It is
	// never False: it is removed.
	ConditionStalled = "Stalled"

	// ConditionActive is always present. True: the grant is within its validity
	// and gives access wherever Ready or the failures do not say otherwise.
	// False: it gives none, and the reason says whether it has yet to begin, has
	// ended, or has ended but lingers on a member that has not confirmed it.
	ConditionActive = "Active"

	// ConditionCompliant is present while the grant is judged: until it has
	// expired. True: no guardrail objects, but for those that only warn or audit.
	// False: a guardrail refuses the grant. Unknown: a guardrail that may have
	// refused it could not be evaluated.
	ConditionCompliant = "Compliant"
)

// Reasons of Compliant, of which the last two are also reasons of Ready.
const (
	// ReasonCompliant: no guardrail objects.
	ReasonCompliant = "Compliant"
	// ReasonExcused: what guardrails object to is excused by exceptions.
	ReasonExcused = "Excused"
	// ReasonRefused: a guardrail refuses the grant, which gives nothing.
	ReasonRefused = "Refused"
	// ReasonEvaluationFailed: a guardrail could not be evaluated. What stands
	// stays, and does not widen.
	ReasonEvaluationFailed = "EvaluationFailed"
)

// Reasons of the conditions of guardrails, bundles and exceptions.
const (
	// ReasonInForce: the guardrail is asked (Ready), or the bundle is the one that
	// is in force (Ready), or the exception is honoured (Active).
	ReasonInForce = "InForce"
	// ReasonInvalid: the policy does not compile, or the bundle is no bundle of
	// guardrails (Ready, Stalled).
	ReasonInvalid = "Invalid"
	// ReasonFetchFailed: the source of the bundle cannot be read (Ready).
	ReasonFetchFailed = "FetchFailed"
	// ReasonVerificationFailed: digest or signature are not what they have to be
	// (Ready).
	ReasonVerificationFailed = "VerificationFailed"
	// ReasonRollback: the bundle is older than the one in force (Ready).
	ReasonRollback = "Rollback"
	// ReasonTooLong: the exception lasts longer than the guardrail allows.
	ReasonTooLong = "TooLong"
	// ReasonForbidden: the guardrail allows no exceptions.
	ReasonForbidden = "Forbidden"
	// ReasonUnknownGuardrail: there is no guardrail of that name.
	ReasonUnknownGuardrail = "UnknownGuardrail"
)

// Reasons of Ready, Reconciling and Stalled.
const (
	// ReasonApplied: every selected member has confirmed the access (Ready).
	ReasonApplied = "Applied"
	// ReasonProgressing: some members have yet to confirm (Ready, Reconciling).
	ReasonProgressing = "Progressing"
	// ReasonNoClusters: nothing in the fleet is selected (Ready, Stalled).
	ReasonNoClusters = "NoClusters"
	// ReasonRejected: parts of the grant cannot be compiled (Ready, Stalled).
	ReasonRejected = "Rejected"
	// ReasonApplyFailed: a write was refused or a member reports a manifest that
	// it cannot apply (Ready).
	ReasonApplyFailed = "ApplyFailed"
	// ReasonSuspended: the grant is suspended; what stands is kept (Ready).
	ReasonSuspended = "Suspended"
)

// Reasons of Active, of which Revoking, Revoked and ResidualAccess are also
// reasons of Ready.
const (
	// ReasonActive: the grant is within its validity (Active is True).
	ReasonActive = "Active"
	// ReasonNotYetActive: notBefore is still to come.
	ReasonNotYetActive = "NotYetActive"
	// ReasonExpired: notAfter has passed and no member holds anything of it.
	ReasonExpired = "Expired"
	// ReasonRevoking: the hub gives no way in any more; members are removing
	// their side.
	ReasonRevoking = "Revoking"
	// ReasonRevoked: every member has confirmed. Seen in events; the object is
	// gone by then.
	ReasonRevoked = "Revoked"
	// ReasonResidualAccess: the hub gives no way in, but the named members have
	// not confirmed, so that whoever reaches them by another way may still have
	// the access.
	ReasonResidualAccess = "ResidualAccess"
)

// Reasons of failures, for parts of a grant that give nothing.
const (
	// FailureUnknownRole: the AccessRole does not exist.
	FailureUnknownRole = "UnknownRole"
	// FailureUnknownCluster: a named cluster is not in the fleet.
	FailureUnknownCluster = "UnknownCluster"
	// FailureUnknownPlacement: the Placement does not exist or has not decided.
	FailureUnknownPlacement = "UnknownPlacement"
	// FailureInvalidSelector: the label selector cannot be read.
	FailureInvalidSelector = "InvalidSelector"
	// FailureInvalidRole: a role cannot be used in this way, for example one with
	// nonResourceURLs in namespaces.
	FailureInvalidRole = "InvalidRole"
	// FailureUnknownRules: what a role of the member allows cannot be known on the
	// hub, and a part of the grant would have to be derived from it.
	FailureUnknownRules = "UnknownRules"
	// FailureForbidden: the entry would grant what is never granted.
	FailureForbidden = "Forbidden"
	// FailureUnreachable: the cluster has not answered.
	FailureUnreachable = "Unreachable"
	// FailureNoDelivery: the cluster is known, but no inventory says how objects
	// get there.
	FailureNoDelivery = "NoDelivery"
	// FailureNotAccepted: the hub has not accepted the cluster.
	FailureNotAccepted = "NotAccepted"
)
