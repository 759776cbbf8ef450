package effective

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Request is one request to a member, as the member would see it.
type Request struct {
	// User as the hub authenticated them. One without a name is refused.
	User guardrail.User
	// Cluster by name.
	Cluster string
	// Verb in lower case, such as get, list, watch, create, deletecollection; for a
	// non-resource request the HTTP method in lower case.
	Verb string
	// ResourceRequest is true for a request to an object or a kind of objects, false
	// for one to another path.
	ResourceRequest bool
	// APIGroup is "" for the core group.
	APIGroup, APIVersion, Resource, Subresource string
	// Namespace on the member; "" where the request is to all or to none.
	Namespace string
	// Name of the object; "" where the request names none.
	Name string
	// Path on the member, without query.
	Path string
	// At is the instant of deciding.
	At time.Time
}
