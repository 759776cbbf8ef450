// Package authorizer plays the authorization webhook with real kube-apiservers: a hub that
// grants and guardrails are read from, and a member whose API server asks about what
// people do there.
package authorizer
