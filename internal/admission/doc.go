// Package admission asks the guardrails before the hub's API server takes a grant,
// or takes what grants depend on. It is a validating webhook, served by every
// replica of the controller.
//
// It is the friendly guard, not the last one. Whoever is refused learns why while
// they can still change it; what gets past it, because a role changed in the same
// instant or a cache was behind, is judged again when it is compiled. From that
// follow its two rules:
//
//   - To refuse takes fresh knowledge. Guardrails, exceptions and roles come from
//     caches, and what would be refused by them is judged once more by what the API
//     server has now: a commit that brings an exception and then the grant must not
//     fail because a cache has yet to see the exception. To allow takes none: a
//     grant that only a stale cache allows is revoked by the compiler, which does
//     not go by this cache.
//   - What takes access away is never refused. Deletions of grants are not even
//     asked about, and an update that leaves alone all that is judged, such as the
//     removal of a finalizer, passes whatever the guardrails say of the grant.
//
// While the guardrails are not known, or one of them cannot be evaluated, grants
// are refused.
//
// Certificates are made by the Authority and kept in a Secret, of which the server
// hands out the newest pair without a mount or a restart, or they are files of
// somebody else's.
package admission
