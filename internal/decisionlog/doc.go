// Package decisionlog writes one line of JSON for each decision on a request: who asked
// for what, what came of it, by which layer, grants and guardrails, of which snapshot.
// There is neither a body nor a credential in it: an Entry has no place for one.
//
// Nothing that is decided waits for the log. Each sink has a queue of its own, bounded
// in entries and in bytes, and one goroutine that writes: a sink that is slow or down
// harms no request and no other sink. What does not fit is dropped, counted, and told
// of in the log itself, so that whoever reads it knows that it has a hole, and how large
// it is. Whoever would rather refuse requests than lose a line needs another log.
package decisionlog
