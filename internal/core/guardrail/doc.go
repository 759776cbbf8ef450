// Package guardrail is the one evaluator of guardrails: what is judged, by which
// guardrails, and what comes of it. CI, admission, compiler and gateway ask it, and
// the same input gives the same answer at each.
//
// It is pure. The input document carries everything that a guardrail may look at,
// the instant included. Engines, which live above this package, make a Check of
// each policy; a Set asks them and collects what they say.
//
// A guardrail can only take away. Whatever goes wrong in one, an error, a panic,
// a deadline, makes the verdict worse and never better: the zero Verdict denies.
package guardrail
