package distribute

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// Parcel is what one carrier carries.
type Parcel struct {
	Cluster string
	Name    string
	// Objects in the order in which to apply them.
	Objects []*compile.Object
	// Grants behind the objects, sorted keys; and their sources.
	Grants, Sources []string
	// Of identifies the content: two parcels with the same address carry the same.
	Of any
}

// Carrier is one way of delivery.
type Carrier interface {
	// Parcels of a member's works.
	Parcels(cluster string, works []*compile.Work) []Parcel
	// Key of the object that carries a parcel.
	Key(Parcel) client.ObjectKey
	// Wrap makes the object that carries a parcel. With a live one it is an update
	// of that: whatever others keep in it stays.
	Wrap(p Parcel, live client.Object) (client.Object, error)
	// Carries reports whether live is an object as Wrap would make it for the
	// parcel.
	Carries(live client.Object, p Parcel) bool
	// Retire lists, emptied of what they give, the objects that live has and the
	// parcel does not, and that have to stay in it for now. Those that are wanted
	// in another parcel for the member are left out. settled: the member has held
	// what is in live for a while.
	Retire(live client.Object, p Parcel, wanted func(id string) bool, settled bool) []*compile.Object
	// Standing is what live tells of the member.
	Standing(live client.Object) Standing
	// Owns reports whether an object with Sallyport's label is one of the carrier's.
	Owns(client.Object) bool
	// Empty makes an object and a list of the carrier's kind.
	Empty() (client.Object, client.ObjectList)
}

// Standing is what is known on the hub of one carrier's effect on a member.
type Standing struct {
	Cluster string
	// Grants that the carrier gives effect to, as labels.
	Grants Labels
	// Residual grants are not in the carrier any more, but the member has not
	// confirmed their removal.
	Residual Labels
	// Confirmed: the member holds exactly what the carrier says.
	Confirmed bool
	// Before: it has not confirmed that, but it has confirmed an earlier content of
	// the same carrier. What did not change since still holds.
	Before bool
	// Deleting: the carrier is being deleted; all its grants are residual.
	Deleting bool
	// Failures that the agent reports.
	Failures []Failure
}

// Failure of one object on a member.
type Failure struct {
	// Grants behind the object.
	Grants Labels
	// Object as kind namespace/name; empty for the carrier as a whole.
	Object  string
	Message string
}

// MayHold reports whether the member may hold something of the grant with that
// label.
func (s *Standing) MayHold(label string) bool { return s.Grants.Has(label) || s.Residual.Has(label) }

// Labels is the set of grant labels on an object. Of an object with more grants
// than labels every grant is a possible owner.
type Labels struct {
	set  sets.Set[string]
	more bool
}

// LabelsOf reads the grant labels of an object.
func LabelsOf(labels map[string]string) Labels {
	out := Labels{set: sets.Set[string]{}, more: labels[v1alpha1.MoreGrantsLabel] != ""}
	for l := range labels {
		if strings.HasPrefix(l, v1alpha1.GrantLabelPrefix) {
			out.set.Insert(l)
		}
	}
	return out
}

// Has reports whether the grant with that label is, or may be, among them.
func (l Labels) Has(label string) bool { return l.more || l.set.Has(label) }

// More reports whether there are more grants than labels.
func (l Labels) More() bool { return l.more }

// Each calls f with every label that is known.
func (l Labels) Each(f func(label string)) {
	for label := range l.set {
		f(label)
	}
}

// ResidualAnnotation on a carrier lists, as label suffixes, the grants whose
// removal was not confirmed when the carrier was last written. It is written
// together with the removal, so that it survives whatever is killed; it means
// nothing once the carrier is confirmed.
const ResidualAnnotation = "access.sallyport.dev/residual-grants"

const everyGrant = "*"

// residualAfter is the value of ResidualAnnotation for an update: what the live
// carrier may hold of grants that the parcel does not have.
func residualAfter(live Standing, grants []string) string {
	keep := sets.Set[string]{}
	for _, k := range grants {
		keep.Insert(compile.GrantLabel(k))
	}
	left := sets.Set[string]{}
	collect := func(l Labels) {
		if l.more {
			left.Insert(v1alpha1.GrantLabelPrefix + everyGrant)
		}
		for label := range l.set {
			if !keep.Has(label) {
				left.Insert(label)
			}
		}
	}
	collect(live.Grants)
	if !live.Confirmed {
		collect(live.Residual)
	}
	out := sets.List(left)
	for i := range out {
		out[i] = strings.TrimPrefix(out[i], v1alpha1.GrantLabelPrefix)
	}
	return strings.Join(out, ",")
}

// residualOf reads ResidualAnnotation.
func residualOf(annotations map[string]string) Labels {
	out := Labels{set: sets.Set[string]{}}
	for s := range strings.SplitSeq(annotations[ResidualAnnotation], ",") {
		switch s {
		case "":
		case everyGrant:
			out.more = true
		default:
			out.set.Insert(v1alpha1.GrantLabelPrefix + s)
		}
	}
	return out
}

// describe sets the labels and annotations of a carrier. Labels are exactly
// Sallyport's: others' annotations stay.
func describe(meta metav1.Object, p Parcel, live *Standing, more map[string]string) {
	labels, annotations := compile.MetaFor(p.Grants, p.Sources)
	for k, v := range more {
		labels[k] = v
	}
	if live != nil {
		if r := residualAfter(*live, p.Grants); r != "" {
			annotations[ResidualAnnotation] = r
		}
	}
	merged := map[string]string{}
	for k, v := range meta.GetAnnotations() {
		merged[k] = v
	}
	for _, ours := range []string{v1alpha1.GrantsAnnotation, v1alpha1.SourcesAnnotation, ResidualAnnotation} {
		delete(merged, ours)
	}
	for k, v := range annotations {
		merged[k] = v
	}
	meta.SetLabels(labels)
	meta.SetAnnotations(merged)
}

// described reports whether an object has the labels and annotations that
// describe would give it. The residual of earlier writes does not count.
func described(meta metav1.Object, p Parcel, more map[string]string) bool {
	labels, annotations := compile.MetaFor(p.Grants, p.Sources)
	for k, v := range more {
		labels[k] = v
	}
	have := meta.GetLabels()
	if len(have) != len(labels) {
		return false
	}
	for k, v := range labels {
		if have[k] != v {
			return false
		}
	}
	for _, k := range []string{v1alpha1.GrantsAnnotation, v1alpha1.SourcesAnnotation} {
		if meta.GetAnnotations()[k] != annotations[k] {
			return false
		}
	}
	return true
}

// Ours reports whether Sallyport made the object: nothing else is ever changed or
// deleted.
func Ours(o metav1.Object) bool {
	return o.GetLabels()[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue
}

// parcelPerWork is how carriers divide a member's works that take a work as it is.
func parcelPerWork(cluster string, works []*compile.Work) []Parcel {
	out := make([]Parcel, 0, len(works))
	for _, w := range works {
		out = append(out, Parcel{Cluster: cluster, Name: w.Name, Objects: w.Objects, Grants: w.Grants, Sources: w.Sources, Of: w})
	}
	return out
}

func sortedFailures(f []Failure) []Failure {
	slices.SortFunc(f, func(a, b Failure) int { return strings.Compare(a.Object+"\x00"+a.Message, b.Object+"\x00"+b.Message) })
	return f
}
