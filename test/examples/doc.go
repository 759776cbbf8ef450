// Package examples tests the repositories to copy in gitops-examples: that they
// build, that a real API server takes what they hold, that sallyport lint has nothing
// to say of them, that guardrails come before what they judge, and that Argo CD would
// tell the health of it all.
package examples
