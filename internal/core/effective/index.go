package effective

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Index of who may do what. It is immutable and safe for use by any number of
// goroutines. A nil Index denies everything.
type Index struct {
	number   uint64
	policy   *guardrail.Set
	digest   string // of policy
	fleet    *fleet.Fleet
	clusters []*guardrail.Cluster // by index into the fleet
	held     shards
	next     time.Time
}

// Number of the snapshot: each Index of a Builder has a higher one.
func (ix *Index) Number() uint64 { return ix.number }

// Policy is the guardrails in force.
func (ix *Index) Policy() *guardrail.Set { return ix.policy }

// Fleet that the index knows.
func (ix *Index) Fleet() *fleet.Fleet { return ix.fleet }

// Next is the earliest instant at which time alone makes another index of the same
// objects; zero for never. Grants that end are exact without it: each decision looks
// at the instant of its request.
func (ix *Index) Next() time.Time { return ix.next }

// Reach is a cluster that a user may reach, and by which grants.
type Reach struct {
	Cluster string
	Grants  []*Grant // sorted by key
}

// Query is what WhoCan is asked: which subjects may make such a request. Cluster "" is
// the whole fleet.
type Query struct {
	Cluster                                     string
	Verb                                        string
	ResourceRequest                             bool
	APIGroup, APIVersion, Resource, Subresource string
	Namespace, Name, Path                       string
	At                                          time.Time
}

// Holder is a subject that grants let do what was asked for, on the clusters where the
// decision on it is the same.
type Holder struct {
	Subject  subject.Subject
	Clusters []string // sorted
	Decision Decision
}

// WhoCan lists, sorted by subject, every subject that a grant gives what is asked for,
// with what guardrails make of it. Of a group, they judge a member without a name.
func (ix *Index) WhoCan(q *Query) []Holder { return nil }

// Permission is what a user may do on clusters by one rule, as guardrails have it.
type Permission struct {
	Clusters []string // sorted
	compile.ScopedRole
	Grants []*Grant // sorted by key
}

// CanI lists what grants give a user: on one cluster, or on the whole fleet where
// cluster is "". Each permission is what one role gives in one scope.
func (ix *Index) CanI(u *guardrail.User, cluster string, at time.Time) []Permission { return nil }
