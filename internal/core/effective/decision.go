package effective

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Verdict on a request. The zero Verdict denies.
type Verdict uint8

// The verdicts, the worst first.
const (
	// Denied by a guardrail, or because one could not be evaluated.
	Denied Verdict = iota
	// NotGranted: no guardrail is against it, and no active grant gives it.
	NotGranted
	// OnMember: a grant gives a role whose rules only the member knows, and these may
	// allow it. The member's RBAC has the last word, as on every request.
	OnMember
	// Allowed by at least one active grant, and by every guardrail.
	Allowed
)

// String is the verdict in a word.
func (v Verdict) String() string {
	switch v {
	case NotGranted:
		return "NotGranted"
	case OnMember:
		return "OnMember"
	case Allowed:
		return "Allowed"
	}
	return "Denied"
}

// Decision on one request. The zero Decision denies.
type Decision struct {
	Verdict Verdict
	// Reasons of guardrails, those that only warn or audit and those that are excused
	// included: sorted.
	Reasons []guardrail.Reason
	// Because are the grants that give it, sorted by namespace and name, each once,
	// whatever guardrails say. Of what every user of a cluster may do (see
	// rules.Everyone) and no grant says, they are all grants that the user has on it.
	Because []Because
	// Until is the first instant at which time alone may change what this Index decides;
	// zero for never. A caller that keeps a decision asks again then, and where there is
	// another Index.
	Until time.Time
	// Snapshot and Policy tell of which Index, by its number, and of which guardrails,
	// by their digest, the decision is.
	Snapshot uint64
	Policy   string
}

// Because is a grant that gives what was asked for, and by what.
type Because struct {
	Grant *Grant
	// Role is "AccessRole pod-reader", "ClusterRole view", "rules" or "discovery".
	Role string
	// Rule is the index of the rule in the role; -1 where only the member knows it.
	Rule int
}

// Grant is an active grant as decisions tell of it. It is immutable.
type Grant struct {
	guardrail.GrantInfo
	// Source names what applied the grant, Revision the commit; empty if unknown.
	Source, Revision string
}

// Key is namespace/name.
func (g *Grant) Key() string { return g.Namespace + "/" + g.Name }
