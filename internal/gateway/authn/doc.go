// Package authn tells who comes to the gateway:
//
//   - people whom the hub's aggregation layer brings, by its request headers. These count
//     only on a connection with a certificate of the requestheader CA, for a name that
//     ConfigMap kube-system/extension-apiserver-authentication allows;
//   - people who come directly, with a client certificate of the hub's client CA or of one
//     from a file;
//   - with a token of an issuer that a Kubernetes AuthenticationConfiguration names;
//   - with any other token that the hub's TokenReview knows, which is kept for ten
//     seconds at most.
//
// Nobody is anonymous. Who has no name, or a group without one, is nobody (S6).
package authn
