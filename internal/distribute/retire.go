package distribute

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// Retire implements Carrier: what a work no longer wants is first emptied, a role
// of its rules and a binding of its subjects, and taken out of the work only after
// the member has held the empty object for a while (settled).
//
// The work agent deletes what it remembers having applied, and it remembers only
// after it has reported: if a work changes in between, an object that is taken out
// of it stays on the member for good. Emptied first, what may stay gives nothing;
// and by the time it is taken out the agent has remembered it.
func (ManifestWorks) Retire(live client.Object, p Parcel, wanted func(id string) bool, settled bool) []*compile.Object {
	w := live.(*workv1.ManifestWork)
	if len(w.Finalizers) == 0 {
		return nil // no agent has ever touched it
	}
	kept := make(map[string]bool, len(p.Objects))
	for _, o := range p.Objects {
		kept[o.ID()] = true
	}
	nowhere := withoutNamespace(w)
	var out []*compile.Object
	for _, m := range w.Spec.Workload.Manifests {
		o, empty := emptied(m.Raw)
		if o == nil || kept[o.ID()] || wanted(o.ID()) || nowhere[o.ID()] || empty && settled {
			continue
		}
		out = append(out, o)
	}
	return out
}

// withoutNamespace are the objects of which the member says, of this generation,
// that their namespace does not exist: they do not exist either, and emptying
// them would fail for ever.
func withoutNamespace(w *workv1.ManifestWork) map[string]bool {
	out := map[string]bool{}
	if applied := meta.FindStatusCondition(w.Status.Conditions, workv1.WorkApplied); applied == nil || applied.ObservedGeneration != w.Generation {
		return out
	}
	for i := range w.Status.ResourceStatus.Manifests {
		m := &w.Status.ResourceStatus.Manifests[i]
		cond := meta.FindStatusCondition(m.Conditions, workv1.ManifestApplied)
		if cond != nil && cond.Status == metav1.ConditionFalse && strings.Contains(cond.Message, fmt.Sprintf("namespaces %q not found", m.ResourceMeta.Namespace)) {
			o := compile.Object{Kind: m.ResourceMeta.Kind, Namespace: m.ResourceMeta.Namespace, Name: m.ResourceMeta.Name}
			out[o.ID()] = true
		}
	}
	return out
}

// emptied is a manifest without what it gives, and whether it gave nothing before.
// Nil for a manifest that is no RBAC object.
func emptied(raw []byte) (*compile.Object, bool) {
	var m struct {
		manifestMeta
		RoleRef  json.RawMessage   `json:"roleRef"`
		Rules    []json.RawMessage `json:"rules"`
		Subjects []json.RawMessage `json:"subjects"`
	}
	if json.Unmarshal(raw, &m) != nil || rbacResources[m.Kind] == "" {
		return nil, false
	}
	metadata := map[string]any{"name": m.Metadata.Name, "labels": map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}}
	if m.Metadata.Namespace != "" {
		metadata["namespace"] = m.Metadata.Namespace
	}
	object := map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": m.Kind, "metadata": metadata}
	// Lists that are there and empty, not absent: only so does an apply take away
	// what somebody else put into them.
	if m.RoleRef != nil {
		object["roleRef"], object["subjects"] = m.RoleRef, []any{}
	} else {
		object["rules"] = []any{}
	}
	out, err := json.Marshal(object)
	if err != nil {
		return nil, false
	}
	return &compile.Object{Kind: m.Kind, Namespace: m.Metadata.Namespace, Name: m.Metadata.Name, JSON: out}, len(m.Rules)+len(m.Subjects) == 0
}

// Retire implements Carrier: a Work carries one object, and goes with it.
func (KarmadaWorks) Retire(client.Object, Parcel, func(string) bool, bool) []*compile.Object {
	return nil
}

// Retire implements Carrier: the agent keeps its own account of what may stand.
func (Direct) Retire(client.Object, Parcel, func(string) bool, bool) []*compile.Object { return nil }
