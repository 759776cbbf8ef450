package distribute

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// KarmadaWorkKind is Karmada's Work.
var KarmadaWorkKind = schema.GroupVersionKind{Group: "work.karmada.io", Version: "v1alpha1", Kind: "Work"}

const (
	// executionSpace begins the namespace from which Karmada reads the works of a
	// cluster.
	executionSpace = "karmada-es-"
	karmadaPrefix  = "sallyport-"
	// executionFinalizer makes Karmada remove the object from the member before a
	// Work goes. Whoever creates a Work has to set it.
	executionFinalizer = "karmada.io/execution-controller"
)

// What a manifest must say of itself, or Karmada neglects it and says nothing.
const (
	// managedLabel, or Karmada neither changes nor removes the object.
	managedLabel = "karmada.io/managed"
	// workNamespaceAnnotation and workNameAnnotation, or Karmada does not put right
	// what somebody changes on the member.
	workNamespaceAnnotation = "work.karmada.io/namespace"
	workNameAnnotation      = "work.karmada.io/name"
	// managedLabelsAnnotation and managedAnnotationsAnnotation list keys that
	// Karmada takes from the object when the manifest has them no more. It keeps
	// all others that it finds on the member.
	managedLabelsAnnotation      = "resourcetemplate.karmada.io/managed-labels"
	managedAnnotationsAnnotation = "resourcetemplate.karmada.io/managed-annotations"
)

// aggregationLabels would add a role to one of Kubernetes' own. A manifest never
// has them; to list them has Karmada take them away.
var aggregationLabels = []string{
	"rbac.authorization.k8s.io/aggregate-to-admin",
	"rbac.authorization.k8s.io/aggregate-to-edit",
	"rbac.authorization.k8s.io/aggregate-to-view",
}

// KarmadaWorks delivers by Karmada.
//
// What somebody changes on a member Karmada puts right at once. What somebody
// deletes there it brings back only for Works with names of its own making, which
// end in a hash of 32 bits: a tenant could find two objects of one name, so they
// are not used here. Such an object comes back when its Work changes or Karmada's
// controller starts.
//
// Karmada's Applied condition carries no generation, and stays True while a change
// of the Work has yet to arrive, or cannot. So the condition is withdrawn before a
// Work is changed: see Withdraw. The removal of an object is confirmed by the
// finalizer.
type KarmadaWorks struct{}

var (
	_ Carrier    = KarmadaWorks{}
	_ Withdrawer = KarmadaWorks{}
)

// Empty implements Carrier.
func (KarmadaWorks) Empty() (client.Object, client.ObjectList) {
	one, many := &unstructured.Unstructured{}, &unstructured.UnstructuredList{}
	one.SetGroupVersionKind(KarmadaWorkKind)
	many.SetGroupVersionKind(KarmadaWorkKind.GroupVersion().WithKind("WorkList"))
	return one, many
}

// Owns implements Carrier.
func (KarmadaWorks) Owns(o client.Object) bool {
	return strings.HasPrefix(o.GetName(), karmadaPrefix) && strings.HasPrefix(o.GetNamespace(), executionSpace)
}

// Parcels implements Carrier: one per object.
func (KarmadaWorks) Parcels(cluster string, works []*compile.Work) []Parcel {
	var out []Parcel
	for _, w := range works {
		for _, o := range w.Objects {
			out = append(out, Parcel{
				Cluster: cluster, Name: karmadaPrefix + strings.ToLower(o.Kind) + "-" + compile.Digest(o.Kind+"/"+o.Namespace+"/"+o.Name),
				Objects: []*compile.Object{o}, Grants: o.Grants, Sources: o.Sources, Of: o,
			})
		}
	}
	return out
}

// Key implements Carrier.
func (KarmadaWorks) Key(p Parcel) client.ObjectKey {
	return client.ObjectKey{Namespace: executionSpace + p.Cluster, Name: p.Name}
}

// Wrap implements Carrier.
func (c KarmadaWorks) Wrap(p Parcel, live client.Object) (client.Object, error) {
	o, _ := c.Empty()
	w := o.(*unstructured.Unstructured)
	var before *Standing
	if live != nil {
		w = live.(*unstructured.Unstructured).DeepCopy()
		s := c.Standing(live)
		before = &s
	} else {
		key := c.Key(p)
		w.SetNamespace(key.Namespace)
		w.SetName(key.Name)
	}
	controllerutil.AddFinalizer(w, executionFinalizer)
	describe(w, p, before, nil)
	manifests := make([]any, 0, len(p.Objects))
	for _, o := range p.Objects {
		m, err := karmadaManifest(o, c.Key(p))
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m.Object)
	}
	if live != nil && withdrawnOnly(w) && c.sameManifests(w, p) {
		// Karmada acts on a change only, so there has to be one.
		for _, m := range manifests {
			if err := unstructured.SetNestedField(m.(map[string]any), strconv.FormatInt(w.GetGeneration(), 10), "metadata", "annotations", againAnnotation); err != nil {
				return nil, fmt.Errorf("cannot fill Work %q: %w", w.GetName(), err)
			}
		}
	}
	if err := unstructured.SetNestedSlice(w.Object, manifests, "spec", "workload", "manifests"); err != nil {
		return nil, fmt.Errorf("cannot fill Work %q: %w", w.GetName(), err)
	}
	return w, nil
}

