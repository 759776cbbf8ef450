// Package rights says, in markers for controller-gen, what the gateway may do on the hub
// beside reading what decides (see internal/snapshot), and why. It is bound to
// system:auth-delegator and extension-apiserver-authentication-reader as any aggregated
// API server is, and has no other rights.
//
// It is a package without code, since controller-gen does not read packages that import
// generated definitions of OpenAPI.
package rights

// The routes: how each member is reached, and the token of its impersonator. There is
// nothing else in that namespace but the certificate that the gateway serves with.
// +kubebuilder:rbac:groups="",namespace=sallyport-gateway,resources=secrets,verbs=get;list;watch
