// Package source is the built-in Git sync, for those who run neither Flux nor
// Argo CD: it keeps the hub's grants equal to a folder of a branch.
//
// One pass is fetch → build → dry-run → apply → prune → record. Remote fetches,
// Build turns a commit into objects, plan compares them with the inventory and
// the cluster without I/O, Syncer does what the plan says and records it.
//
// # What a committer can and cannot do
//
// The sync applies with the controller's rights, so a commit must not lend them
// out. Only the kinds in Kinds are applied, only their name, namespace, labels,
// annotations and spec. Nothing outside the commit is ever read: a commit is an
// fs.FS over its Git tree, and kustomize runs on an in-memory file system that
// holds exactly the files that were checked, under kustomizations that were
// parsed, checked and written again, so that what was checked is what runs.
// Remote bases, plugins, helm and generators are refused. Sizes are bounded, so
// that a commit cannot exhaust the controller. Dot files and dot folders in a
// plain folder are not read.
//
// # What is changed
//
// A commit that does not build, or that the API server refuses in a dry run of
// all its objects, changes nothing. Objects in a namespace that the commit itself
// brings cannot be tried before it exists: for them the namespace is created
// first, and is all that remains if they are refused.
//
// Guardrails, bundles and exceptions are applied before grants, so that a grant is
// judged by what came with it. A commit with both, of which a grant is refused all the
// same, leaves the guardrails in force and the grants as they were.
//
// Namespaces are created when they are missing, and never changed or deleted:
// deleting one would delete all that is in it.
//
// A missing path is an error, because a typing error must not revoke everybody's
// access; Git keeps no empty folders, so whoever wants to remove the last grant
// leaves a .gitkeep behind, or sets AllowEmpty. A folder that is there and holds
// no objects prunes.
//
// What Git says is put right again at each interval. Extra elements in a spec,
// such as a subject added by kubectl, are removed: before applying, ownership of
// the spec is taken from other field managers. Drift is found by comparing each
// object's UID, generation, labels and annotations with the inventory, one
// metadata list per kind, so that a pass without changes writes nothing. While
// Git cannot be reached, the last commit is upheld.
//
// # Inventory and crashes
//
// The inventory lives in one ConfigMap with the rest of the state, one line of
// JSON per object. Beyond 700 KB it is compressed into binaryData; compression
// was preferred to shards because one object is written atomically, and it holds
// some ten thousand objects. More than that is refused.
//
// It is written before anything is applied, as the union of old and new, and
// shrunk after pruning, so that a crash between any two writes leaves no object
// behind that no inventory lists. Pruned is only what the inventory lists and
// what carries the sync's label and annotation, by UID. Objects that carry them
// and are not listed, because somebody deleted the ConfigMap, are reported.
//
// # Provenance
//
// Each object is annotated with the revision and author of the commit that last
// changed its own content, by hash, so that an unrelated commit rewrites nothing.
// Only the tip of the branch is fetched: when several commits arrive between two
// passes, the change is attributed to the last of them.
package source