const (
	appliedCondition = "Applied"
	// withdrawnReason is that of an Applied condition of which Sallyport has made
	// Unknown, with the generation that it was of.
	withdrawnReason = "SallyportChanges"
	// againAnnotation is in a manifest that Karmada is to apply once more.
	againAnnotation = "access.sallyport.dev/again"
)

// Withdraw implements Withdrawer.
func (KarmadaWorks) Withdraw(live, want client.Object) client.Object {
	w, ok := live.(*unstructured.Unstructured)
	if !ok || reflect.DeepEqual(w.Object["spec"], want.(*unstructured.Unstructured).Object["spec"]) {
		return nil // of what does not change, the condition holds
	}
	w = w.DeepCopy()
	conditions, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == appliedCondition && c["status"] != "Unknown" {
			c["status"], c["reason"], c["observedGeneration"] = "Unknown", withdrawnReason, w.GetGeneration()
			c["message"] = "Sallyport changes the Work, and Karmada has yet to apply it"
			if unstructured.SetNestedSlice(w.Object, conditions, "status", "conditions") != nil {
				return nil
			}
			return w
		}
	}
	return nil
}

// withdrawnOnly reports whether the change for which the condition was withdrawn
// was never made, since the controller was killed in between.
func withdrawnOnly(w *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == appliedCondition {
			of, _ := c["observedGeneration"].(int64)
			return c["reason"] == withdrawnReason && of == w.GetGeneration()
		}
	}
	return false
}

// Carries implements Carrier.
func (c KarmadaWorks) Carries(live client.Object, p Parcel) bool {
	w := live.(*unstructured.Unstructured)
	if !described(w, p, nil) || !controllerutil.ContainsFinalizer(w, executionFinalizer) {
		return false
	}
	for _, held := range []string{"suspendDispatching", "preserveResourcesOnDeletion"} {
		if on, _, _ := unstructured.NestedBool(w.Object, "spec", held); on {
			return false
		}
	}
	return !withdrawnOnly(w) && c.sameManifests(w, p)
}

// sameManifests reports whether a Work has the manifests of a parcel.
func (c KarmadaWorks) sameManifests(w *unstructured.Unstructured, p Parcel) bool {
	stored, _, err := unstructured.NestedSlice(w.Object, "spec", "workload", "manifests")
	if err != nil || len(stored) != len(p.Objects) {
		return false
	}
	for i, o := range p.Objects {
		have, ok := stored[i].(map[string]any)
		if !ok {
			return false
		}
		unstructured.RemoveNestedField(have, "metadata", "annotations", againAnnotation)
		want, err := karmadaManifest(o, c.Key(p))
		if err != nil || !reflect.DeepEqual(have, want.Object) {
			return false
		}
	}
	return true
}

// karmadaManifest is an object as Karmada has to have it to look after it.
func karmadaManifest(o *compile.Object, work client.ObjectKey) (*unstructured.Unstructured, error) {
	m := &unstructured.Unstructured{}
	if err := json.Unmarshal(o.JSON, &m.Object); err != nil {
		return nil, fmt.Errorf("cannot read manifest %s %q: %w", o.Kind, o.Name, err)
	}
	labels, annotations := m.GetLabels(), m.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels[managedLabel] = "true"
	m.SetLabels(labels)
	annotations[workNamespaceAnnotation], annotations[workNameAnnotation] = work.Namespace, work.Name
	annotations[managedLabelsAnnotation] = strings.Join(slices.Sorted(maps.Keys(labels)), ",") + "," + strings.Join(aggregationLabels, ",")
	annotations[managedAnnotationsAnnotation] = ""
	annotations[managedAnnotationsAnnotation] = strings.Join(slices.Sorted(maps.Keys(annotations)), ",")
	m.SetAnnotations(annotations)
	return m, nil
}

func karmadaManifests(w *unstructured.Unstructured) [][]byte {
	// A Work of another shape has no manifests, and is then not what is wanted.
	manifests, _, err := unstructured.NestedSlice(w.Object, "spec", "workload", "manifests")
	if err != nil {
		return nil
	}
	out := make([][]byte, 0, len(manifests))
	for _, m := range manifests {
		raw, err := json.Marshal(m)
		if err != nil {
			return nil
		}
		out = append(out, raw)
	}
	return out
}

// Standing implements Carrier.
func (KarmadaWorks) Standing(live client.Object) Standing {
	w := live.(*unstructured.Unstructured)
	s := Standing{
		Cluster: strings.TrimPrefix(w.GetNamespace(), executionSpace), Grants: LabelsOf(w.GetLabels()),
		Residual: residualOf(w.GetAnnotations()), Deleting: !w.GetDeletionTimestamp().IsZero(),
	}
	conditions, _, err := unstructured.NestedSlice(w.Object, "status", "conditions")
	if err != nil {
		return s
	}
	for _, c := range conditions {
		cond, ok := c.(map[string]any)
		if !ok || cond["type"] != appliedCondition {
			continue
		}
		switch cond["status"] {
		case "True":
			s.Confirmed = !s.Deleting
		case "False":
			message, _ := cond["message"].(string)
			f := Failure{Grants: s.Grants, Message: message}
			if m := karmadaManifests(w); len(m) == 1 {
				f.Object = readMeta(m[0]).String()
			}
			s.Failures = []Failure{f}
		}
	}
	if s.Confirmed {
		s.Residual = Labels{}
	}
	return s
}
