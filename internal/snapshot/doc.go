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
//
// An Access keeps what follows from guardrails, grants, roles and fleet: the index that
// requests are decided by, one on each replica of gateway and authorizer. NewManager is
// how these two set it up. What it and the controller read in the same way is here as
// well: Specs, Fleet, and where a grant came from.
package snapshot
