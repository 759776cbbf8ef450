// Package compile turns one snapshot of grants, roles and fleet into the objects
// that hub and members should hold.
//
// It is pure: no I/O, no clock, no randomness. What it returns is sorted, does
// not depend on the order of its input, and shares no memory with what the
// caller may change.
//
// Three ideas shape it:
//
//   - Objects are merged. One binding per role and scope on a member, one role
//     per subject on the hub, however many grants ask for the same: Kubernetes
//     scans every binding on every request.
//   - Works are shards of a trie over a stable hash of role and scope. A role and
//     its bindings hash together, and a shard carries the impersonation rights
//     that its own bindings need, so that one entry of a grant lives in one work.
//   - A Compiler remembers the last snapshot and compiles only what a change can
//     reach. What it returns is what Grants would return.
package compile
