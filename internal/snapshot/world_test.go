package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// known is an inventory that is always read.
type known []fleet.Member

func (k known) Fleet(context.Context) (*fleet.Fleet, []inventory.Problem, error) {
	return fleet.New(k), nil, nil
}

func (k known) Placements(context.Context) (map[types.NamespacedName][]string, error) {
	return map[types.NamespacedName][]string{}, nil
}

// undecided are guardrails that cannot be evaluated.
var undecided = &guardrail.Guardrail{Name: "g", Enforcement: v1alpha1.EnforcementDeny, Points: guardrail.GrantPoints}

// TestWorld: what each grant gives, by cluster, of what is read of a hub.
func TestWorld(t *testing.T) {
	member := func(name, env string) fleet.Member {
		return fleet.Member{Name: name, Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway, Labels: map[string]string{"env": env}}
	}
	inventory := known{member("a", "prod"), member("b", "prod"), member("c", "dev")}
	// grant on what is labelled prod.
	grant := func(change ...func(*v1alpha1.AccessGrant)) *v1alpha1.AccessGrant {
		g := &v1alpha1.AccessGrant{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "g", UID: "1", Generation: 2, Finalizers: []string{v1alpha1.AccessGrantFinalizer}},
			Spec:       *aGrant("g", nil).Spec,
		}
		g.Spec.Clusters = v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}}
		for _, c := range change {
			c(g)
		}
		return g
	}
	deleting := func(g *v1alpha1.AccessGrant) { g.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)} }
	foreign := func(g *v1alpha1.AccessGrant) { g.Finalizers = []string{"example.org/other"} }
	suspended := func(g *v1alpha1.AccessGrant) { g.Spec.Suspend = true }
	applied := func(g *v1alpha1.AccessGrant) {
		g.Status.ObservedGeneration = 1
		g.Status.Applied = &runtime.RawExtension{Raw: []byte(`{"reason":"r","subjects":[{"kind":"User","name":"bob"}],"clusters":{"names":["a","c"]},
			"access":[{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}]}`)}
	}
	refused := func(g *v1alpha1.AccessGrant) {
		g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCompliant, Status: metav1.ConditionFalse}}
	}
	// opening is a role on the hub because of the grant.
	opening := func(name string, clusters ...string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{compile.GrantLabel("team/g"): "team", v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"proxy.sallyport.dev"}, Resources: []string{"clusters/proxy"}, Verbs: []string{"get"}, ResourceNames: clusters}},
		}
	}
	const hub = compile.HubPrefix + "user:bob"

	cases := map[string]struct {
		reason    string
		objects   []client.Object
		guardrail *guardrail.Guardrail
		want      map[string][]string // by subject
	}{
		"Active":     {reason: "A grant gives what it selects.", objects: []client.Object{grant()}, want: map[string][]string{"alice": {"a", "b"}}},
		"Deleting":   {reason: "S27: one that is being deleted gives nothing, however long it takes.", objects: []client.Object{grant(deleting), opening(hub, "a")}},
		"NotAdopted": {reason: "One that the controller has not adopted could vanish without a trace.", objects: []client.Object{grant(foreign)}},
		"Suspended": {
			reason:  "A suspended grant holds what was applied, where the hub is open because of it and it still selects.",
			objects: []client.Object{grant(suspended, applied), opening(hub, "a", "b")}, want: map[string][]string{"bob": {"a"}},
		},
		"SuspendedNowhere": {reason: "Of what stands nowhere nothing is held.", objects: []client.Object{grant(suspended, applied)}},
		"SuspendedOnMember": {
			reason:  "A role of that label that is not the hub's own says nothing: the hub may be a member.",
			objects: []client.Object{grant(suspended, applied), opening("sallyport:rules:x", "a")},
		},
		"SuspendedRefused": {reason: "What was refused is not held.", objects: []client.Object{grant(suspended, refused), opening(hub, "a")}},
		"SuspendedUnknown": {
			reason:  "What was applied may be too large for the status.",
			objects: []client.Object{grant(suspended), opening(hub, "a", "c")}, want: map[string][]string{"alice": {"a"}},
		},
		"Undecided": {
			reason:  "Of a grant that cannot be judged, what stands is left, and what it still gives: alice was never judged.",
			objects: []client.Object{grant(applied), opening(hub, "a")}, guardrail: undecided,
		},
		"UndecidedStands": {
			reason: "And where it stands.",
			objects: []client.Object{grant(applied, func(g *v1alpha1.AccessGrant) {
				g.Spec.Subjects = append(g.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "bob"})
			}), opening(hub, "a", "c")},
			guardrail: undecided, want: map[string][]string{"bob": {"a"}},
		},
		"UndecidedNew": {reason: "S26: a new grant waits until it is judged.", objects: []client.Object{grant()}, guardrail: undecided},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			scheme, err := Scheme()
			if err != nil {
				t.Fatal(err)
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tc.objects...).
				WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}).Build()
			var guardrails []*guardrail.Guardrail
			if tc.guardrail != nil {
				guardrails = append(guardrails, tc.guardrail)
			}
			w := &world{cache: c, live: c, inventory: inventory, policy: inForce{guardrail.NewSet(guardrails, nil, guardrail.Options{})}}
			s, err := w.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Now = noon
			if diff := cmp.Diff(tc.want, gives(s)); diff != "" {
				t.Errorf("%s\n%s", tc.reason, diff)
			}
		})
	}
}

