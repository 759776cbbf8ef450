// Package authz answers kube-apiservers, of the hub and of members, by their webhook for
// authorization: a SubjectAccessReview in, and out comes that a guardrail refuses it, or
// no opinion, on which the API server goes on to its RBAC. With AllowFromGrants it also
// answers that a grant gives it.
//
// It decides as the gateway does, by the same function on the same index. What it decided
// it remembers for as long as it would decide the same again, and no longer. What it cannot answer it does not guess: whoever asks before guardrails and
// grants are known, or what cannot be read, gets an HTTP error, and the API server does
// what its failurePolicy says. No error is an Allow.
//
// A member asks at /authorize/NAME. The query ?cluster=NAME means the same, and is for
// people with curl: API servers lose the query of a webhook's URL. Without a name it is
// the hub that asks, about requests to itself. Guardrails are about requests to members;
// the hub's are judged where it is a member of its own fleet (Hub). What its RBAC says
// about clusters/proxy because of grants, AllowFromGrants says as well, so that the
// roles which are made for that are not needed.
package authz
