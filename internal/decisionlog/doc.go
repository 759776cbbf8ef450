// Package decisionlog writes one line of JSON for each decision on a request: who asked
// for what, what came of it, by which layer, grants and guardrails, of which snapshot.
// There is neither a body nor a credential in it.
//
// Nothing that is decided waits for the log: a queue that is full drops, and counts what
// it drops.
package decisionlog
