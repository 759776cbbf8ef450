package distribute

import (
	"fmt"
	"reflect"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// ManifestWorks delivers by Open Cluster Management.
type ManifestWorks struct {
	// Executor, where named, is the service account on the member with whose
	// rights the work agent applies; else it applies with its own.
	Executor types.NamespacedName
}

var _ Carrier = ManifestWorks{}

// Empty implements Carrier.
func (ManifestWorks) Empty() (client.Object, client.ObjectList) {
	return &workv1.ManifestWork{}, &workv1.ManifestWorkList{}
}

// Owns implements Carrier.
func (ManifestWorks) Owns(o client.Object) bool {
	return strings.HasPrefix(o.GetName(), compile.WorkPrefix)
}

// Parcels implements Carrier: one per work.
func (ManifestWorks) Parcels(cluster string, works []*compile.Work) []Parcel {
	return parcelPerWork(cluster, works)
}

// Key implements Carrier: OCM reads works from the namespace of the cluster.
func (ManifestWorks) Key(p Parcel) client.ObjectKey {
	return client.ObjectKey{Namespace: p.Cluster, Name: p.Name}
}

// Wrap implements Carrier.
func (c ManifestWorks) Wrap(p Parcel, live client.Object) (client.Object, error) {
	w := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: p.Cluster, Name: p.Name}}
	var before *Standing
	if live != nil {
		w = live.(*workv1.ManifestWork).DeepCopy()
		s := c.Standing(live)
		before = &s
	}
	describe(w, p, before, nil)
	w.Spec = c.spec(p)
	return w, nil
}

func (c ManifestWorks) spec(p Parcel) workv1.ManifestWorkSpec {
	spec := workv1.ManifestWorkSpec{
		Workload:     workv1.ManifestsTemplate{Manifests: make([]workv1.Manifest, 0, len(p.Objects))},
		DeleteOption: &workv1.DeleteOption{PropagationPolicy: workv1.DeletePropagationPolicyTypeForeground},
	}
	for _, o := range p.Objects {
		spec.Workload.Manifests = append(spec.Workload.Manifests, workv1.Manifest{RawExtension: runtime.RawExtension{Raw: o.JSON}})
		spec.ManifestConfigs = append(spec.ManifestConfigs, feedback(o))
	}
	if c.Executor.Name != "" {
		spec.Executor = &workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{
			Type:           workv1.ExecutorSubjectTypeServiceAccount,
			ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: c.Executor.Namespace, Name: c.Executor.Name},
		}}
	}
	return spec
}

// versionFeedback is the feedback by which the hub learns that somebody changed an
// object on the member: the work agent itself looks only every few minutes.
const versionFeedback = "resourceVersion"

// agentFieldManager is Sallyport's name on members; OCM asks for the prefix.
const agentFieldManager = "work-agent-sallyport"

var rbacResources = map[string]string{
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"Role": "roles", "RoleBinding": "rolebindings",
}

func feedback(o *compile.Object) workv1.ManifestConfigOption {
	return workv1.ManifestConfigOption{
		ResourceIdentifier: workv1.ResourceIdentifier{
			Group: rbacv1.GroupName, Resource: rbacResources[o.Kind], Namespace: o.Namespace, Name: o.Name,
		},
		// By server-side apply, so that a label or subject which is no longer
		// wanted goes: the agent's default only ever adds labels.
		UpdateStrategy: &workv1.UpdateStrategy{
			Type:            workv1.UpdateStrategyTypeServerSideApply,
			ServerSideApply: &workv1.ServerSideApplyConfig{Force: true, FieldManager: agentFieldManager},
		},
		FeedbackRules: []workv1.FeedbackRule{{
			Type:      workv1.JSONPathsType,
			JsonPaths: []workv1.JsonPath{{Name: versionFeedback, Path: ".metadata.resourceVersion"}},
		}},
	}
}

