package distribute

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// parcels compiles grants, each of one user with pods in one namespace, for a
// cluster m1.
func parcels(t *testing.T, grants map[string]string) []Parcel {
	t.Helper()
	s := compile.Snapshot{Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Fleet: fleet.New([]fleet.Member{{Name: "m1", Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway}})}
	for user, ns := range grants {
		s.Grants = append(s.Grants, compile.Grant{Namespace: "team", Name: user, Spec: &v1alpha1.AccessGrantSpec{
			Reason:   "test",
			Subjects: []v1alpha1.Subject{{Kind: "User", Name: user}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m1"}},
			Access: []v1alpha1.AccessEntry{{
				Rules:      []v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
				Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(ns)},
			}},
		}})
	}
	out := compile.Grants(s)
	if len(out.Members) == 0 {
		return []Parcel{{Cluster: "m1", Name: compile.WorkPrefix}}
	}
	return ManifestWorks{}.Parcels("m1", out.Members[0].Works)
}

func wrap(t *testing.T, c ManifestWorks, p Parcel, live client.Object) *workv1.ManifestWork {
	t.Helper()
	o, err := c.Wrap(p, live)
	if err != nil {
		t.Fatal(err)
	}
	w := o.(*workv1.ManifestWork)
	w.UID, w.Finalizers = "uid", []string{"agent"}
	w.Generation++
	return w
}

// confirm is what the agent says once it has applied a work.
func confirm(w *workv1.ManifestWork) *workv1.ManifestWork {
	w = w.DeepCopy()
	meta.SetStatusCondition(&w.Status.Conditions, metav1.Condition{
		Type: workv1.WorkApplied, Status: metav1.ConditionTrue, ObservedGeneration: w.Generation, Reason: "AppliedManifestWorkComplete",
	})
	return w
}

func none(string) bool { return false }

// TestExecutor (S11): a work has the executor from its creation, an update keeps
// it, and a work that somebody took it from is not what is wanted.
func TestExecutor(t *testing.T) {
	c := ManifestWorks{Executor: types.NamespacedName{Namespace: "agents", Name: "rbac-only"}}
	want := &workv1.ManifestWorkExecutor{Subject: workv1.ManifestWorkExecutorSubject{
		Type:           workv1.ExecutorSubjectTypeServiceAccount,
		ServiceAccount: &workv1.ManifestWorkSubjectServiceAccount{Namespace: "agents", Name: "rbac-only"},
	}}
	p := parcels(t, map[string]string{"alice": "a"})[0]
	created := wrap(t, c, p, nil)
	if diff := cmp.Diff(want, created.Spec.Executor); diff != "" {
		t.Errorf("created: %s", diff)
	}
	created.Spec.Executor = nil
	if c.Carries(created, p) {
		t.Error("a work without its executor is taken for what is wanted")
	}
	updated := wrap(t, c, p, created)
	if diff := cmp.Diff(want, updated.Spec.Executor); diff != "" {
		t.Errorf("updated: %s", diff)
	}
	if !c.Carries(updated, p) {
		t.Error("the updated work is not what is wanted")
	}
}

func TestCarries(t *testing.T) {
	two := parcels(t, map[string]string{"alice": "a", "bob": "b"})[0]
	cases := map[string]struct {
		reason string
		change func(*workv1.ManifestWork)
		want   bool
	}{
		"AsWrapped": {"What was written is what is wanted.", func(*workv1.ManifestWork) {}, true},
		"KeysInAnotherOrder": {"An API server stores a manifest with its keys sorted.", func(w *workv1.ManifestWork) {
			for i, m := range w.Spec.Workload.Manifests {
				var v map[string]any
				if err := json.Unmarshal(m.Raw, &v); err != nil {
					t.Fatal(err)
				}
				w.Spec.Workload.Manifests[i].Raw, _ = json.Marshal(v)
			}
		}, true},
		"ForeignAnnotation": {"Others may annotate a work.", func(w *workv1.ManifestWork) { w.Annotations["example.com/x"] = "y" }, true},
		"ManifestChanged":   {"Drift in a manifest is seen.", func(w *workv1.ManifestWork) { w.Spec.Workload.Manifests[0].Raw = []byte(`{}`) }, false},
		"ManifestRemoved":   {"A manifest that is gone is seen.", func(w *workv1.ManifestWork) { w.Spec.Workload.Manifests = w.Spec.Workload.Manifests[1:] }, false},
		"LabelRemoved":      {"A work without its label would be forgotten.", func(w *workv1.ManifestWork) { delete(w.Labels, v1alpha1.ManagedByLabel) }, false},
		"LabelAdded":        {"Labels are exactly Sallyport's.", func(w *workv1.ManifestWork) { w.Labels["x"] = "y" }, false},
		"Orphaning": {"A work that would leave its objects behind is not wanted.", func(w *workv1.ManifestWork) {
			w.Spec.DeleteOption.PropagationPolicy = workv1.DeletePropagationPolicyTypeOrphan
		}, false},
		"UpdateStrategy": {"A work that would never overwrite drift is not wanted.", func(w *workv1.ManifestWork) {
			w.Spec.ManifestConfigs[0].UpdateStrategy.Type = workv1.UpdateStrategyTypeCreateOnly
		}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := wrap(t, ManifestWorks{}, two, nil)
			c.change(w)
			if got := (ManifestWorks{}).Carries(w, two); got != c.want {
				t.Errorf("%s\ngot %t", c.reason, got)
			}
		})
	}
}

