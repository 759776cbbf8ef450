// Package gateway is the aggregated API server through which people reach members:
// proxy.sallyport.dev/v1alpha1, with clusters, and clusters/NAME/proxy/PATH beneath them.
//
// It is k8s.io/apiserver without a store. A request is authenticated (package authn); one
// to a member goes to the proxy, which decides on it, and past everything else; all others
// are authorized by the hub and answered from the index. See docs/explanation/requests.md.
//
// Replicas share nothing. Each has its own index, routes, sessions and budgets, and is
// ready once it knows the guardrails, the grants, the routes, and whom to believe.
package gateway
