// Package v1alpha1 holds the kinds that people commit: AccessGrant, which says
// who may do what on which clusters until when and why, and AccessRole, a named
// set of rules that grants refer to.
//
// Whatever CEL can say about a bad object is said here, by markers, so that the
// API server itself refuses it and names the field. What needs the fleet or
// another object to decide is a rejection in the status of the grant.
//
// +kubebuilder:object:generate=true
// +groupName=access.sallyport.dev
package v1alpha1
