// Package identity gets the gateway an identity on each member: an address, the CA
// that the member's certificate is verified by, and a token of the one service
// account there that may impersonate people, and nothing else.
//
// There are three issuers of such tokens, and the inventory says which of them a
// member has:
//   - the member itself, asked with the kubeconfig by which it is delivered to;
//   - Open Cluster Management's managed-serviceaccount add-on;
//   - Karmada, which has a token of its own impersonator in a Secret.
//
// What the controller delivers with, kubeconfigs above all, stays with the
// controller: a Route has the impersonator's token only. No error quotes a
// credential, nor what a member answers, which might repeat one.
package identity
