package served

import (
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Kind is a kind that the hub may serve, and how much of it to hold. No
// discovery is needed to use it, so its resource and scope are stated.
type Kind struct {
	// GVK names the kind in the preferred version.
	GVK schema.GroupVersionKind
	// OtherVersions are read where the preferred one is not served, in this
	// order. Only for an Object without a Go type.
	OtherVersions []string
	// Resource is the plural in paths, as in "managedclusters".
	Resource string
	// Namespaced is the scope.
	Namespaced bool
	// Object says what to read into: a typed object of the scheme, or a
	// *metav1.PartialObjectMetadata. nil reads unstructured.
	Object client.Object
	// Namespaces to read; none means all. Only for a namespaced kind.
	Namespaces []string
	// Labels and Fields choose what is read; nil means everything.
	Labels labels.Selector
	Fields fields.Selector
	// Transform is given each object before it is held. nil drops managed fields.
	Transform toolscache.TransformFunc
}

// validate refuses what can only be a mistake in the program.
func (k Kind) validate(scheme *runtime.Scheme) error {
	switch {
	case k.GVK.Kind == "" || k.GVK.Version == "" || k.Resource == "":
		return errors.New("kind, version and resource are required")
	case len(k.Namespaces) > 0 && !k.Namespaced:
		return errors.New("a cluster-scoped kind has no namespaces")
	case slices.Contains(k.Namespaces, ""):
		return errors.New("a namespace is empty, which would mean all of them")
	}
	switch k.Object.(type) {
	case nil, *unstructured.Unstructured, *metav1.PartialObjectMetadata:
		return nil
	}
	if len(k.OtherVersions) > 0 {
		return errors.New("a Go type is of one version")
	}
	gvk, err := apiutil.GVKForObject(k.Object, scheme)
	if err != nil {
		return err
	}
	if gvk != k.GVK {
		return fmt.Errorf("the object is a %s", gvk)
	}
	return nil
}

// versions in order of preference.
func (k Kind) versions() []schema.GroupVersion {
	gvs := []schema.GroupVersion{k.GVK.GroupVersion()}
	for _, v := range k.OtherVersions {
		gvs = append(gvs, schema.GroupVersion{Group: k.GVK.Group, Version: v})
	}
	return gvs
}

// object is a new one to read into, in that version.
func (k Kind) object(gvk schema.GroupVersionKind) client.Object {
	switch o := k.Object.(type) {
	case nil, *unstructured.Unstructured:
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gvk)
		return u
	case *metav1.PartialObjectMetadata:
		m := &metav1.PartialObjectMetadata{}
		m.SetGroupVersionKind(gvk)
		return m
	default:
		return o.DeepCopyObject().(client.Object)
	}
}

// State of a kind on the hub.
type State uint8

// The states. The zero State claims nothing.
const (
	// Unknown: the hub has not been asked, or its answer proves neither that the
	// kind is served nor that it is not, and there is nothing from before.
	Unknown State = iota
	// Absent: the hub has no such kind. The only state that means "none".
	Absent
	// Listing: served, but not yet listed in full.
	Listing
	// Current: served and held in full.
	Current
	// Stale: held in full as it was last seen. Its API does not answer now.
	Stale
)

// String names the state.
func (s State) String() string {
	switch s {
	case Absent:
		return "Absent"
	case Listing:
		return "Listing"
	case Current:
		return "Current"
	case Stale:
		return "Stale"
	}
	return "Unknown"
}

// Readable reports whether Get and List answer from a full cache.
func (s State) Readable() bool { return s == Current || s == Stale }

// Status of a kind.
type Status struct {
	State State
	// GVK is the kind in the version that is read. Empty where none is.
	GVK schema.GroupVersionKind
	// Message says why the state is Unknown, Listing or Stale.
	Message string
}

var (
	// ErrAbsent is the answer for a kind that the hub does not have.
	ErrAbsent = errors.New("the hub does not serve it")
	// ErrUnknown is the answer for a kind that cannot be read now, though there
	// may well be objects of it.
	ErrUnknown = errors.New("it is not known yet what there is")
)
