// Package v1alpha1 holds the kinds that Sallyport's gateway serves: Cluster, a member
// of the fleet as the person who asks may reach it. Nothing is stored: each list is
// made, for one person, of the grants that are active at that instant.
//
// Beneath a Cluster, at clusters/NAME/proxy/PATH, is the member's own API.
//
// +kubebuilder:object:generate=true
// +groupName=proxy.sallyport.dev
package v1alpha1
