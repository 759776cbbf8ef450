// Package served follows which optional kinds the hub serves, and reads those
// that it does.
//
// Sallyport works with whatever a hub has: Open Cluster Management, Karmada,
// Flux, Argo CD, or none of them. A Kinds is told of every kind that could be
// there. It watches CustomResourceDefinitions and APIServices, asks the API
// server again when they change, and keeps a cache per kind only while that kind
// is served. Nothing has to be restarted when one appears, and one that goes
// away leaves no reflector behind that spins on 404.
//
// What it must never do is mistake silence for emptiness: an empty fleet revokes
// everything. So each kind is in one State, and only Absent means that there is
// nothing. Absent needs proof: an API server that answered, no
// CustomResourceDefinition, and no APIService. An API that merely does not answer
// is Stale, and is read as it was last seen; one that was never seen is Unknown,
// and reading it is an error.
//
// Each kind has a cache of its own, so that one that cannot be listed (for lack
// of a right, say) keeps neither the manager nor another kind from starting. The
// price is that a kind should be read here or through the manager's cache, not
// both, or it is held in memory twice.
package served
