package effective

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Index of who may do what. It is immutable and safe for use by any number of
// goroutines. A nil Index denies everything.
type Index struct {
	number   uint64
	policy   *guardrail.Set
	digest   string // of policy
	fleet    *fleet.Fleet
	clusters []*guardrail.Cluster // by index into the fleet
	held     *table
	next     time.Time
}

// Number of the snapshot: each Index of a Builder has a higher one.
func (ix *Index) Number() uint64 { return ix.number }

// Policy is the guardrails in force; nil of a nil Index.
func (ix *Index) Policy() *guardrail.Set {
	if ix == nil {
		return nil
	}
	return ix.policy
}

// Fleet that the index knows.
func (ix *Index) Fleet() *fleet.Fleet { return ix.fleet }

// Next is the earliest instant at which time alone makes another index of the same
// objects; zero for never. Grants that end are exact without it: each decision looks
// at the instant of its request.
func (ix *Index) Next() time.Time { return ix.next }
