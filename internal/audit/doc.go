// Package audit tells what guardrails make of everything that stands: as policy
// reports, which tools such as policy-reporter read, and as metrics.
//
// The pure half, Reports, makes of one Audit the reports that there should be. The
// other half, Auditor, keeps those on the hub so. A report says what is, not what
// was: it has no history, and what is the same is not written again.
//
// Reports are shards of a trie of the grants of a namespace, as works are of what a
// member holds: where the results of a grant go depends on the grants that share
// the beginning of its hash, so that one grant's change rewrites one report. A
// report keeps only what it is made of, and is rendered when it is written.
//
// Of what stands, only metadata is held in memory. The price is that a new leader
// reads each report once.
package audit
