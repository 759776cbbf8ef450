// Package effective answers what people may do on members at this instant: the index
// that requests are decided by, and the lists behind "who can" and "can I".
//
// An Index is one immutable view of grants, roles, fleet and guardrails, with a number.
// It is made by a Builder of a compile.Snapshot, by the functions that also make what
// stands on hub and members, so that it gives nothing that the compiler would not.
// Rules mean what they mean to Kubernetes' RBAC authorizer; test/rbac compares the two
// request by request.
//
// A decision looks up the user, the groups and the service account in a hash, and then
// only at what they themselves were given in the namespace that is asked about. It
// depends on nothing but the Index, the request and the instant in it, and nothing of
// it is kept: there is no cache that could be out of date.
//
// What that costs is memory: each grant is listed with each of its subjects, and where
// a subject has many grants, with each of their clusters, unless these are many too.
// Successive indexes share what a change did not reach. To find what it reached, each
// grant is looked at once, which takes a fifth of a microsecond.
//
// The zero Decision refuses.
package effective
