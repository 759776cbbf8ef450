// Package snapshot gives the guardrails that are in force on a hub, as one immutable
// guardrail.Set: those of Guardrails, those of the bundles that were accepted, and the
// exceptions from both.
//
// It compiles a policy once, for as long as the object that holds it is the same,
// and returns the same Set for as long as nothing has changed, so that callers can
// tell by its address.
//
// Live reads past every cache. Whoever reads a grant first and then the guardrails,
// live, has every guardrail that was there before the grant was: in that order they
// come from one commit, and so a grant never stands for a moment without the
// guardrail that came with it (S26).
package snapshot