// Carries implements Carrier.
func (c ManifestWorks) Carries(live client.Object, p Parcel) bool {
	w := live.(*workv1.ManifestWork)
	if !described(w, p, nil) {
		return false
	}
	want := c.spec(p)
	stored := make([][]byte, 0, len(w.Spec.Workload.Manifests))
	for _, m := range w.Spec.Workload.Manifests {
		stored = append(stored, m.Raw)
	}
	if !sameManifests(stored, p.Objects) {
		return false
	}
	want.Workload = w.Spec.Workload
	return reflect.DeepEqual(want, w.Spec)
}

// Standing implements Carrier. The member has confirmed when the work agent says
// Applied of the work's current generation.
func (ManifestWorks) Standing(live client.Object) Standing {
	w := live.(*workv1.ManifestWork)
	s := Standing{
		Cluster: w.Namespace, Grants: LabelsOf(w.Labels), Residual: residualOf(w.Annotations),
		Deleting: !w.DeletionTimestamp.IsZero(),
	}
	applied := meta.FindStatusCondition(w.Status.Conditions, workv1.WorkApplied)
	current := applied != nil && applied.ObservedGeneration == w.Generation
	s.Confirmed = current && applied.Status == metav1.ConditionTrue && !s.Deleting
	s.Before = applied != nil && !current && applied.Status == metav1.ConditionTrue && !s.Deleting
	if s.Confirmed {
		s.Residual = Labels{}
	}
	if current && applied.Status != metav1.ConditionTrue {
		s.Failures = manifestFailures(w)
		if len(s.Failures) == 0 {
			s.Failures = []Failure{{Grants: s.Grants, Message: applied.Message}}
		}
	}
	return s
}

func manifestFailures(w *workv1.ManifestWork) []Failure {
	var out []Failure
	for i := range w.Status.ResourceStatus.Manifests {
		m := &w.Status.ResourceStatus.Manifests[i]
		cond := meta.FindStatusCondition(m.Conditions, workv1.ManifestApplied)
		if cond == nil || cond.Status != metav1.ConditionFalse {
			continue
		}
		f := Failure{
			Grants:  LabelsOf(w.Labels),
			Object:  objectString(m.ResourceMeta.Kind, m.ResourceMeta.Namespace, m.ResourceMeta.Name),
			Message: cond.Message,
		}
		if n := int(m.ResourceMeta.Ordinal); n >= 0 && n < len(w.Spec.Workload.Manifests) {
			of := readMeta(w.Spec.Workload.Manifests[n].Raw)
			f.Object = of.String()
			// An emptied object names no grant; its failure is that of all that the
			// work has, since one of them may have lost what still stands.
			if own := LabelsOf(of.Metadata.Labels); own.more || len(own.set) > 0 {
				f.Grants = own
			}
		}
		out = append(out, f)
	}
	return sortedFailures(out)
}

// Versions are the resource versions that the member reports of the objects, by
// object, and whether the member reports on the current generation.
func Versions(w *workv1.ManifestWork) (versions map[string]string, current bool) {
	applied := meta.FindStatusCondition(w.Status.Conditions, workv1.WorkApplied)
	current = applied != nil && applied.ObservedGeneration == w.Generation
	versions = map[string]string{}
	for i := range w.Status.ResourceStatus.Manifests {
		m := &w.Status.ResourceStatus.Manifests[i]
		available := meta.FindStatusCondition(m.Conditions, workv1.ManifestAvailable)
		name := fmt.Sprintf("%s/%s/%s", m.ResourceMeta.Kind, m.ResourceMeta.Namespace, m.ResourceMeta.Name)
		for _, v := range m.StatusFeedbacks.Values {
			if v.Name == versionFeedback && v.Value.String != nil {
				versions[name] = *v.Value.String
			}
		}
		if available != nil && available.Status == metav1.ConditionFalse {
			versions[name] = "gone"
		}
	}
	return versions, current
}
