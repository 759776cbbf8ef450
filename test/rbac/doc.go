// Package rbac holds tests that ask Kubernetes' own RBAC authorizer, and its own
// impersonation filter, what the compiled objects allow: exactly what the grants
// say, neither more nor less.
//
// It is a module of its own, since it needs k8s.io/kubernetes, which nothing else
// here should depend on.
package rbac
