package compile

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Snapshot is everything that the outcome depends on. Nothing in it is changed,
// and nothing in it may be changed while it is compiled.
type Snapshot struct {
	// Grants that are neither deleted nor being deleted, at most one per name.
	Grants []Grant
	// Roles are the AccessRoles, by name.
	Roles map[string]*v1alpha1.AccessRoleSpec
	Fleet *fleet.Fleet
	// Placements maps each Placement that has decided to its clusters: an empty
	// list, not nil, where it decided on none.
	Placements map[types.NamespacedName][]string
	// Now decides which grants are within their validity.
	Now time.Time
	// Guardrails judge each grant by itself, on what it compiles to, as they do at
	// Point. Nil ones let nothing widen: whoever has none says so with an empty Set.
	Guardrails *guardrail.Set
	Point      guardrail.Point
	// Namespaces of the hub, with their labels.
	Namespaces map[string]map[string]string
	// Standing tells what stands of a grant, nil if nothing does; a nil Standing is
	// nothing of any. It is asked of grants that cannot be judged.
	Standing func(grant string) *Standing
}

// Grant is one AccessGrant as the compiler reads it.
type Grant struct {
	Namespace, Name string
	Spec            *v1alpha1.AccessGrantSpec
	// Labels and Annotations of the grant, for guardrails. What tools note in them
	// for themselves is left out.
	Labels, Annotations map[string]string
	// Origin is Source in parts, for guardrails; nil if unknown.
	Origin *guardrail.Source
	// Source names what applied the grant and the commit; empty if unknown.
	Source string
	// Held is set for a suspended grant: Spec is then the one that was applied
	// last, and HeldOn the clusters on which it stands, instead of those that it
	// selects today. Of one that stands nowhere, Spec is what is judged, and it gives
	// nothing.
	Held   bool
	HeldOn []string
}

// Key is namespace/name.
func (g *Grant) Key() string { return g.Namespace + "/" + g.Name }

// Output is what hub and members should hold.
type Output struct {
	// Hub holds a ClusterRole and a ClusterRoleBinding per subject, sorted.
	Hub []*Object
	// Members with at least one work, sorted by name.
	Members []Member
	// Results of the grants, sorted by key.
	Results []Result
	// Next is the earliest instant at which time alone changes the outcome; zero
	// if it never does.
	Next time.Time
}

// Member is what one cluster should hold.
type Member struct {
	Name string
	// Works in order of name, none empty, each below the size limit.
	Works []*Work
}

// Work is a shard of a member's objects that is delivered as a whole. It is
// immutable and may be shared by members and by successive outputs.
type Work struct {
	Name string
	// Objects in the order in which to apply them: roles before bindings.
	Objects []*Object
	// Grants behind the objects, sorted keys.
	Grants []string
	// Sources of these grants, sorted.
	Sources []string
}

// Phase of a grant in time. The zero Phase gives nothing.
type Phase uint8

// The phases.
const (
	Expired Phase = iota
	NotYetActive
	Active
)

// Result is what became of one grant.
type Result struct {
	Grant string
	Phase Phase
	// Clusters that hold, or are to hold, something of the grant: sorted, empty
	// outside its validity.
	Clusters []string
	// Rejections are the parts that give nothing, and why: sorted.
	Rejections []Rejection
	// Judgement of the guardrails. A grant that is Denied gives nothing; of one that
	// is Undecided only what stood already is left. An expired grant is not judged,
	// and is Allowed.
	Judgement guardrail.Judgement
}

// Rejection is a part of a grant that gives nothing.
type Rejection struct {
	// Cluster that it is about; empty for the grant as a whole.
	Cluster string
	// Reason is one of the Failure constants of the API.
	Reason  string
	Message string
}

func compareRejections(a, b Rejection) int {
	return strings.Compare(a.Cluster+"\x00"+a.Reason+"\x00"+a.Message, b.Cluster+"\x00"+b.Reason+"\x00"+b.Message)
}

// Grants compiles a snapshot.
func Grants(s Snapshot) Output {
	var c Compiler
	return c.Grants(s)
}

// Judge is the Results of Grants, for who wants no objects: what guardrails make of
// each grant, and on which clusters it gives something.
func Judge(s Snapshot) []Result {
	var c Compiler
	c.follow(&s)
	seen := make(map[string]bool, len(s.Grants))
	out := make([]Result, 0, len(s.Grants))
	for i := range s.Grants {
		if key := s.Grants[i].Key(); !seen[key] {
			seen[key] = true
			out = append(out, c.renew(nil, &s.Grants[i], &s).outcome())
		}
	}
	slices.SortFunc(out, func(a, b Result) int { return strings.Compare(a.Grant, b.Grant) })
	return out
}

// Result of the grant with that key, and whether there is one.
func (o *Output) Result(key string) (Result, bool) {
	i, ok := slices.BinarySearchFunc(o.Results, key, func(r Result, k string) int { return strings.Compare(r.Grant, k) })
	if !ok {
		return Result{}, false
	}
	return o.Results[i], true
}
