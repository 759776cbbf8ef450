// Package authz serves decisions to kube-apiservers, as an authorization webhook
// (SubjectAccessReview v1 and v1beta1): the same decisions that the gateway takes, for
// requests that do not come through it.
//
// It denies what a guardrail is against, with a reason, and has no opinion on the rest,
// which the API server's next authorizer, RBAC, decides. With AllowFromGrants it also
// allows what a grant gives. Where nothing is known yet it answers 503, and the API
// server does what its failure policy says.
package authz
