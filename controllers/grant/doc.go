// Package grant reconciles AccessGrants: it reads what is committed, what the
// fleet is and what already stands, compiles the whole of it, writes the
// difference and says in every grant's status how far it has come.
//
// One request reconciles everything. Objects on hub and members are merged from
// many grants, so that a grant alone cannot be decided; and the compiler reuses
// whatever a change does not reach, so that doing all of it costs little more.
//
// Nothing is remembered that matters: what stands is read from labels on the hub
// in every pass, and what a member has yet to confirm is written down in the same
// write that takes it away. The controller can be killed between any two writes.
//
//	observe.go     reads
//	decide.go      compiles and compares, without I/O
//	commit.go      writes: finalizers, then the hub, then the members
//	report.go      patches each status once, and lets go of what is revoked
//	status.go      what a status says, pure
package grant
