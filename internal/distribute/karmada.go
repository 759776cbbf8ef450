package distribute

import (
	"encoding/json"
	"fmt"
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

// KarmadaWorks delivers by Karmada.
//
// Karmada's Applied condition carries no generation. A narrowed object therefore
// counts as confirmed while the condition still speaks of the object as it was
// before; the removal of an object is confirmed by the finalizer and is exact.
type KarmadaWorks struct{}

var _ Carrier = KarmadaWorks{}

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
		var m map[string]any
		if err := json.Unmarshal(o.JSON, &m); err != nil {
			return nil, fmt.Errorf("cannot read manifest %s %q: %w", o.Kind, o.Name, err)
		}
		manifests = append(manifests, m)
	}
	if err := unstructured.SetNestedSlice(w.Object, manifests, "spec", "workload", "manifests"); err != nil {
		return nil, fmt.Errorf("cannot fill Work %q: %w", w.GetName(), err)
	}
	return w, nil
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
	return sameManifests(karmadaManifests(w), p.Objects)
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
		if !ok || cond["type"] != "Applied" {
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