// TestResidual: what an update takes away is written down with it, is added up
// while nobody confirms, and counts for nothing once the member has confirmed.
func TestResidual(t *testing.T) {
	alice, bob, carol := compile.GrantLabel("team/alice"), compile.GrantLabel("team/bob"), compile.GrantLabel("team/carol")
	all := confirm(wrap(t, ManifestWorks{}, parcels(t, map[string]string{"alice": "a", "bob": "b", "carol": "c"})[0], nil))
	holds := func(w *workv1.ManifestWork) map[string]bool {
		s := (ManifestWorks{}).Standing(w)
		return map[string]bool{"alice": s.MayHold(alice), "bob": s.MayHold(bob), "carol": s.MayHold(carol)}
	}
	check := func(when string, w *workv1.ManifestWork, want map[string]bool) {
		t.Helper()
		if diff := cmp.Diff(want, holds(w)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("all", all, map[string]bool{"alice": true, "bob": true, "carol": true})
	first := wrap(t, ManifestWorks{}, parcels(t, map[string]string{"bob": "b", "carol": "c"})[0], all)
	check("alice was taken out, unconfirmed", first, map[string]bool{"alice": true, "bob": true, "carol": true})
	check("alice was taken out, confirmed", confirm(first), map[string]bool{"alice": false, "bob": true, "carol": true})
	second := wrap(t, ManifestWorks{}, parcels(t, map[string]string{"carol": "c"})[0], first)
	check("bob was taken out as well, neither confirmed", second, map[string]bool{"alice": true, "bob": true, "carol": true})
	check("both confirmed", confirm(second), map[string]bool{"alice": false, "bob": false, "carol": true})
	third := wrap(t, ManifestWorks{}, parcels(t, map[string]string{"alice": "a", "carol": "c"})[0], second)
	check("alice came back before bob was confirmed", confirm(third), map[string]bool{"alice": true, "bob": false, "carol": true})
	if s := (ManifestWorks{}).Standing(third); s.Confirmed {
		t.Error("a work that nobody reported on is taken for confirmed")
	}
}

func TestRetire(t *testing.T) {
	both := parcels(t, map[string]string{"alice": "a", "bob": "b"})[0]
	one := parcels(t, map[string]string{"bob": "b"})[0]
	live := wrap(t, ManifestWorks{}, both, nil)
	ids := func(objects []*compile.Object) (out []string) {
		for _, o := range objects {
			out = append(out, o.ID())
		}
		return out
	}
	binding := ""
	for _, o := range both.Objects {
		if o.Namespace == "a" {
			binding = o.ID()
		}
	}
	retired := (ManifestWorks{}).Retire(live, one, none, false)
	if diff := cmp.Diff([]string{binding}, ids(retired)); diff != "" {
		t.Fatalf("what is no longer wanted: %s", diff)
	}
	var empty map[string]any
	if err := json.Unmarshal(retired[0].JSON, &empty); err != nil {
		t.Fatal(err)
	}
	if subjects, ok := empty["subjects"].([]any); !ok || len(subjects) != 0 || empty["roleRef"] == nil {
		t.Errorf("it is not emptied: %s", retired[0].JSON)
	}
	if got := (ManifestWorks{}).Retire(live, one, func(id string) bool { return id == binding }, false); len(got) != 0 {
		t.Errorf("what another work wants is retired: %v", ids(got))
	}
	if got := (ManifestWorks{}).Retire(live, one, none, true); len(got) != 1 {
		t.Error("what still gives something was taken out at once, since the work was settled")
	}
	emptied := one
	emptied.Objects = append(append([]*compile.Object{}, one.Objects...), retired...)
	then := wrap(t, ManifestWorks{}, emptied, live)
	if got := (ManifestWorks{}).Retire(then, one, none, false); len(got) != 1 {
		t.Error("an emptied object was taken out before the work was settled")
	}
	if got := (ManifestWorks{}).Retire(then, one, none, true); len(got) != 0 {
		t.Error("an emptied object stays for ever")
	}
	missing := live.DeepCopy()
	meta.SetStatusCondition(&missing.Status.Conditions, metav1.Condition{Type: workv1.WorkApplied, Status: metav1.ConditionFalse, ObservedGeneration: missing.Generation, Reason: "Failed"})
	missing.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{{
		ResourceMeta: workv1.ManifestResourceMeta{Kind: retired[0].Kind, Namespace: "a", Name: retired[0].Name},
		Conditions:   []metav1.Condition{{Type: workv1.ManifestApplied, Status: metav1.ConditionFalse, Message: `Failed to apply manifest: namespaces "a" not found`}},
	}}
	if got := (ManifestWorks{}).Retire(missing, one, none, false); len(got) != 0 {
		t.Error("what cannot exist, for want of its namespace, is emptied, which fails for ever")
	}
	missing.Generation++
	if got := (ManifestWorks{}).Retire(missing, one, none, false); len(got) != 1 {
		t.Error("an old report is taken for proof that nothing exists")
	}
	live.Finalizers = nil
	if got := (ManifestWorks{}).Retire(live, one, none, false); len(got) != 0 {
		t.Error("something is retired of a work that no agent ever saw")
	}
}

func TestManifestFailures(t *testing.T) {
	p := parcels(t, map[string]string{"alice": "a", "bob": "b"})[0]
	w := wrap(t, ManifestWorks{}, p, nil)
	meta.SetStatusCondition(&w.Status.Conditions, metav1.Condition{Type: workv1.WorkApplied, Status: metav1.ConditionFalse, ObservedGeneration: w.Generation, Reason: "Failed"})
	for i, o := range p.Objects {
		m := workv1.ManifestCondition{ResourceMeta: workv1.ManifestResourceMeta{Ordinal: int32(i), Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}}
		status := metav1.ConditionTrue
		if o.Namespace == "a" {
			status = metav1.ConditionFalse
		}
		meta.SetStatusCondition(&m.Conditions, metav1.Condition{Type: workv1.ManifestApplied, Status: status, Reason: "x", Message: `namespaces "a" not found`})
		w.Status.ResourceStatus.Manifests = append(w.Status.ResourceStatus.Manifests, m)
	}
	s := (ManifestWorks{}).Standing(w)
	if len(s.Failures) != 1 || s.Failures[0].Message != `namespaces "a" not found` {
		t.Fatalf("the failures are %+v", s.Failures)
	}
	f := s.Failures[0].Grants
	if !f.Has(compile.GrantLabel("team/alice")) || f.Has(compile.GrantLabel("team/bob")) {
		t.Error("the failure does not come back to the grant that owns the manifest, and to it alone")
	}
}

// TestEmptiedFails: while an object that was emptied cannot be applied, what a grant
// lost may still stand, and the grant is not done.
func TestEmptiedFails(t *testing.T) {
	both := parcels(t, map[string]string{"alice": "a", "bob": "b"})[0]
	one := parcels(t, map[string]string{"bob": "b"})[0]
	live := wrap(t, ManifestWorks{}, both, nil)
	retired := (ManifestWorks{}).Retire(live, one, none, false)
	one.Objects = append(append([]*compile.Object{}, one.Objects...), retired...)
	w := wrap(t, ManifestWorks{}, one, live)
	meta.SetStatusCondition(&w.Status.Conditions, metav1.Condition{Type: workv1.WorkApplied, Status: metav1.ConditionFalse, ObservedGeneration: w.Generation, Reason: "Failed"})
	w.Status.ResourceStatus.Manifests = []workv1.ManifestCondition{{
		ResourceMeta: workv1.ManifestResourceMeta{Ordinal: int32(len(one.Objects) - 1), Kind: retired[0].Kind, Namespace: "a", Name: retired[0].Name},
		Conditions:   []metav1.Condition{{Type: workv1.ManifestApplied, Status: metav1.ConditionFalse, Message: "not allowed"}},
	}}
	s := (ManifestWorks{}).Standing(w)
	if len(s.Failures) != 1 || !s.Failures[0].Grants.Has(compile.GrantLabel("team/bob")) {
		t.Errorf("the failure is nobody's: %+v", s.Failures)
	}
	if !s.MayHold(compile.GrantLabel("team/alice")) {
		t.Error("alice's access is taken for gone")
	}
}
