// Package proxy sends a person's request to a member, as that person: the handler of
// /apis/proxy.sallyport.dev/v1alpha1/clusters/NAME/proxy/PATH.
//
// A request passes, in this order, its identity, the limits, the parsing of its path, the
// guardrails, the grants, the hub and the route to the member; the first that refuses
// answers with a Status that names the layer. What is judged is what is dialled, byte
// for byte, and who is impersonated is a function of the authenticated user and of
// nothing that the caller sent.
//
// Whatever is under way is known as a session, with what it asked for. When the index
// changes, and at the instant at which a grant ends, sessions are decided again by the
// same function, and cut where the answer is now another (S13).
package proxy