// inForce are guardrails that are always read.
type inForce struct{ set *guardrail.Set }

func (p inForce) Live(context.Context) (*guardrail.Set, error) { return p.set, nil }

// gives are the clusters on which anything is given, by the name of the subject.
func gives(s compile.Snapshot) map[string][]string {
	var e compile.Effects
	given, _ := e.Of(s)
	var out map[string][]string
	for _, g := range given {
		for _, sub := range g.Subjects {
			for _, i := range g.Clusters {
				if out == nil {
					out = map[string][]string{}
				}
				out[sub.Name] = append(out[sub.Name], e.Cluster(i).Name)
			}
		}
	}
	return out
}

func TestSourceOf(t *testing.T) {
	flux := map[string]string{kustomizeName: "access", kustomizeNamespace: "flux-system"}
	recorded := func(name string, generation int64) *v1alpha1.GrantSource {
		return &v1alpha1.GrantSource{Kind: "Kustomization", Namespace: "flux-system", Name: name, Revision: "main@sha1:1", Generation: generation}
	}
	cases := map[string]struct {
		reason  string
		labels  map[string]string
		was     *v1alpha1.GrantSource
		suspend bool
		want    string
	}{
		"Nobody":    {reason: "Applied by hand, whatever applied it once.", was: recorded("access", 2)},
		"Recorded":  {reason: "The controller knows the commit.", labels: flux, was: recorded("access", 2), want: "Kustomization flux-system/access@main@sha1:1"},
		"NotYet":    {reason: "Of this generation it does not know it yet.", labels: flux, was: recorded("access", 1), want: "Kustomization flux-system/access"},
		"TakenOver": {reason: "The commit is another's.", labels: flux, was: recorded("other", 2), want: "Kustomization flux-system/access"},
		"Suspended": {reason: "What stands comes from where it was applied from.", labels: flux, was: recorded("other", 1), suspend: true, want: "Kustomization flux-system/other@main@sha1:1"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.AccessGrant{ObjectMeta: metav1.ObjectMeta{Generation: 2, Labels: tc.labels}}
			g.Spec.Suspend, g.Status.Source = tc.suspend, tc.was
			if got := SourceString(SourceOf(g)); got != tc.want {
				t.Errorf("%s Got %q, want %q.", tc.reason, got, tc.want)
			}
		})
	}
}
