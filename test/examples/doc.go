// Package examples tests the repositories to copy in gitops-examples: that they
// build, that a real API server takes what they hold, and that Argo CD would tell
// the health of a grant.
package examples
