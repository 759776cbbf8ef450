// Package guardrailbundle brings bundles of guardrails into force. It looks at the
// source of each GuardrailBundle, and accepts what it finds there as a whole or not
// at all: as it is pinned, as it is signed, in the order of its revisions, and only
// if every guardrail in it compiles. What is refused, late or gone leaves the last
// good bundle in force.
//
// What is in force is what the status names by its digest. The archive is in a
// ConfigMap of Sallyport's own namespace that is named after the bundle and the
// digest and never changed. The archive is written first and the status second, in
// one write: whoever is stopped in between has changed nothing, and whoever reads
// the status finds the archive. Archives that no status names any more are deleted
// some time later, for those who still act on the status before.
//
// So everything that has to survive a restart is in the API server: the bundle
// itself, and with it the revision that none may be older than.
package guardrailbundle
